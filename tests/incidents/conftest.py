"""A book with a database behind it, one without, and failures as reports tell them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flawless.core.check import Passed
from flawless.core.clock import SystemClock
from flawless.core.secret import Secret
from flawless.incidents import IncidentBook
from flawless.incidents.schema import OwnMigrations
from support.postgres import free_port

MakeBook = Callable[..., IncidentBook]


@pytest.fixture
def make_book(tmp_path: Path) -> MakeBook:
    """A book over one outbox folder; `url` is the database's, None for one that is not known."""

    def make(url: str | None = None, *, stack: str = "shop", **more: Any) -> IncidentBook:
        fields: dict[str, Any] = {"redact": lambda tree: tree, "clock": SystemClock(), **more}
        return IncidentBook(tmp_path / "outbox", stack=stack, url=lambda: Secret(url) if url else None, **fields)

    return make


@pytest.fixture
async def migrated_url(database_url: str, anyio_backend: str) -> str:
    """A database with our tables in it."""
    outcome = await OwnMigrations(lambda: Secret(database_url)).ensure_applied("run", lambda _: None)
    assert isinstance(outcome, Passed), outcome
    return database_url


@pytest.fixture
def refused_url() -> str:
    """Where nothing listens."""
    return f"postgresql://nobody@127.0.0.1:{free_port()}/none?sslmode=disable"


def failure(code: str = "DB_REFUSED", cause: str = "nothing accepts connections at 127.0.0.1:5432") -> dict[str, Any]:
    """As in a report."""
    return {
        "phase": "DB_VALIDATE",
        "code": code,
        "cause": cause,
        "evidence": ["ECONNREFUSED"],
        "next_steps": ["start PostgreSQL"],
    }
