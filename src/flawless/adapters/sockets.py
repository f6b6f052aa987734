"""The machine's listening sockets and the processes that hold them.

Linux is asked for the sockets themselves (`listening`) and read in /proc/PID/fd (proc(5)), because that also tells the
user of a socket whose process we may not see; elsewhere psutil is asked.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from flawless.adapters.listening import Row, listening
from flawless.core.clock import to_stamp
from flawless.core.port import Listener, Owner


class SystemSockets:
    """What this machine says now; nothing is kept between two questions."""

    def listeners(self, port: int, likely: Collection[int] = ()) -> Sequence[Listener]:
        if sys.platform != "linux":
            return _by_psutil(lambda found: found.port == port)
        rows = [row for row in listening() if row.port == port]
        holders = _holders({row.inode for row in rows}, likely)
        unknown = {row.inode for row in rows} - set(holders)
        holders |= _holders(unknown, _all_pids()) if unknown else {}
        return [_listener(row, holders.get(row.inode, frozenset()), likely) for row in rows]

    def listeners_on(self, ports: Collection[int]) -> Sequence[Listener]:
        """Who listens on any of these ports: one reading of the tables for all of them."""
        if sys.platform != "linux":
            return _by_psutil(lambda found: found.port in ports)
        rows = [row for row in listening() if row.port in ports]
        holders = _holders({row.inode for row in rows}, _all_pids()) if rows else {}
        return [_listener(row, holders.get(row.inode, frozenset()), ()) for row in rows]

    def ports_of(self, pids: Collection[int]) -> Sequence[Listener]:
        if sys.platform != "linux":
            return _by_psutil(lambda found: bool(found.pids & set(pids)))
        rows = listening()
        holders = _holders({row.inode for row in rows}, pids)
        return [_listener(row, holders[row.inode], pids) for row in rows if row.inode in holders]


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _holders(inodes: Collection[int], pids: Iterable[int]) -> dict[int, frozenset[int]]:
    """Which of the processes hold which of the sockets; a process that ends meanwhile holds none."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[int]] = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for name in _links(pid):
                if name in wanted:
                    found.setdefault(wanted[name], set()).add(pid)
    return {inode: frozenset(holders) for inode, holders in found.items()}


def _links(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            yield str(descriptor.readlink())


def _listener(row: Row, pids: frozenset[int], known: Collection[int]) -> Listener:
    """Only a stranger needs to be described."""
    stranger = min(pids.difference(known), default=None)
    return Listener(row.address, row.port, pids, describe(stranger) if stranger else None, row.uid)


def describe(pid: int) -> Owner | None:
    """The process as a person needs to see it; None when it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            command = " ".join(process.cmdline()) or process.name()
            since = to_stamp(datetime.fromtimestamp(process.create_time(), UTC))
            return Owner(pid, command[:200], process.username(), since)
    except psutil.Error:
        return None


def _by_psutil(wanted: Callable[[Listener], bool]) -> Sequence[Listener]:
    import psutil

    found = [
        Listener(one.laddr.ip, one.laddr.port, frozenset([one.pid] if one.pid else []), None, None)
        for one in psutil.net_connections(kind="tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr
    ]
    found = [replace(one, owner=describe(min(one.pids))) if one.pids else one for one in found]
    return [one for one in found if wanted(one)]


def is_free(host: str, port: int) -> bool:
    """Whether this very address could be bound now; an address family the machine lacks counts as free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
    return True
