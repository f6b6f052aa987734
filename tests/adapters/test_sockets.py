"""Who listens where: on real sockets, also those of processes we may not see."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from flawless.adapters import sockets
from flawless.adapters.sockets import SystemSockets, describe, is_free
from flawless.core.port import Listener, Owner, answering

SYSTEM = SystemSockets()


@contextmanager
def listening(host: str, port: int = 0, *, only_v6: bool = True) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        one.bind((host, port))
        one.listen()
        yield int(one.getsockname()[1])


def addresses(found: Sequence[Listener]) -> set[str]:
    return {one.address for one in found}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "127.0.0.2"])
def test_each_address_is_seen_with_its_process(host: str) -> None:
    """On whichever address a port is held."""
    with listening(host) as port:
        [found] = SYSTEM.listeners(port)
        assert (found.address, found.port, found.pids, found.uid) == (host, port, frozenset({os.getpid()}), os.getuid())
        assert found in SYSTEM.ports_of([os.getpid()]) or found.owner is not None
        assert (host, port) in {(one.address, one.port) for one in SYSTEM.ports_of([os.getpid()])}
    assert SYSTEM.listeners(port) == []


def test_an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() -> None:
    """As Java binds it; who connects to 127.0.0.1 ends there."""
    with listening("::ffff:127.0.0.1", only_v6=False) as port:
        [found] = SYSTEM.listeners(port)
        assert found.address == "127.0.0.1"
        assert found.serves("127.0.0.1")


def test_a_connection_is_no_listener() -> None:
    """Only who listens can answer."""
    with listening("127.0.0.1") as port, socket.create_connection(("127.0.0.1", port)) as client:
        assert SYSTEM.listeners(client.getsockname()[1]) == []


def test_an_exact_address_comes_before_a_wildcard() -> None:
    """Who answers on 127.0.0.1 is not who listens on all addresses."""
    one = Listener("127.0.0.1", 1, frozenset({1}), None, 0)
    every = Listener("0.0.0.0", 1, frozenset({2}), None, 0)
    both = Listener("::", 1, frozenset({3}), None, 0)
    other = Listener("127.0.0.2", 1, frozenset({4}), None, 0)
    assert answering([every, one, both, other], ["127.0.0.1"]) == [one]
    assert answering([every, both, other], ["127.0.0.1"]) == [every, both]
    assert answering([other], ["127.0.0.1"]) == []
    assert answering([every, both], ["::1"]) == [both], "0.0.0.0 takes no IPv6"


def test_a_name_of_two_addresses_is_answered_on_either() -> None:
    """`localhost`: what listens on one of the two, and whoever else listens on the other."""
    four = Listener("127.0.0.1", 1, frozenset({1}), None, 0)
    six = Listener("::1", 1, frozenset({2}), None, 0)
    both = Listener("::", 1, frozenset({3}), None, 0)
    assert answering([four], ["127.0.0.1", "::1"]) == [four]
    assert answering([six, four], ["127.0.0.1", "::1"]) == [four, six]
    assert answering([both], ["127.0.0.1", "::1"]) == [both]


def test_the_likely_processes_are_found_without_looking_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at all is slow where there are many; a known one is not described."""

    def everybody() -> list[int]:
        raise AssertionError("looked at every process")

    monkeypatch.setattr(sockets, "_all_pids", everybody)
    with listening("127.0.0.1") as port:
        [found] = SYSTEM.listeners(port, [os.getpid()])
        assert found.owner is None
    assert SYSTEM.listeners(port, [os.getpid()]) == []


def test_a_stranger_is_described_as_a_person_needs_it() -> None:
    """Pid, command, user, since when."""
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as stranger:
        try:
            assert stranger.stdout is not None
            port = int(stranger.stdout.readline())
            [found] = SYSTEM.listeners(port, [os.getpid()])
        finally:
            stranger.kill()
    assert found.pids == {stranger.pid}
    assert found.owner is not None
    assert "socket.create_server" in found.owner.command
    assert len(found.owner.command) <= 200
    assert str(found).startswith(f"127.0.0.1:{port} is held by pid {stranger.pid} (")
    assert describe(stranger.pid) is None


def test_a_process_that_we_may_not_see_is_known_by_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel names the uid of a socket to everybody."""

    def forbidden(pid: int) -> Iterator[str]:
        raise PermissionError

    monkeypatch.setattr(sockets, "_links", forbidden)
    with listening("127.0.0.1") as port:
        [found] = SYSTEM.listeners(port)
    assert (found.pids, found.owner, found.uid) == (frozenset(), None, os.getuid())
    assert str(found) == f"127.0.0.1:{port} is held by a process we may not see (uid {os.getuid()})"


def test_a_holder_is_shown_on_one_line_also_on_ipv6() -> None:
    """As it stands in a report."""
    owner = Owner(7, "node x", "ann", "2026-11-23T14:15:02.123Z")
    shown = str(Listener("::1", 3000, frozenset({7}), owner, 1000))
    assert shown == "[::1]:3000 is held by pid 7 (node x), user ann, since 2026-11-23T14:15:02.123Z"
    assert str(Listener("::1", 3000, frozenset(), None, None)) == "[::1]:3000 is held by a process we may not see"


def test_a_socket_that_is_shared_has_all_its_holders() -> None:
    """A server with workers."""
    with listening("127.0.0.1") as port, ExitStack() as stack:
        found = socket.socket(fileno=os.dup(_descriptor(port)))
        stack.callback(found.close)
        child = subprocess.Popen(["sleep", "60"], pass_fds=[found.fileno()])
        try:
            [seen] = SYSTEM.listeners(port)
        finally:
            child.kill()
            child.wait()
    assert seen.pids == {os.getpid(), child.pid}


def _descriptor(port: int) -> int:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.getsockname()[1:2] == (port,):
                    return int(name)
        except (OSError, ValueError):
            continue
    raise AssertionError(f"nobody here listens on {port}")


@pytest.mark.parametrize(
    ("held", "asked", "free"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("0.0.0.0", "127.0.0.1", False),
        ("::1", "::1", False),
        ("::1", "127.0.0.1", True),
        ("127.0.0.1", "::1", True),
    ],
)
def test_an_address_is_free_when_it_could_be_bound(held: str, asked: str, *, free: bool) -> None:
    """Each address for itself, without the other family."""
    with listening(held) as port:
        assert is_free(asked, port) is free
    assert is_free(asked, port)


def test_an_address_the_machine_does_not_have_is_free() -> None:
    """Nobody can hold it."""
    assert is_free("192.0.2.1", 3000)


def test_elsewhere_the_portable_way_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sockets and processes, but for the uid."""
    with listening("127.0.0.1") as port:
        monkeypatch.setattr(sys, "platform", "darwin")
        [found] = SYSTEM.listeners(port)
        assert (found.address, found.pids, found.uid) == ("127.0.0.1", frozenset({os.getpid()}), None)
        assert found.owner is not None
        assert port in {one.port for one in SYSTEM.ports_of([os.getpid()])}
