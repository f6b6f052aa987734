"""How Alembic reaches the database: DATABASE_URL, over asyncpg, within the limits of PGOPTIONS."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, NullPool

from board_backend.database import DatabaseUnavailable, engine_for, server_settings
from board_backend.models import Base


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def reach() -> None:
    """A lock_timeout set in PGOPTIONS would be lost without a word: asyncpg reads neither that nor PGAPPNAME."""
    engine = engine_for(
        os.environ.get("DATABASE_URL", ""),
        application_name=os.environ.get("PGAPPNAME", "board-migrations"),
        settings=server_settings(os.environ.get("PGOPTIONS", "")),
        poolclass=NullPool,
    )
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


try:
    asyncio.run(reach())
except (DatabaseUnavailable, OSError) as fault:
    raise SystemExit(str(fault)) from fault
