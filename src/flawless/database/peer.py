"""What sits at a port: seen by a second connection that asks PostgreSQL's first question and nothing else."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass

from flawless.database.address import Target

TLS_QUESTION = struct.pack("!ii", 8, 80877103)
"""SSLRequest: a PostgreSQL server answers it with one byte, S or N, before anything else is said."""

LONGEST_GREETING = 200


@dataclass(slots=True)
class Peer:
    """What was seen of the port, filled in while it is seen. `logged_in`: the server had let us in before it failed."""

    accepted: bool = False
    greeting: bytes = b""
    logged_in: bool = False

    @property
    def is_postgres(self) -> bool:
        return self.logged_in or self.greeting in {b"S", b"N"} or self._is_error

    @property
    def is_foreign(self) -> bool:
        """It answered, and not as PostgreSQL: neither yes nor no to TLS, nor an error message."""
        return bool(self.greeting) and not self.is_postgres

    @property
    def _is_error(self) -> bool:
        """An ErrorResponse: E, then four bytes of length. In a sentence of English that length would be huge."""
        return self.greeting[:3] == b"E\0\0"


async def look(target: Target, peer: Peer) -> None:
    """Writes into `peer` what is seen of the first host. Never raises; ended from outside when time is up."""
    with suppress(OSError, UnicodeError):  # what cannot be seen stays unseen; the driver's own error is the one told
        reader, writer = await _opened(target)
        try:
            peer.accepted = True
            writer.write(TLS_QUESTION)
            peer.greeting = await reader.read(LONGEST_GREETING)
        finally:
            writer.transport.abort()


async def _opened(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.host.startswith("/"):
        return await asyncio.open_unix_connection(f"{target.host}/.s.PGSQL.{target.port}")
    return await asyncio.open_connection(target.host, target.port)
