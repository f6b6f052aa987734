"""Speaking to the server: does it answer, and does it have the project's database?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from flawless.adapters.postgres.failure import failed
from flawless.adapters.postgres.state import USER, State

if TYPE_CHECKING:
    from pathlib import Path

CLOSE_TIMEOUT: Final = 2.0


async def answers(state: State, database: str, *, limit: float, state_file: Path) -> bool:
    """Whether `SELECT 1` succeeds in the project's database, which is created when it is missing.

    False while nobody listens, the server is still starting, or it takes longer than `limit` seconds.
    Raises CommandFailed for what waiting does not cure.
    """
    import asyncpg

    try:
        async with asyncio.timeout(limit):
            await _ensure_database(state, database)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False
    except asyncpg.DuplicateDatabaseError:
        return True
    except asyncpg.InvalidPasswordError as error:
        raise failed(
            "the embedded database refuses the password in state.json",
            evidence=[f"{error.sqlstate} {error}"],
            next_steps=[f"have a new one set: flawless db stop && rm {state_file} && flawless db start"],
        ) from error
    except asyncpg.PostgresError as error:
        raise failed("the embedded database does not accept work", evidence=[f"{error.sqlstate} {error}"]) from error
    return True


async def _ensure_database(state: State, database: str) -> None:
    import asyncpg

    try:
        await _ask(state, database, "SELECT 1")
    except asyncpg.InvalidCatalogNameError:
        # template0: nobody can be connected to it, so the order cannot be refused as "being accessed".
        quoted = database.replace('"', '""')
        await _ask(state, "postgres", f'CREATE DATABASE "{quoted}" TEMPLATE template0')
        await _ask(state, database, "SELECT 1")


async def _ask(state: State, database: str, statement: str) -> None:
    connection = await _connect(state, database)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=CLOSE_TIMEOUT)


async def _connect(state: State, database: str) -> Any:
    import asyncpg

    return await asyncpg.connect(
        host="127.0.0.1",
        port=state.port,
        user=USER,
        password=state.password.reveal(),
        database=database,
        ssl=False,
    )
