"""Migrations by commands of the manifest: FAILURES 23, and what counts as proof."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from flawless.adapters.migrations import MigrationCommand, Migrator, Surroundings, refusal
from flawless.adapters.migrations.refusal import REFUSED
from flawless.adapters.migrations.tool import Tool
from flawless.core.check import Failed
from flawless.core.clock import SystemClock
from flawless.core.migration import Applied, Pending, Target
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor
from flawless.core.secret import Secret
from support.eventually import eventually

pytestmark = pytest.mark.anyio
Build = Callable[[Tool], Migrator]
Script = Callable[..., MigrationCommand]

CREATE = "execute('CREATE TABLE users (id int)')"
IS_PENDING = "execute(\"SELECT 'create-users' WHERE to_regclass('users') IS NULL\")"

HANGS = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def say(*words):
    os.write(1, " ".join(map(str, (*words, "\\n"))).encode())
say("password is", os.environ["CANARY"])
say("address is", os.environ["DATABASE_URL"])
if os.fork() == 0:
    os.setsid()
    say("hidden", os.getpid())
    signal.pause()
say("tool", os.getpid())
execute("SELECT pg_sleep(60)")
"""


async def test_pending_is_applied_and_looked_at_again(migrator: Build, script: Script, target: Target) -> None:
    """Output of `pending` names what is pending; after the run it has to be empty."""
    migrations = migrator(script(CREATE, IS_PENDING))
    looked = await migrations.pending(target, limit=10)
    assert isinstance(looked, Pending)
    assert looked.pending == ("create-users",)
    applied = await migrations.apply(target, limit=10)
    assert isinstance(applied, Applied), applied
    assert applied.applied == ("create-users",)
    again = await migrations.apply(target, limit=10)
    assert isinstance(again, Applied)
    assert again.attempts == 0


async def test_exit_code_0_alone_is_no_proof(migrator: Build, script: Script, target: Target) -> None:
    """A tool that says success and changes nothing fails, and what is missing is named."""
    outcome = await migrator(script("print('all done')", IS_PENDING)).apply(target, limit=10)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_FAILED
    assert "the tool said success (exit code 0), but create-users is still missing" in outcome.cause
    assert "all done" in outcome.evidence


async def test_without_pending_the_tool_runs_each_time(migrator: Build, script: Script, target: Target) -> None:
    """Its exit code is then all the proof there is."""
    migrations = migrator(script("execute('CREATE TABLE IF NOT EXISTS users (id int)')"))
    for _ in range(2):
        applied = await migrations.apply(target, limit=10)
        assert isinstance(applied, Applied), applied
        assert applied.attempts == 1


async def test_a_question_that_fails_is_no_answer(migrator: Build, script: Script, target: Target) -> None:
    """`pending` with another exit code than 0 fails with its own words; nothing is applied."""
    migrations = migrator(script(CREATE, "print('cannot read my folder'); sys.exit(4)"))
    outcome = await migrations.apply(target, limit=10)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_FAILED
    assert "exit code 4" in outcome.cause
    assert "cannot read my folder" in outcome.evidence


async def test_a_tool_that_hangs_is_ended_with_its_sessions(migrator: Build, script: Script, target: Target) -> None:
    """MIGRATE_TIMEOUT: the tree is gone, its statement too, the tail is there, the secrets are not."""
    outcome = await migrator(script(HANGS)).apply(target, limit=4)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_TIMEOUT, outcome
    said = dict(line.strip().rsplit(" ", 1) for line in outcome.evidence if " " in line)
    assert said["password is"] == "****"
    password = target.url.reveal().split(":")[2].split("@")[0]
    assert password not in repr(outcome)
    assert not psutil.pid_exists(int(said["tool"]))
    assert not psutil.pid_exists(int(said["hidden"]))
    connection = await asyncpg.connect(target.url.reveal())
    try:
        asleep = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
        await eventually(lambda: connection.fetchval(asleep), limit=2)
    finally:
        await connection.close()


async def test_a_killed_run_that_left_half_a_migration_is_named(
    migrator: Build, script: Script, target: Target, tmp_path: Path
) -> None:
    """What a cancelled deploy left behind makes the next one MIGRATE_DIRTY, with the id of the first."""
    half = "execute('CREATE TABLE half (id int)'); open('half', 'w').close(); signal.pause()"
    pending = "print('two-tables')"
    applying = asyncio.create_task(migrator(script(half, pending)).apply(target, limit=30))
    await eventually(lambda: asyncio.to_thread((tmp_path / "half").exists))
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    later = Target(target.url, "20261124T090000Z-bbbbbb")
    outcome = await migrator(script("execute('CREATE TABLE half (id int)')", pending)).apply(later, limit=10)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_DIRTY
    assert target.deploy_id in outcome.cause
    assert "table public.half is there, and was not before" in outcome.evidence
    assert any('relation "half" already exists' in line for line in outcome.evidence)


async def test_a_cancelled_run_that_left_nothing_is_forgotten(
    migrator: Build, script: Script, target: Target, tmp_path: Path
) -> None:
    """No later change is laid at its door."""
    applying = asyncio.create_task(
        migrator(script("open('began', 'w').close(); signal.pause()", IS_PENDING)).apply(target, limit=30)
    )
    await eventually(lambda: asyncio.to_thread((tmp_path / "began").exists))
    record = tmp_path / ".flawless" / "migrations.json"
    assert await asyncio.to_thread(record.exists)
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    assert not await asyncio.to_thread(record.exists)


async def test_the_tool_gets_the_limits_and_our_name(migrator: Build, script: Script, target: Target) -> None:
    """PGOPTIONS and PGAPPNAME are there for whoever honours them, and DATABASE_URL leads past the pooler."""
    code = "print(os.environ['PGOPTIONS'], os.environ['PGAPPNAME'], sep='\\n'); sys.exit(1)"
    outcome = await migrator(script(code)).apply(target, limit=10)
    assert isinstance(outcome, Failed)
    assert "-c lock_timeout=1000 -c statement_timeout=10000" in outcome.evidence
    assert f"flawless migrate {target.deploy_id}" in outcome.evidence


async def test_a_missing_tool_and_a_lost_database_have_names(
    migrator: Build, script: Script, target: Target, tmp_path: Path
) -> None:
    """Nothing is raised: TOOL_MISSING and DB_LOST come as failures."""
    missing = await migrator(MigrationCommand(("no-such-tool", "up"))).apply(target, limit=5)
    assert isinstance(missing, Failed)
    assert missing.reason is Reason.TOOL_MISSING
    nowhere = Target(Secret("postgresql://nobody:nothing@127.0.0.1:1/none"), target.deploy_id)
    lost = await migrator(script("pass")).apply(nowhere, limit=5)
    assert isinstance(lost, Failed)
    assert lost.reason is Reason.DB_LOST


async def test_the_embedded_database_is_looked_at_with_our_own_commands(
    script: Script, target: Target, tmp_path: Path
) -> None:
    """Its address is in no variable: `flawless db` has it."""
    nowhere = Target(Secret("postgresql://nobody:nothing@127.0.0.1:1/none"), target.deploy_id)
    around = Surroundings(tmp_path, {}, tmp_path / ".flawless", Redactor([]), SystemClock(), embedded=True)
    lost = await Migrator(script("pass"), around).pending(nowhere, limit=5)
    assert isinstance(lost, Failed)
    assert lost.next_steps[0] == "try it by hand: flawless db psql -c 'SELECT 1'"


@pytest.mark.parametrize("words", [words for words, _ in REFUSED], ids=" ".join)
async def test_destructive_subcommands_are_refused(words: tuple[str, ...], migrator: Build, tmp_path: Path) -> None:
    """Every row of the table is refused before anything runs or connects, and says why."""
    nowhere = Target(Secret("postgresql://nobody:nothing@127.0.0.1:1/none"), "20261123T141502Z-3f9c2a")
    outcome = await migrator(MigrationCommand(("touch", "ran", *words))).apply(nowhere, limit=5)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_REFUSED
    assert " ".join(words) in outcome.cause
    assert not await asyncio.to_thread((tmp_path / "ran").exists)


@pytest.mark.parametrize(
    ("argv", "refused"),
    [
        (("npx", "prisma", "migrate", "reset", "--force"), True),
        (("npm", "run", "db:reset"), True),
        (("sh", "-c", "prisma db push --accept-data-loss"), True),
        (("python", "manage.py", "migrate", "shop", "zero"), True),
        (("php", "artisan", "migrate:fresh"), True),
        (("npx", "prisma", "migrate", "deploy"), False),
        (("python", "manage.py", "migrate", "--noinput"), False),
        (("./scripts/drop-in.sh", "--reset-cache"), False),
    ],
)
def test_words_are_compared_whole(argv: tuple[str, ...], *, refused: bool) -> None:
    """A word within a word is no subcommand; a word behind a colon or in a shell string is."""
    assert (refusal(argv) is not None) is refused
