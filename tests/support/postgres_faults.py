"""A loopback server in front of a real PostgreSQL that misbehaves as it is told.

    async with PostgresFaults(postgres_url) as faults:
        faults.delay(0.7)
        ... connect to faults.url ...

It relays until told otherwise. A new order holds for connections made from then on; `cut_every` holds for all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

TLS_REQUEST = struct.pack("!ii", 8, 80877103)

HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<h1>Bad Request</h1>"

SSH_ANSWER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"


def error_response(state: str, message: str) -> bytes:
    """A FATAL ErrorResponse as a server sends it. Source: PostgreSQL, message formats."""
    fields = b"".join(
        code + text.encode() + b"\0"
        for code, text in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", state), (b"M", message))
    )
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"


class PostgresFaults:
    def __init__(self, upstream: str) -> None:
        self._parts = urlsplit(upstream)
        self._answer: Callable[[Reader, Writer], Awaitable[None]] = self._relay
        self._delay = 0.0
        self._writers: set[Writer] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._cutting: asyncio.Task[None] | None = None
        self._queued: list[socket.socket] = []
        self._arrived = asyncio.Event()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._server = await asyncio.start_server(self._serve, sock=self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        self._stop_listening()
        self.cut()
        for handler in self._handlers:
            handler.cancel()
        if self._handlers:
            await asyncio.wait(self._handlers)

    @property
    def url(self) -> str:
        """The upstream's URL, with this server in its place."""
        login = self._parts.netloc.rpartition("@")[0]
        return self._parts._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    def relay(self) -> None:
        """Behaves, and ends a storm."""
        self._answer, self._delay = self._relay, 0.0
        if self._cutting is not None:
            self._cutting.cancel()

    def delay(self, round_trip: float) -> None:
        """Relays, with so many seconds a round trip."""
        self._answer, self._delay = self._relay, round_trip

    def silence(self) -> None:
        """Accepts and never answers."""
        self._answer = self._keep_silent

    def say(self, words: bytes) -> None:
        """Answers the first bytes with these, whatever they were: another protocol."""
        self._answer = lambda reader, writer: self._say(reader, writer, words)

    def reject(self, state: str, message: str) -> None:
        """Refuses every login with an ErrorResponse; no TLS."""
        self._answer = lambda reader, writer: self._reject(reader, writer, error_response(state, message))

    def demand_tls(self, context: ssl.SSLContext) -> None:
        """Relays what comes encrypted and refuses the rest as a `hostssl` rule does."""
        self._answer = lambda reader, writer: self._relay_encrypted(reader, writer, context)

    def cut_every(self, period: float) -> None:
        """Cuts all connections, again and again, until `relay`."""
        self._cutting = asyncio.create_task(self._cut_every(period))

    def cut(self) -> None:
        """Cuts all connections, once."""
        for writer in self._writers:
            writer.transport.abort()

    async def until(self, connections: int) -> None:
        """Returns when so many connections have been accepted in all."""
        while self.connections < connections:
            self._arrived.clear()
            await self._arrived.wait()

    async def until_idle(self) -> None:
        """Returns when every connection has ended."""
        while self._handlers:
            await asyncio.wait(self._handlers)

    async def refuse(self) -> None:
        """Refuses connections; the port stays ours, so that nobody else can take it."""
        self._stop_listening()
        self._listener = self._bound()

    async def vanish(self) -> None:
        """Drops packets: a full queue of connections, which Linux answers with silence."""
        await self.refuse()
        self._listener.listen(0)
        for _ in range(8):
            queued = socket.socket()
            queued.setblocking(False)
            with suppress(BlockingIOError):
                queued.connect(("127.0.0.1", self.port))
            self._queued.append(queued)

    def _bound(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        return listener

    def _stop_listening(self) -> None:
        self._server.close()
        self._listener.close()
        for queued in self._queued:
            queued.close()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self.connections += 1
        self._arrived.set()
        self._handlers.add(handler)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._handlers.discard(handler)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _keep_silent(self, reader: Reader, writer: Writer) -> None:
        while await reader.read(4096):
            pass

    async def _say(self, reader: Reader, writer: Writer, words: bytes) -> None:
        await reader.read(4096)
        writer.write(words)
        await self._finish(writer)

    async def _reject(self, reader: Reader, writer: Writer, response: bytes) -> None:
        packet = await _packet(reader)
        if packet == TLS_REQUEST:
            writer.write(b"N")
            await _packet(reader)
        writer.write(response)
        await self._finish(writer)

    @staticmethod
    async def _finish(writer: Writer) -> None:
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _relay_encrypted(self, reader: Reader, writer: Writer, context: ssl.SSLContext) -> None:
        if await _packet(reader) != TLS_REQUEST:
            writer.write(error_response("28000", "no pg_hba.conf entry for host, no encryption"))
            await self._finish(writer)
            return
        writer.write(b"S")
        await writer.start_tls(context)
        await self._relay(reader, writer)

    async def _relay(self, reader: Reader, writer: Writer) -> None:
        above_reader, above_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers.add(above_writer)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pour(reader, above_writer))
                directions.create_task(self._pour(above_reader, writer))
        except* (OSError, ssl.SSLError):
            above_writer.transport.abort()
        finally:
            self._writers.discard(above_writer)
            above_writer.transport.abort()

    async def _pour(self, reader: Reader, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await reader.read(65536):
            if self._delay:
                loop.call_later(self._delay / 2, writer.write, chunk)
            else:
                writer.write(chunk)
        if self._delay:
            loop.call_later(self._delay / 2, writer.close)
        else:
            writer.close()

    async def _cut_every(self, period: float) -> None:
        while True:
            self.cut()
            await asyncio.sleep(period)


async def _packet(reader: Reader) -> bytes:
    """A message without a type byte, as a connection begins."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(struct.unpack("!i", length)[0] - 4)
