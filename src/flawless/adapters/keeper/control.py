"""The keeper's ear: a unix socket that takes JSON lines from any number of clients and waits for none of them."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Mapping

from flawless.adapters.keeper.endpoint import SOCKET, address
from flawless.adapters.keeper.loop import Loop
from flawless.adapters.keeper.spec import SpecInvalid, from_line, to_line

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any, Final

    Request = Callable[["Client", dict[str, Any]], None]

_LONGEST_REQUEST: Final = 8_388_608
_MOST_CLIENTS: Final = 200
_LONGEST_BACKLOG: Final = 1_048_576


class Client:
    """One connection. What it does not read is kept for it up to a limit, then it is dropped."""

    def __init__(self, loop: Loop, connection: socket.socket, request: Request) -> None:
        self._loop = loop
        self._connection = connection
        self._request = request
        self._incoming = b""
        self._outgoing = b""
        self.is_watching = False
        self.is_closed = False
        connection.setblocking(False)
        loop.watch(connection.fileno(), select.POLLIN, self._on_event)

    def send(self, answer: Mapping[str, Any]) -> None:
        """Queue one line; to a client that went away it goes nowhere."""
        if self.is_closed:
            return
        self._outgoing += to_line(answer)
        self._flush()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.forget(self._connection.fileno())
            self._connection.close()

    def _on_event(self, events: int) -> None:
        try:
            if events & select.POLLOUT:
                self._flush()
            elif not self._receive():
                self.close()
        except OSError:  # the client is gone, and with it whoever would read of it
            self.close()

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._outgoing) if self._outgoing else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._outgoing = self._outgoing[sent:]
        if len(self._outgoing) > _LONGEST_BACKLOG:
            self.close()
            return
        events = select.POLLIN | select.POLLOUT if self._outgoing else select.POLLIN
        self._loop.watch(self._connection.fileno(), events, self._on_event)

    def _receive(self) -> bool:
        try:
            data = self._connection.recv(65_536)
        except BlockingIOError:
            return True
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            self._understand(line)
        return bool(data) and len(self._incoming) <= _LONGEST_REQUEST

    def _understand(self, line: bytes) -> None:
        try:
            self._request(self, from_line(line))
        except SpecInvalid as error:
            self.send({"ok": False, "error": str(error)})


class Control:
    """The listening socket and its clients."""

    def __init__(self, folder: str, loop: Loop, request: Request) -> None:
        self._folder = folder
        self._loop = loop
        self._request = request
        self._clients: set[Client] = set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._bind()
        loop.watch(self._listening.fileno(), select.POLLIN, self._accept)

    def broadcast(self, message: Mapping[str, Any]) -> None:
        """To all who watch."""
        for client in list(self._clients):
            if client.is_watching:
                client.send(message)

    def close(self) -> None:
        """Take no more requests; those who are connected can still be answered."""
        self._loop.forget(self._listening.fileno())
        self._listening.close()
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._folder, SOCKET))

    def _bind(self) -> None:
        path = os.path.join(self._folder, SOCKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with address(self._folder) as short:
            self._listening.bind(short)
        os.chmod(path, 0o600)
        self._listening.listen(128)
        self._listening.setblocking(False)

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(OSError):  # the client gave up, or no descriptor is left: the next one is asked again
            connection, _ = self._listening.accept()
            self._clients = {client for client in self._clients if not client.is_closed}
            if len(self._clients) < _MOST_CLIENTS:
                self._clients.add(Client(self._loop, connection, self._request))
            else:
                connection.close()
