"""An application with migrations, and tools that misbehave."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flawless.adapters.migrations import Alembic, MigrationCommand, Migrator, Surroundings
from flawless.adapters.migrations.tool import Tool
from flawless.core.clock import SystemClock
from flawless.core.migration import Target
from flawless.core.redaction import Redactor
from flawless.core.secret import Secret

DEPLOY_ID = "20261123T141502Z-3f9c2a"
CANARY = "canary-7f3a9b2c5d8e"

_INI = "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
_ENV = """
import asyncio, os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

async def online():
    url = os.environ["DATABASE_URL"].split("?")[0].replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(online())
"""


class AlembicProject:
    """An Alembic project whose env.py, like most, honours neither PGOPTIONS nor PGAPPNAME."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.versions = directory / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        (directory / "alembic.ini").write_text(_INI)
        (directory / "migrations" / "env.py").write_text(_ENV)

    def add(self, revision: str, after: str | None, *body: str) -> Path:
        """A revision whose upgrade is these lines."""
        lines = "".join(f"    {line}\n" for line in body) or "    pass\n"
        file = self.versions / f"{revision}_step.py"
        file.write_text(
            f"from alembic import op\nrevision: str = {revision!r}\ndown_revision = {after!r}\ndef upgrade():\n{lines}"
        )
        return file


@pytest.fixture
def project(tmp_path: Path) -> AlembicProject:
    directory = tmp_path / "application"
    directory.mkdir()
    return AlembicProject(directory)


@pytest.fixture
def target(database_url: str) -> Target:
    return Target(Secret(database_url), DEPLOY_ID)


@pytest.fixture
def migrator(tmp_path: Path) -> Callable[[Tool], Migrator]:
    """Runs a tool in the application's directory."""

    def build(tool: Tool) -> Migrator:
        directory = tool.directory if isinstance(tool, Alembic) else tmp_path
        environment = {"PATH": os.environ["PATH"], "CANARY": CANARY}
        redactor = Redactor([CANARY])
        return Migrator(tool, Surroundings(directory, environment, tmp_path / ".flawless", redactor, SystemClock()))

    return build


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., MigrationCommand]:
    """A migration tool of one's own: two Python scripts that have `execute(*statements)`."""

    def build(apply: str, pending: str = "") -> MigrationCommand:
        words = tuple(_written(tmp_path / f"{name}.py", body) for name, body in (("up", apply), ("list", pending)))
        return MigrationCommand((sys.executable, words[0]), (sys.executable, words[1]) if pending else ())

    return build


def _written(file: Path, body: str) -> str:
    file.write_text(
        "import asyncio, asyncpg, os, signal, subprocess, sys, time\n"
        "def execute(*statements):\n"
        "    async def run():\n"
        "        connection = await asyncpg.connect(os.environ['DATABASE_URL'])\n"
        "        for statement in statements:\n"
        "            print(*[row[0] for row in await connection.fetch(statement)], sep='\\n', end='')\n"
        "        await connection.close()\n"
        "    asyncio.run(run())\n" + body
    )
    return str(file)
