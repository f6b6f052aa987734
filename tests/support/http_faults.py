"""A loopback server whose paths are faults, in this process or, as a program, in one of its own.

`python http_faults.py PORT [HOST]` is a service to be kept; within a test `faulty()` serves on a free port.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

HEALTHY = {"ok": True, "status": "healthy", "services": {"db": {"healthy": True}, "storage": {"ok": True}}}


class Faults:
    """One thread a connection; each path is a way of answering badly. `asked` counts the questions of each path."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.socket(family, socket.SOCK_STREAM)
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self._server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._server.bind((host, port))
        self._server.listen(64)
        self.port = int(self._server.getsockname()[1])
        self.asked: dict[str, int] = {}
        self.heads: list[str] = []
        self._ending = threading.Event()

    def serve(self) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                head += data
            self.heads.append(head.decode("latin-1"))
            path = head.split(b" ")[1].decode() if b" " in head else ""
            self.asked[path] = self.asked.get(path, 0) + 1
            _PATHS.get(path.partition("?")[0], _missing)(self, connection)

    def wait(self, seconds: float) -> None:
        """Sleeps, unless the server ends."""
        self._ending.wait(seconds)


def reply(connection: socket.socket, status: int, body: bytes, kind: str = "application/json", extra: str = "") -> None:
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\n{length}{extra}\r\n"
    connection.sendall(head.encode() + body)


def _json(status: int, body: Any) -> Callable[[Faults, socket.socket], None]:
    return lambda _, connection: reply(connection, status, json.dumps(body).encode())


def _missing(_: Faults, connection: socket.socket) -> None:
    reply(connection, 404, b"<h1>not found</h1>", "text/html")


def _live(_: Faults, connection: socket.socket) -> None:
    body = {"status": "alive", "service": "backend", "deployId": os.environ.get("FLAWLESS_DEPLOY_ID", "ours")}
    reply(connection, 200, json.dumps(body).encode())


def _slow(server: Faults, connection: socket.socket) -> None:
    server.wait(0.3)
    reply(connection, 200, b'{"status": "alive"}')


def _hang(server: Faults, connection: socket.socket) -> None:
    server.wait(60)


def _reset(_: Faults, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _cut(_: Faults, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def _cut_in_chunks(_: Faults, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf")


def _endless(server: Faults, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not server._ending.is_set():
        connection.sendall(b"x" * 65536)


def _drip(server: Faults, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not server._ending.is_set():
        connection.sendall(b"x")
        server.wait(0.02)


def _flap(server: Faults, connection: socket.socket) -> None:
    status = 200 if server.asked["/flap"] % 2 else 503
    reply(connection, status, b'{"status": "alive"}')


def _echo(_: Faults, connection: socket.socket) -> None:
    reply(connection, 200, b"<html></html>", "text/html", "X-Flawless-Deploy-Id: another\r\n")


_PATHS: dict[str, Callable[[Faults, socket.socket], None]] = {
    "/health/live": _live,
    "/health/db": _json(200, {"ready": True}),
    "/health/status": _json(200, HEALTHY),
    "/": lambda _, connection: reply(connection, 200, b"<html>hello</html>", "text/html"),
    "/slow": _slow,
    "/hang": _hang,
    "/reset": _reset,
    "/closed": lambda _, connection: None,
    "/closed-in-head": lambda _, connection: connection.sendall(b"HTTP/1.1 200 O"),
    "/cut": _cut,
    "/cut-in-chunks": _cut_in_chunks,
    "/endless": _endless,
    "/drip": _drip,
    "/flap": _flap,
    "/html": lambda _, connection: reply(connection, 200, b"<html>alive</html>", "text/html"),
    "/starting": lambda _, connection: reply(connection, 503, b"starting \x1b[2J", "text/plain"),
    "/binary": lambda _, connection: connection.sendall(b"\x00\x01\x02 no HTTP at all\r\n\r\n"),
    "/deep": lambda _, connection: reply(connection, 200, b"[" * 200_000),
    "/lies": _json(200, {"status": "healthy", "ok": True, "degraded": {"enabled": True, "reason": "demo mode"}}),
    "/unhealthy": _json(503, {"ready": False, "degradedReasons": ["no database", "no disk"]}),
    "/other-release": _json(200, {"status": "alive", "deployId": "another"}),
    "/other-release-header": _echo,
    "/other-service": _json(200, {"status": "alive", "service": "frontend"}),
    "/empty": lambda _, connection: reply(connection, 200, b"", "text/plain"),
    "/redirect": lambda _, connection: reply(connection, 302, b"", extra="Location: http://127.0.0.1:1/\r\n"),
}


@contextlib.contextmanager
def faulty(host: str = "127.0.0.1", port: int = 0) -> Iterator[Faults]:
    """Serves for the time of the block."""
    server = Faults(host, port)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)


def main() -> None:
    """A service: with PORT=0 it listens nowhere."""
    port = int(sys.argv[1])
    if port == 0:
        print("listening nowhere", flush=True)
        time.sleep(600)
    server = Faults(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1", port)
    print("listening", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
