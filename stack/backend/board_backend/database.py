"""The connection to PostgreSQL: a small pool in which nothing waits for ever."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from .services import State

PING_TIMEOUT = 2.0
"""Seconds. Below the three a probe waits for, so that it hears what is wrong and not a silence."""

TRANSACTION_TIMEOUT = 8.0
"""Seconds for a whole request's work: a connection that died in silence must not hold its reader."""

FAULTS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What asking a database can raise: the driver's errors on connecting arrive unwrapped."""


class DatabaseUnavailable(Exception):
    """The database cannot answer now; the text says why in a sentence, without addresses or passwords."""


def engine_for(
    url: str,
    *,
    application_name: str,
    settings: Mapping[str, str] | None = None,
    command_timeout: float | None = None,
    **options: Any,
) -> AsyncEngine:
    """The URL goes to asyncpg as it is: unlike SQLAlchemy it understands `?sslmode=`, as every other client does."""

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        if not url:
            raise DatabaseUnavailable("DB_NOT_CONFIGURED: DATABASE_URL is not set.")
        wanted = {"application_name": application_name, **(settings or {})}
        try:
            return await asyncpg.connect(
                url, timeout=PING_TIMEOUT, command_timeout=command_timeout, server_settings=wanted
            )
        except ValueError as fault:
            raise DatabaseUnavailable("DB_URL: DATABASE_URL is no postgresql:// address.") from fault

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, **options)


def server_settings(pgoptions: str) -> dict[str, str]:
    """The `-c name=value` pairs of PGOPTIONS, which asyncpg does not read by itself."""
    return dict(re.findall(r"(?:-c\s*|--)([\w.]+)=(\S+)", pgoptions))


class Database:
    """One pool for the process. It connects on first use, so a backend starts, and lives, without its database."""

    def __init__(self, url: str) -> None:
        self.configured = bool(url)
        self._engine = engine_for(
            url,
            application_name="board",
            command_timeout=5,
            pool_size=5,
            max_overflow=0,
            pool_timeout=2,
            pool_pre_ping=True,
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A transaction, committed at the end. Raises DatabaseUnavailable for what asking again may cure."""
        try:
            async with (
                asyncio.timeout(TRANSACTION_TIMEOUT),
                AsyncSession(self._engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
        except FAULTS as fault:
            raise DatabaseUnavailable(_sentence(fault)) from fault

    async def ask(self) -> State:
        started = time.monotonic()
        try:
            async with asyncio.timeout(PING_TIMEOUT), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (DatabaseUnavailable, *FAULTS) as fault:
            return State(time.monotonic() - started, _sentence(fault))
        return State(time.monotonic() - started)

    async def repair(self) -> State:
        """Throw the pool's connections away and ask over a new one."""
        await self._engine.dispose()
        return await self.ask()

    async def close(self) -> None:
        await self._engine.dispose()


def _sentence(fault: BaseException) -> str:
    """Only sentences of our own: a driver's text may carry the address and the user."""
    cause = fault.orig.__cause__ or fault.orig if isinstance(fault, DBAPIError) and fault.orig else fault
    match cause:
        case DatabaseUnavailable():
            return str(cause)
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "DB_AUTH: the database refuses this user or password."
        case asyncpg.InvalidCatalogNameError():
            return "DB_NO_DATABASE: the server has no database of that name."
        case asyncpg.UndefinedTableError():
            return "DB_TABLE_MISSING: a table is missing; have the migrations been applied?"
        case TimeoutError():
            return "DB_TIMEOUT: the database does not answer in time."
        case OSError():
            return "DB_REFUSED: nothing answers at the database's address."
        case _:
            return f"DB_UNAVAILABLE: the database answers with {type(cause).__name__}."
