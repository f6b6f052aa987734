"""Our tables: made once, alone in their schema, kept when they are there, append-only where it counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from flawless.core.check import Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.incidents.schema import REVISIONS, OwnMigrations
from incidents.conftest import MakeBook, failure
from support.postgres import execute

pytestmark = pytest.mark.anyio


async def ensure(url: str, told: list[str] | None = None) -> Outcome:
    return await OwnMigrations(lambda: Secret(url)).ensure_applied("run", (told if told is not None else []).append)


async def values(url: str, statement: str) -> list[object]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_the_first_time_makes_the_tables_and_tells_before(database_url: str) -> None:
    """Everything is in the schema flawless, Alembic's own table too; the application's schema is left alone."""
    told: list[str] = []
    assert isinstance(await ensure(database_url, told), Passed)
    assert told == [", ".join(REVISIONS)]
    ours = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'flawless' ORDER BY 1"
    assert await values(database_url, ours) == ["alembic_version", "ops_incident", "ops_incident_event"]
    assert await values(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


async def test_the_second_time_changes_nothing(migrated_url: str) -> None:
    """Nothing is told, because nothing is about to be changed."""
    told: list[str] = []
    outcome = await ensure(migrated_url, told)
    assert (isinstance(outcome, Passed), told) == (True, [])


async def test_two_deploys_at_once_make_them_once(database_url: str) -> None:
    """The advisory lock lets one wait for the other; both pass."""
    outcomes = await asyncio.gather(*(ensure(database_url) for _ in range(4)))
    assert all(isinstance(outcome, Passed) and outcome.concern is None for outcome in outcomes), outcomes


async def test_where_nothing_is_to_do_neither_alembic_nor_sqlalchemy_is_loaded(migrated_url: str) -> None:
    """A deploy without a change does not pay a third of a second for them."""
    program = (
        "import asyncio, sys; from flawless.core.secret import Secret;"
        "from flawless.incidents.schema import OwnMigrations; url = sys.argv[1];"
        "outcome = asyncio.run(OwnMigrations(lambda: Secret(url)).ensure_applied('run', print));"
        "assert 'sqlalchemy' not in sys.modules and 'alembic' not in sys.modules; print(type(outcome).__name__)"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, migrated_url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "Passed\n"


async def test_rows_of_before_survive(make_book: MakeBook, database_url: str) -> None:
    """Deployed again, what is stored stays stored."""
    await ensure(database_url)
    book = make_book(database_url)
    book.open_for(failure(), "run")
    await book.drain(2.0)
    assert isinstance(await ensure(database_url), Passed)
    assert await values(database_url, "SELECT count(*) FROM flawless.ops_incident") == [1]


async def test_without_the_right_to_create_it_is_a_warning_and_the_outbox_keeps(
    make_book: MakeBook, database_url: str
) -> None:
    """The line an administrator has to type is in it."""
    name = urlsplit(database_url).path[1:]
    role = f"poor_{name}"
    await execute(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'poor'")
    try:
        parts = urlsplit(database_url)
        poor = parts._replace(netloc=f"{role}:poor@{parts.hostname}:{parts.port}").geturl()
        outcome = await ensure(poor)
        book = make_book(poor)
        book.open_for(failure(), "run")
        left = await book.drain(2.0)
    finally:
        await execute(database_url, f"DROP ROLE {role}")
    assert isinstance(outcome, Passed)
    assert outcome.concern is not None
    assert outcome.concern.reason is Reason.DB_PERMISSION
    assert f'GRANT CREATE ON DATABASE "{name}" TO "{role}";' in outcome.concern.next_step
    assert left == 1


async def test_a_role_that_may_not_look_into_our_schema_is_warned_too(migrated_url: str, make_book: MakeBook) -> None:
    """Somebody else's tables: no failure, and the outbox keeps."""
    role = f"blind_{urlsplit(migrated_url).path[1:]}"
    await execute(migrated_url, f"CREATE ROLE {role} LOGIN PASSWORD 'blind'")
    try:
        parts = urlsplit(migrated_url)
        blind = parts._replace(netloc=f"{role}:blind@{parts.hostname}:{parts.port}").geturl()
        outcome = await ensure(blind)
        book = make_book(blind)
        book.open_for(failure(), "run")
        left = await book.drain(2.0)
    finally:
        await execute(migrated_url, f"DROP ROLE {role}")
    assert isinstance(outcome, Passed)
    assert outcome.concern is not None
    assert outcome.concern.reason is Reason.DB_PERMISSION
    assert left == 1


async def test_a_newer_flawless_was_here(migrated_url: str) -> None:
    """A revision not known here is left alone, with a warning."""
    await execute(migrated_url, "UPDATE flawless.alembic_version SET version_num = '9999'")
    outcome = await ensure(migrated_url)
    assert isinstance(outcome, Passed)
    assert outcome.concern is not None
    assert outcome.concern.reason is Reason.MIGRATE_DRIFT


async def test_a_refused_database_is_a_failure(refused_url: str) -> None:
    """Classified as everywhere."""
    outcome = await ensure(refused_url)
    assert getattr(outcome, "reason", None) is Reason.DB_REFUSED


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE flawless.ops_incident_event SET message = 'nothing happened'",
        "DELETE FROM flawless.ops_incident_event",
        "TRUNCATE flawless.ops_incident_event",
        "TRUNCATE flawless.ops_incident CASCADE",
    ],
)
async def test_events_are_only_ever_appended(make_book: MakeBook, migrated_url: str, statement: str) -> None:
    """The database refuses to change or remove one, whoever asks."""
    book = make_book(migrated_url)
    book.open_for(failure(), "run")
    await book.drain(2.0)
    with pytest.raises(asyncpg.RestrictViolationError, match="only ever appended"):
        await execute(migrated_url, statement)
    assert await values(migrated_url, "SELECT count(*) FROM flawless.ops_incident_event") == [1]


async def test_one_fault_has_one_open_incident_whoever_writes(make_book: MakeBook, migrated_url: str) -> None:
    """The unique index holds against writers who do not ask first."""
    book = make_book(migrated_url)
    book.open_for(failure(), "run")
    await book.drain(2.0)
    twin = """
        INSERT INTO flawless.ops_incident (id, created_at, updated_at, severity, category, summary, fingerprint)
        SELECT gen_random_uuid(), created_at, updated_at, severity, category, summary, fingerprint
        FROM flawless.ops_incident
    """
    with pytest.raises(asyncpg.UniqueViolationError):
        await execute(migrated_url, twin)


def test_the_known_revisions_are_those_in_the_folder() -> None:
    """What is compared without Alembic is what Alembic has."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import flawless.incidents.migrations as folder

    config = Config()
    config.set_main_option("script_location", str(Path(folder.__file__).parent))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == REVISIONS


async def test_the_models_are_what_the_migrations_make(migrated_url: str) -> None:
    """Alembic finds no difference between the models and the database."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection, NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    from flawless.incidents.models import SCHEMA, Base

    def differences(connection: Connection) -> list[object]:
        options = {
            "version_table_schema": SCHEMA,
            "include_schemas": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(migrated_url), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()
