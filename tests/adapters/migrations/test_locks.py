"""FAILURES 22: somebody holds the lock. Who, for how long, and nobody else is stalled."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from flawless.adapters.migrations import MigrationCommand, Migrator
from flawless.adapters.migrations.session import LOCK_KEY
from flawless.adapters.migrations.tool import Tool
from flawless.core.check import Failed
from flawless.core.gate import Waiting
from flawless.core.migration import Applied, Target
from flawless.core.reason import Reason
from support.eventually import eventually
from support.postgres import execute

pytestmark = pytest.mark.anyio
Build = Callable[[Tool], Migrator]
Script = Callable[..., MigrationCommand]

SLACK = 0.8
"""Seconds that a loaded machine may add."""

ALTER = "execute('ALTER TABLE users ADD COLUMN IF NOT EXISTS age int')"
IS_PENDING = (
    "execute(\"SELECT 'add-age' WHERE NOT EXISTS "
    "(SELECT FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'age')\")"
)


@asynccontextmanager
async def session(url: str, application: str, *statements: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"application_name": application})
    try:
        for statement in statements:
            await connection.execute(statement)
        yield connection
    finally:
        await connection.close()


async def longest_stall(url: str, done: asyncio.Task[Applied | Failed]) -> float:
    """How long a bystander's SELECT took at most while the migration went on."""
    longest = 0.0
    async with session(url, "bystander") as connection:
        while not done.done():
            before = time.perf_counter()
            await connection.fetch("SELECT count(*) FROM users")
            longest = max(longest, time.perf_counter() - before)
            await asyncio.wait({done}, timeout=0.02)
    return longest


async def test_a_table_lock_is_named_and_bystanders_are_not_stalled(
    migrator: Build, script: Script, target: Target
) -> None:
    """With a driver that ignores PGOPTIONS the watch cancels in its place; MIGRATE_LOCKED names the holder."""
    url = target.url.reveal()
    await execute(url, "CREATE TABLE users (id int)")
    async with session(url, "nightly-report", "BEGIN", "SELECT count(*) FROM users") as holder:
        applying = asyncio.create_task(migrator(script(ALTER, IS_PENDING)).apply(target, limit=4.5))
        stalled = await longest_stall(url, applying)
        outcome = await applying
        pid = holder.get_server_pid()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_LOCKED
    assert f"held by pid {pid}, application 'nightly-report'" in outcome.evidence[0]
    assert "query: SELECT count(*) FROM users" in outcome.evidence[0]
    assert f"pg_terminate_backend({pid})" in outcome.next_steps[1]
    assert 0.5 < stalled < 1.0 + SLACK
    assert "still pending: add-age" in outcome.evidence


async def test_nobody_elses_session_is_touched(migrator: Build, script: Script, target: Target) -> None:
    """A stranger of the same role on the same machine waits for a lock all the while, and is let be."""
    url = target.url.reveal()
    await execute(url, "CREATE TABLE other (id int)")
    async with (
        session(url, "holder", "BEGIN", "LOCK TABLE other"),
        session(url, "stranger") as stranger,
    ):
        waiting = asyncio.create_task(stranger.execute("SELECT * FROM other"))
        outcome = await migrator(script("execute('SELECT pg_sleep(30)')")).apply(target, limit=3.5)
        assert isinstance(outcome, Failed)
        assert outcome.reason is Reason.MIGRATE_TIMEOUT
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_the_tools_own_lock_timeout_is_understood(migrator: Build, script: Script, target: Target) -> None:
    """A driver that honours PGOPTIONS ends the wait itself; its words say that it was a lock."""
    url = target.url.reveal()
    await execute(url, "CREATE TABLE users (id int)")
    impatient = ALTER.replace("execute(", "execute('SET lock_timeout = 200', ")
    async with session(url, "nightly-report", "BEGIN", "SELECT count(*) FROM users"):
        outcome = await migrator(script(impatient, IS_PENDING)).apply(target, limit=2.6)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_LOCKED
    assert any("canceling statement due to lock timeout" in line for line in outcome.evidence)


async def test_a_lock_that_is_released_in_time_costs_an_attempt_and_no_more(
    migrator: Build, script: Script, target: Target
) -> None:
    """The tool is run again while time is left."""
    url = target.url.reveal()
    await execute(url, "CREATE TABLE users (id int)")
    told = asyncio.Event()

    def on_wait(waiting: Waiting) -> None:
        if isinstance(waiting.last, Failed) and waiting.last.reason is Reason.MIGRATE_LOCKED:
            told.set()

    async with session(url, "nightly-report", "BEGIN", "SELECT count(*) FROM users"):
        applying = asyncio.create_task(migrator(script(ALTER, IS_PENDING)).apply(target, limit=30, on_wait=on_wait))
        async with asyncio.timeout(10):
            await told.wait()
    outcome = await applying
    assert isinstance(outcome, Applied), outcome
    assert outcome.applied == ("add-age",)
    assert outcome.attempts >= 2


async def test_the_migration_lock_of_a_live_deploy_is_named(migrator: Build, script: Script, target: Target) -> None:
    """MIGRATE_LOCKED with pid, application and age; the tool is not run."""
    async with session(target.url.reveal(), "flawless deploy 20261123T140255Z-abc123") as other:
        await other.execute(f"SELECT pg_advisory_lock({LOCK_KEY})")
        outcome = await migrator(script("raise SystemExit(9)")).apply(target, limit=0.5)
        pid = other.get_server_pid()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_LOCKED
    assert not outcome.is_permanent
    sentence = outcome.evidence[0]
    assert f"held by pid {pid}, application 'flawless deploy 20261123T140255Z-abc123'" in sentence
    assert "(your own deploy of 14:02 UTC), connected for 0 s" in sentence


async def test_the_migration_lock_of_a_dead_deploy_is_said_to_be_dead(
    migrator: Build, script: Script, target: Target
) -> None:
    """A session whose client was killed while the server works on is "your own deploy of 14:02 UTC, dead"."""
    code = (
        "import asyncio, asyncpg, sys\n"
        "async def main():\n"
        "    settings = {'application_name': 'flawless deploy 20261123T140255Z-abc123'}\n"
        "    connection = await asyncpg.connect(sys.argv[1], server_settings=settings)\n"
        f"    await connection.execute('SELECT pg_advisory_lock({LOCK_KEY})')\n"
        "    await connection.execute('SELECT pg_sleep(60)')\n"
        "asyncio.run(main())\n"
    )
    url = target.url.reveal()
    deploy = await asyncio.create_subprocess_exec(sys.executable, "-c", code, url)
    try:
        async with session(url, "test") as look:
            asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            await eventually(lambda: look.fetchval(asleep))
    finally:
        deploy.kill()
        await deploy.wait()
    outcome = await migrator(script("raise SystemExit(9)")).apply(target, limit=0.5)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_LOCKED
    assert "(your own deploy of 14:02 UTC, dead)" in outcome.evidence[0]
    assert "pg_terminate_backend" in outcome.next_steps[1]


async def test_the_lock_is_free_again_afterwards(migrator: Build, script: Script, target: Target) -> None:
    """Whether the tool succeeds or fails, the next deploy gets the lock."""
    assert isinstance(await migrator(script("sys.exit(1)")).apply(target, limit=10), Failed)
    assert isinstance(await migrator(script("pass")).apply(target, limit=10), Applied)
