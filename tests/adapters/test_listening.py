"""Linux's listening sockets, by both ways of asking for them."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from flawless.adapters import listening
from flawless.adapters.listening import Row, by_diag, by_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag and /proc/net are Linux's")


def bound(family: socket.AddressFamily, host: str) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.bind((host, 0))
    opened.listen()
    return opened


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ],
)
def test_both_ways_see_the_same_socket(family: socket.AddressFamily, host: str) -> None:
    """The kernel's diagnosis and its tables give the address, port, user and inode of a listening socket alike."""
    with bound(family, host) as opened:
        wanted = Row(host, opened.getsockname()[1], os.getuid(), os.fstat(opened.fileno()).st_ino)
        assert wanted in by_diag()
        assert wanted in by_table()


def test_a_mapped_address_is_the_ipv4_one() -> None:
    """What Java binds as ::ffff:127.0.0.1 answers on 127.0.0.1, and is said to."""
    with bound(socket.AF_INET6, "::ffff:127.0.0.1") as opened:
        port = opened.getsockname()[1]
        assert [row.address for row in by_diag() if row.port == port] == ["127.0.0.1"]
        assert [row.address for row in by_table() if row.port == port] == ["127.0.0.1"]


def test_a_connection_is_no_listener() -> None:
    """Only sockets that listen are named."""
    with bound(socket.AF_INET, "127.0.0.1") as server, socket.create_connection(server.getsockname()) as client:
        port = client.getsockname()[1]
        assert not [row for row in (*by_diag(), *by_table()) if row.port == port]


def test_the_tables_are_read_where_the_diagnosis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may forbid netlink sockets."""

    def refused() -> list[Row]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(listening, "by_diag", refused)
    with bound(socket.AF_INET, "127.0.0.1") as opened:
        assert opened.getsockname()[1] in {row.port for row in listening.listening()}
