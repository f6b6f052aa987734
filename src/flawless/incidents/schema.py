"""Our own tables, kept at the newest revision.

Which revision the database is at is one cheap question over asyncpg; Alembic and SQLAlchemy, which take a third of a
second to import, are loaded only when there is something to apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.database.connection import DatabaseUnavailable, Target, classify, connect, session

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy import Connection

REVISIONS: Final = ("0001",)
"""Ours, oldest first; a test holds them against the folder."""

MIGRATION_LOCK: Final = 0x464C_4157_4F42_0002
"""Advisory lock of the transaction that applies our migrations."""

APPLICATION: Final = "flawless incidents"

_FOLDER = Path(__file__).parent / "migrations"

_CURRENT = "SELECT version_num FROM flawless.alembic_version"
_IS_THERE = "SELECT to_regclass('flawless.alembic_version') IS NOT NULL"
_MAY_CREATE = """
SELECT COALESCE((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = 'flawless'),
                has_database_privilege(current_database(), 'CREATE'))
"""
_LIMITS = ("SET LOCAL lock_timeout = '10s'", "SET LOCAL statement_timeout = '60s'")


@dataclass(frozen=True, slots=True)
class OwnMigrations:
    """The migrations of our tables, as a deploy wants them. `limit` in seconds, for each of look and application."""

    url: Callable[[], Secret]
    embedded: bool = False
    limit: float = 60.0

    name = "flawless"

    async def ensure_applied(self, run_id: str, tell: Callable[[str], None]) -> Outcome:  # noqa: ARG002 - ours need no id
        """Applies what is missing. A database in which we may not is a warning: the outbox keeps what happens."""
        try:
            async with session(self.url(), limit=self.limit, application=APPLICATION, embedded=self.embedded) as asked:
                version, may_create = await _look(asked)
            return await self._judged(version, tell, may_create=may_create)
        except DatabaseUnavailable as unavailable:
            failed = unavailable.failed
            return self._not_allowed() if failed.reason is Reason.DB_PERMISSION else failed

    async def _judged(self, version: str | None, tell: Callable[[str], None], *, may_create: bool) -> Outcome:
        if version == REVISIONS[-1]:
            return Passed((f"at {version}",))
        if version is not None and version not in REVISIONS:
            return _newer(version)
        if not may_create:
            return self._not_allowed()
        pending = REVISIONS[REVISIONS.index(version) + 1 :] if version else REVISIONS
        tell(", ".join(pending))
        return await self._apply(pending)

    async def _apply(self, pending: tuple[str, ...]) -> Outcome:
        from sqlalchemy import NullPool
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine("postgresql+asyncpg://", async_creator=self._connect, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade)
        except (DBAPIError, OSError) as error:
            failed = classify(error, Target.of(self.url(), embedded=self.embedded))
            return self._not_allowed() if failed.reason is Reason.DB_PERMISSION else _unfinished(failed, pending)
        finally:
            await engine.dispose()
        return Passed((f"applied {', '.join(pending)}",))

    async def _connect(self) -> asyncpg.Connection:
        return await connect(self.url(), limit=self.limit, application=APPLICATION, embedded=self.embedded)

    def _not_allowed(self) -> Passed:
        target = Target.of(self.url(), embedded=self.embedded)
        grant = f'GRANT CREATE ON DATABASE "{target.database}" TO "{target.user}";'
        return Passed(
            (f"{target}: the schema flawless may not be created or changed",),
            Concern(Reason.DB_PERMISSION, f"incidents stay in the outbox; as an administrator: {grant}"),
        )


async def _look(connection: asyncpg.Connection) -> tuple[str | None, bool]:
    """The revision, None when there is none; and whether we may create what is missing."""
    there = await connection.fetchval(_IS_THERE)
    version = await connection.fetchval(_CURRENT) if there else None
    return version, bool(await connection.fetchval(_MAY_CREATE))


def _upgrade(connection: Connection) -> None:
    """All in one transaction: the database has all of it, or none."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    for statement in _LIMITS:
        connection.execute(text(statement))
    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS flawless"))
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _newer(version: str) -> Passed:
    return Passed(
        (f"at {version}, which this Flawless does not know; it knows {', '.join(REVISIONS)}",),
        Concern(Reason.MIGRATE_DRIFT, "a newer Flawless was here: bring this one up to date"),
    )


def _unfinished(failed: Failed, pending: tuple[str, ...]) -> Failed:
    return failed.because(f"while our own tables were made ({', '.join(pending)}); nothing of it is left behind")
