"""Alembic against a real database: FAILURES 21, and what is read without running it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flawless.adapters.migrations import Alembic, Migrator
from flawless.adapters.migrations.alembic import current_revisions
from flawless.adapters.migrations.tool import Tool
from flawless.core.check import Failed
from flawless.core.migration import Applied, Pending, Target
from flawless.core.reason import Reason
from support.postgres import execute

from .conftest import AlembicProject

pytestmark = pytest.mark.anyio
Build = Callable[[Tool], Migrator]


def create(table: str) -> str:
    return f"op.execute('CREATE TABLE {table} (id int)')"


async def test_pending_revisions_are_applied_and_a_second_run_does_not_start_the_tool(
    project: AlembicProject, migrator: Build, target: Target
) -> None:
    """What is pending is applied in order; when the heads match the tool is not run."""
    project.add("a1", None, create("a"))
    project.add("b2", "a1", create("b"))
    alembic = migrator(Alembic(project.directory))
    assert await alembic.pending(target, limit=20) == Pending(
        (), ("a1", "b2"), "read from the files and the table alembic_version"
    )

    first = await alembic.apply(target, limit=60)
    assert isinstance(first, Applied), first
    assert (first.applied, first.attempts) == (("a1", "b2"), 1)
    await execute(target.url.reveal(), "SELECT FROM a, b")

    before = time.perf_counter()
    second = await alembic.apply(target, limit=20)
    assert isinstance(second, Applied)
    assert (second.applied, second.attempts) == ((), 0)
    assert time.perf_counter() - before < 0.5


async def test_a_failing_revision_is_named_with_the_tools_own_words(
    project: AlembicProject, migrator: Build, target: Target
) -> None:
    """MIGRATE_FAILED carries the tool's last lines, what is still pending and the command to paste; nothing is left."""
    project.add("a1", None, create("a"), "op.execute('ALTER TABLE nowhere ADD x int')")
    outcome = await migrator(Alembic(project.directory)).apply(target, limit=60)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_FAILED
    assert any('relation "nowhere" does not exist' in line for line in outcome.evidence)
    assert "still pending: a1" in outcome.evidence
    assert f"cd {project.directory} && {sys.executable} -m alembic upgrade head" in outcome.next_steps[0]


async def test_a_half_applied_revision_is_dirty_and_says_what_was_left_by_whom(
    project: AlembicProject, migrator: Build, target: Target
) -> None:
    """A revision outside a transaction that fails half-way is MIGRATE_DIRTY, at once and at the next deploy."""
    project.add(
        "a1", None, "with op.get_context().autocommit_block():", f"    {create('half')}", "    op.execute('SELECT 1/0')"
    )
    alembic = migrator(Alembic(project.directory))
    first = await alembic.apply(target, limit=60)
    second = await alembic.apply(Target(target.url, "20261124T090000Z-aaaaaa"), limit=60)
    for outcome in (first, second):
        assert isinstance(outcome, Failed)
        assert outcome.reason is Reason.MIGRATE_DIRTY
        assert target.deploy_id in outcome.cause
        assert "table public.half is there, and was not before" in outcome.evidence
    assert isinstance(first, Failed)
    assert any(line.startswith("[SQL: SELECT 1/0]") for line in first.evidence)

    await execute(target.url.reveal(), "DROP TABLE half")
    project.add("a1", None, create("half"))
    assert isinstance(await alembic.apply(target, limit=60), Applied)


async def test_a_revision_that_no_file_has_is_drift(project: AlembicProject, migrator: Build, target: Target) -> None:
    """MIGRATE_DRIFT names the revision and the folder, and the tool is not run."""
    project.add("a1", None)
    await execute(
        target.url.reveal(),
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('abc123')",
    )
    outcome = await migrator(Alembic(project.directory)).apply(target, limit=20)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_DRIFT
    assert f"the database is at abc123, which no file in {project.versions} has" in outcome.cause


async def test_two_heads_are_refused_with_the_command_that_merges_them(
    project: AlembicProject, migrator: Build, target: Target
) -> None:
    """Several heads are MIGRATE_FAILED before anything runs, with `alembic merge`."""
    project.add("a1", None, create("a"))
    project.add("b2", "a1")
    project.add("c3", "a1")
    outcome = await migrator(Alembic(project.directory)).apply(target, limit=20)
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.MIGRATE_FAILED
    assert outcome.next_steps == (f'cd {project.directory} && {sys.executable} -m alembic merge -m "merge" b2 c3',)
    assert any("b2_step.py" in line for line in outcome.evidence)


async def test_a_version_table_of_its_own_is_asked_for_through_the_tool(
    project: AlembicProject, migrator: Build, target: Target
) -> None:
    """Where env.py names another table nothing is read from the default one; `alembic current` decides."""
    env = project.directory / "migrations" / "env.py"
    env.write_text(env.read_text().replace("transaction_per_migration=True", "version_table='ours'"))
    first = project.add("a1", None, create("a"))
    alembic = migrator(Alembic(project.directory))
    applied = await alembic.apply(target, limit=60)
    assert isinstance(applied, Applied), applied
    assert applied.attempts == 1
    looked = await alembic.pending(target, limit=20)
    assert isinstance(looked, Pending)
    assert (looked.applied, looked.pending) == (("a1",), ())
    assert "version table of its own" in looked.source
    first.unlink()
    drift = await alembic.pending(target, limit=20)
    assert isinstance(drift, Failed)
    assert drift.reason is Reason.MIGRATE_DRIFT
    assert "the database is at a1" in drift.cause


async def test_the_reference_stack_is_migrated(migrator: Build, target: Target, tmp_path: Path) -> None:
    """What the default manifest deploys goes through the same way."""
    backend = Path(__file__).parents[3] / "stack" / "backend"
    outcome = await migrator(Alembic(backend)).apply(target, limit=60)
    assert isinstance(outcome, Applied), outcome
    assert outcome.applied == ("b001", "b002")


def test_words_of_alembic_current() -> None:
    """Recorded output: log lines are passed over, `(head)` is the proof."""
    recorded = [
        "INFO  [alembic.runtime.migration] Context impl PostgresqlImpl.",
        "a1",
        "b2 (head)",
        "c3 (effective head)",
    ]
    assert current_revisions(recorded) == {"a1": False, "b2": True, "c3": True}


def test_which_python_runs_alembic(tmp_path: Path) -> None:
    """The directory's own environment where it has Alembic, else ours."""
    assert Alembic(tmp_path).apply[0] == sys.executable
    own = tmp_path / ".venv" / "bin"
    own.mkdir(parents=True)
    (own / "alembic").touch()
    assert Alembic(tmp_path).apply == (str(own / "python"), "-m", "alembic", "upgrade", "head")
