"""A loopback TCP server in this process: one thread a connection, and at its end no thread, connection or port."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress


class Reset(Exception):
    """Whoever serves a connection raises it to have the peer see a reset, and no orderly end."""


class Listener:
    """Calls `serve` with each connection, in a thread of its own, and closes it afterwards."""

    def __init__(self, serve: Callable[[socket.socket], None], port: int = 0) -> None:
        self._serve = serve
        self._server = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = int(self._server.getsockname()[1])
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._is_closed = False
        self._accepting = threading.Thread(target=self._accept, name=f"listener-{self.port}", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Nobody is accepted from now on, and who is connected is cut off."""
        with self._lock:
            self._is_closed = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join(10)
        for thread in self.cut():
            thread.join(10)

    def cut(self) -> list[threading.Thread]:
        """Ends every connection there is; answers with their threads."""
        with self._lock:
            for handle in self._open:
                with suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
            return list(self._open.values())

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            # A second handle of the connection: TLS takes the first one over.
            handle = connection.dup()
            name = f"listener-{self.port}-connection"
            thread = threading.Thread(target=self._run, args=(connection, handle), name=name, daemon=True)
            with self._lock:
                if self._is_closed:
                    connection.close()
                    handle.close()
                    return
                self._open[handle] = thread
                thread.start()

    def _run(self, connection: socket.socket, handle: socket.socket) -> None:
        is_orderly = True
        try:
            with connection, suppress(OSError):
                self._serve(connection)
        except Reset:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            is_orderly = False
        finally:
            with self._lock, handle:
                del self._open[handle]
                if is_orderly:
                    with suppress(OSError):
                        handle.shutdown(socket.SHUT_RDWR)
