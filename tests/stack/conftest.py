"""The board as a person meets it: a browser's client, the frontend, the backend, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from board_backend.app import create_app as create_backend
from board_backend.settings import Settings as BackendSettings
from board_frontend.app import create_app as create_frontend
from board_frontend.settings import Settings as FrontendSettings
from flawless.adapters.postgres import EmbeddedPostgres

STACK = Path(__file__).parents[2] / "stack"
DEPLOY_ID = "20261123T141502Z-3f9c2a"
ADMIN_PASSWORD = "correct-horse-battery"


def alembic(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic as a deploy does: in the backend's folder, the address in the environment."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=STACK / "backend",
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server of the tests' own, without tables."""
    with tempfile.TemporaryDirectory(prefix="board-") as folder:
        # PostgreSQL does not run as root: the user it is given instead must be able to walk in.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder, "state"), database="board", system_folder=Path(folder, "system"))
        try:
            yield asyncio.run(server.ensure_running())
        finally:
            asyncio.run(server.stop())


@pytest.fixture(scope="session")
def migrated_url(postgres_url: str) -> str:
    done = alembic(postgres_url, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return postgres_url


@pytest.fixture
async def database_url(migrated_url: str) -> str:
    """The tables, empty."""
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("TRUNCATE projects, tasks, comments RESTART IDENTITY")
    await connection.close()
    return migrated_url


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nothing listens, and nothing else can begin to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"postgresql://board:canary-password@127.0.0.1:{held.getsockname()[1]}/board"


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that accepts, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://board:canary-password@127.0.0.1:{server.getsockname()[1]}/board"


@asynccontextmanager
async def backend_client(
    url: str, storage: Path, admin_password: str = ADMIN_PASSWORD
) -> AsyncIterator[httpx2.AsyncClient]:
    """The backend in this process, from start to shutdown."""
    settings = BackendSettings(
        port=3001, database_url=url, storage=storage, admin_password=admin_password, deploy_id=DEPLOY_ID
    )
    async with _client(create_backend(settings)) as client:
        yield client


@asynccontextmanager
async def frontend_client(backend: httpx2.AsyncBaseTransport) -> AsyncIterator[httpx2.AsyncClient]:
    """The frontend in this process, with `backend` behind it."""
    settings = FrontendSettings(port=3000, backend_url="http://127.0.0.1:3001", deploy_id=DEPLOY_ID)
    async with _client(create_frontend(settings, backend)) as client:
        yield client


@asynccontextmanager
async def _client(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.app.router.lifespan_context(app.app),
        httpx2.AsyncClient(transport=transport, base_url="http://board.test") as client,
    ):
        yield client


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The backend itself."""
    async with backend_client(database_url, tmp_path) as client:
        yield client


@pytest.fixture
async def browser(api: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    """The frontend, with that backend behind it."""
    async with frontend_client(api._transport) as client:
        yield client
