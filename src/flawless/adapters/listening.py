"""Linux's listening TCP sockets, each with its user and inode.

The kernel hands over the listening ones alone in 0.1 ms (sock_diag(7)). Its tables in /proc/net (proc(5)) take it 7 ms
each on a machine with much memory, because it walks through every bucket there could be; they are read where a
container forbids the other way.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = 10
"""The number of the state, in both."""

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = 16
_REQUEST: Final = "=BBxxI48x"
"""inet_diag_req_v2 of linux/inet_diag.h: family, protocol, states, and an id that names no socket in particular."""


@dataclass(frozen=True, slots=True)
class Row:
    """One listening socket."""

    address: str
    port: int
    uid: int
    inode: int


def listening() -> list[Row]:
    """Every listening TCP socket of this network namespace."""
    try:
        return by_diag()
    except OSError:  # a container may forbid it, a kernel may lack it
        return by_table()


def by_diag() -> list[Row]:
    """As the kernel's socket diagnosis says. Raises OSError where that is refused."""
    return [row for family in (socket.AF_INET, socket.AF_INET6) for row in _dump(family)]


def by_table() -> list[Row]:
    """As the tables in /proc say; a kernel without IPv6 has no second one."""
    rows: list[Row] = []
    for table in _TABLES:
        with suppress(FileNotFoundError):
            rows += [row for line in table.read_text("ascii").splitlines()[1:] for row in _table_row(line.split())]
    return rows


def _table_row(fields: list[str]) -> Iterator[Row]:
    if int(fields[3], 16) == _LISTEN:
        address, _, port = fields[1].partition(":")
        yield Row(_address(address), int(port, 16), int(fields[7]), int(fields[9]))


def _address(digits: str) -> str:
    """The kernel writes each 32-bit word of an address in the machine's own byte order."""
    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    return _text(b"".join(struct.pack("=I", word) for word in words))


def _dump(family: int) -> Iterator[Row]:
    wanted = struct.pack(_REQUEST, family, socket.IPPROTO_TCP, 1 << _LISTEN)
    header = struct.pack("=IHHII", _HEADER + len(wanted), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asked:
        asked.settimeout(1.0)
        asked.send(header + wanted)
        while True:
            for kind, body in _messages(asked.recv(65_536)):
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag refused")
                if kind == _DONE:
                    return
                yield _diag_row(body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages of one datagram (netlink(7)), each padded to four bytes."""
    while data:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[_HEADER:length]
        data = data[(length + 3) & ~3 :]


def _diag_row(body: bytes) -> Row:
    """An inet_diag_msg: family, ..., source port at 4, source address at 8, ..., uid at 64, inode at 68."""
    port = struct.unpack_from(">H", body, 4)[0]
    uid, inode = struct.unpack_from("=II", body, 64)
    return Row(_text(body[8:12] if body[0] == socket.AF_INET else body[8:24]), port, uid, inode)


def _text(packed: bytes) -> str:
    """Java binds IPv4 addresses as ::ffff:127.0.0.1; who connects to 127.0.0.1 ends there."""
    address = ipaddress.ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)
