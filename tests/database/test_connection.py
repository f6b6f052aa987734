"""Opening and leaving, seen from the server's side."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from flawless.core.secret import Secret
from flawless.database.connection import DatabaseUnavailable, connect, session
from support.postgres_faults import PostgresFaults

pytestmark = pytest.mark.anyio

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flawless test' AND datname = current_database()"


async def sessions_of_ours(url: str) -> int:
    watcher = await asyncpg.connect(url)
    try:
        return int(await watcher.fetchval(OURS))
    finally:
        await watcher.close()


async def asked(url: str, limit: float, *statements: str) -> None:
    async with session(Secret(url), limit=limit, application="flawless test") as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_the_server_knows_who_we_are_and_that_we_left(database_url: str) -> None:
    """A session carries our application_name, and is gone from the server when it ends."""
    async with session(Secret(database_url), limit=5, application="flawless test"):
        assert await sessions_of_ours(database_url) == 1
    assert await sessions_of_ours(database_url) == 0


async def test_a_failure_in_use_is_classified(database_url: str) -> None:
    """A question that the server refuses ends the session with its reason."""
    written = "SET default_transaction_read_only = on", "CREATE TABLE t (id int)"
    with pytest.raises(DatabaseUnavailable) as caught:
        await asked(database_url, 5, *written)
    assert caught.value.code == "DB_READ_ONLY"
    assert caught.value.next_steps
    assert await sessions_of_ours(database_url) == 0


async def test_a_question_ends_at_the_limit(database_url: str) -> None:
    """Opening and asking share one limit, and the server is left without us."""
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        await asked(database_url, 0.5, "SELECT pg_sleep(30)")
    assert time.monotonic() - began < 1.0
    assert caught.value.code == "DB_TIMEOUT"


async def test_cancelled_while_opening(postgres_url: str) -> None:
    """Cancelling leaves no task and no connection behind."""
    before = asyncio.all_tasks()
    async with PostgresFaults(postgres_url) as faults:
        faults.silence()
        opening = asyncio.create_task(connect(Secret(faults.url), limit=30, application="flawless test"))
        await faults.until(connections=1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await faults.until_idle()
    assert asyncio.all_tasks() <= before


async def test_the_limit_holds_for_a_silent_port(postgres_url: str) -> None:
    """A port that never answers costs the limit, not more."""
    async with PostgresFaults(postgres_url) as faults:
        faults.silence()
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await connect(Secret(faults.url), limit=0.3, application="flawless test")
        assert 0.25 < time.monotonic() - began < 0.8
