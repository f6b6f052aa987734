"""Opens a connection to PostgreSQL, or says exactly why not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from flawless.core.check import Failed
from flawless.core.errors import CommandFailed
from flawless.core.secret import Secret
from flawless.database.address import MalformedUrl, Target, driver_arguments
from flawless.database.failure import classify
from flawless.database.peer import Peer, look

if TYPE_CHECKING:
    import asyncpg

__all__ = ["DatabaseUnavailable", "MalformedUrl", "Peer", "Target", "classify", "connect", "session"]

FAREWELL = 1.0
"""Seconds to say goodbye to a server before the connection is dropped."""


class DatabaseUnavailable(CommandFailed):
    """No connection, or it failed in use; `failed` is the classified failure, ready to be a check's outcome."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.cause, code=failed.reason, evidence=failed.evidence, next_steps=failed.next_steps)
        self.failed = failed


async def connect(url: Secret, *, limit: float, application: str, embedded: bool = False) -> asyncpg.Connection:
    """A connection, opened within `limit` seconds. `application` is the application_name others see.

    Raises DatabaseUnavailable, whatever went wrong.
    """
    target = Target.of(url, embedded=embedded)
    return await _Opening(url, target, limit, application).connection()


@asynccontextmanager
async def session(
    url: Secret, *, limit: float, application: str, embedded: bool = False
) -> AsyncIterator[asyncpg.Connection]:
    """A connection for what is done inside, opening and use within `limit` seconds in all.

    Raises DatabaseUnavailable for a failure of either.
    """
    end = asyncio.get_running_loop().time() + limit
    connection = await connect(url, limit=limit, application=application, embedded=embedded)
    try:
        async with asyncio.timeout_at(end):
            yield connection
    except _faults() as fault:
        target = Target.of(url, embedded=embedded)
        raise DatabaseUnavailable(classify(fault, target, Peer(accepted=True, logged_in=True))) from None
    finally:
        await _leave(connection, end)


class _Opening:
    """One attempt. A second look at the port begins when the driver gave up, or when half the time is gone."""

    def __init__(self, url: Secret, target: Target, limit: float, application: str) -> None:
        self._url = url
        self._target = target
        self._limit = limit
        self._application = application
        self._peer = Peer()
        self._gave_up = asyncio.Event()
        self._end = asyncio.get_running_loop().time() + limit

    async def connection(self) -> asyncpg.Connection:
        looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(self._limit):
                try:
                    return await self._open()
                except _unclear():
                    self._gave_up.set()
                    await asyncio.wait({looking}, timeout=self._left() / 2)
                    raise
        except Exception as error:  # noqa: BLE001 - whatever the driver raises is named by classify
            raise DatabaseUnavailable(classify(error, self._target, self._peer)) from None
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _open(self) -> asyncpg.Connection:
        import asyncpg

        arguments = driver_arguments(self._url, application=self._application)
        try:
            return await asyncpg.connect(**arguments, timeout=self._limit + 1)
        except OSError:
            # Without descriptors the resolver cannot read its files, and says "unknown name" or "busy": let it be said.
            socket.socket().close()
            raise

    async def _look(self) -> None:
        with suppress(TimeoutError):  # half the time is gone: the look begins while the driver still tries
            await asyncio.wait_for(self._gave_up.wait(), self._limit / 2)
        await look(self._target, self._peer)

    def _left(self) -> float:
        return max(self._end - asyncio.get_running_loop().time(), 0.0)


async def _leave(connection: asyncpg.Connection, end: float) -> None:
    left = min(end - asyncio.get_running_loop().time(), FAREWELL)
    if left <= 0:
        connection.terminate()
        return
    with suppress(*_faults()):  # the answer is known already, and close() drops the line when it fails
        await connection.close(timeout=left)


def _faults() -> tuple[type[BaseException], ...]:
    """What using a connection can raise."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def _unclear() -> tuple[type[BaseException], ...]:
    """What the driver raises both for a server that went away and for something that never was one, or wants TLS."""
    import asyncpg

    return (
        ConnectionError,
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
        asyncpg.InvalidAuthorizationSpecificationError,
    )
