"""The public name: found here, pinned, found by others alone, found by nobody; and what a resolver says on the wire."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from flawless.checks.public.name import LookUp, NameKnown
from flawless.core.check import Failed, Passed
from flawless.core.reason import Reason
from flawless.core.tunnel import Name
from support.keepers import free_port

pytestmark = pytest.mark.anyio

HOST = "app.example.org"
NXDOMAIN = 3
SERVFAIL = 2


class Resolver(asyncio.DatagramProtocol):
    """A DNS server on loopback: an address for A, a code, or no answer at all."""

    def __init__(self, address: str | None, code: int, *, is_mute: bool) -> None:
        self.asked: list[tuple[str, int]] = []
        self._address = address
        self._code = code
        self._is_mute = is_mute

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += data[at] + 1
        (kind,) = struct.unpack("!H", data[at + 1 : at + 3])
        self.asked.append((".".join(labels), kind))
        if self._is_mute:
            return
        found = [socket.inet_aton(self._address)] if self._address and kind == 1 else []
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | self._code, 1, len(found), 0, 0)
        answers = b"".join(struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + one for one in found)
        self._transport.sendto(head + data[12 : at + 5] + answers, addr)


@asynccontextmanager
async def resolver(
    address: str | None = None, code: int = 0, *, is_mute: bool = False
) -> AsyncIterator[tuple[str, Resolver]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: Resolver(address, code, is_mute=is_mute), local_addr=("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", server
    finally:
        transport.close()


def fails(code: int) -> LookUp:
    def answer(_: str) -> list[str]:
        raise socket.gaierror(code, "no")

    return answer


def check(here: LookUp, *resolvers: str, host: str = HOST, pinned: str | None = None) -> NameKnown:
    """`here` is what this machine's own resolver says."""
    return NameKnown(host, pinned, resolvers, host, look_up=here)


async def test_a_name_that_is_found_here() -> None:
    """Nobody else is asked; its addresses are told."""
    async with resolver("192.0.2.9") as (place, other):
        seen = await check(lambda _: ["192.0.2.1", "2001:db8::1"], place).look(2.0)
        assert other.asked == []
    assert seen.state is Name.RESOLVES
    assert seen.outcome == Passed((f"{HOST}: 192.0.2.1, 2001:db8::1",))


async def test_a_name_that_is_pinned_is_not_looked_up() -> None:
    """The manifest says where it is, before DNS does."""
    assert (await check(fails(socket.EAI_NONAME), pinned="127.0.0.1:8443").look(2.0)).state is Name.PINNED
    assert (await check(fails(socket.EAI_NONAME), host="192.0.2.1").look(2.0)).state is Name.RESOLVES


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_others_find_is_split(code: int) -> None:
    """Whatever this machine's error is."""
    async with resolver(code=NXDOMAIN) as (old, _), resolver("192.0.2.9") as (new, other):
        seen = await check(fails(code), old, new).look(2.0)
        assert other.asked == [(HOST, 1)]
    assert seen.state is Name.ELSEWHERE
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.PUBLIC_DNS_SPLIT
    assert seen.outcome.evidence[1:] == (f"{old}: no such name (NXDOMAIN)", f"{new}: 192.0.2.9")


@pytest.mark.parametrize(
    ("code", "said"), [(NXDOMAIN, "no such name (NXDOMAIN)"), (0, "it has no address")], ids=["NXDOMAIN", "no address"]
)
async def test_a_name_that_nobody_finds(code: int, said: str) -> None:
    """A resolver's own word, even where this machine's error is only for now; A and AAAA are asked for."""
    async with resolver(code=code) as (place, other):
        seen = await check(fails(socket.EAI_AGAIN), place).look(2.0)
        assert {kind for _, kind in other.asked} == ({1, 28} if code == 0 else {1})
    assert seen.state is Name.NOWHERE
    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.reason, seen.outcome.evidence[1]) == (Reason.PUBLIC_DNS, f"{place}: {said}")


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        (socket.EAI_AGAIN, Name.OFFLINE, Reason.HOST_OFFLINE),
        (socket.EAI_NONAME, Name.NOWHERE, Reason.PUBLIC_DNS),
    ],
)
async def test_nobody_answers(code: int, state: Name, reason: Reason) -> None:
    """An error for now and no resolver that answers: offline. This machine's own no is one."""
    async with resolver(is_mute=True) as (mute, _), resolver(code=SERVFAIL) as (broken, _):
        seen = await check(fails(code), mute, broken, f"127.0.0.1:{free_port()}").look(1.0)
    assert seen.state is state
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is reason
    assert [line.rpartition(": ")[2] for line in seen.outcome.evidence[1:]] == ["no answer"] * 3


async def test_an_empty_list_asks_nobody() -> None:
    """Then this machine alone decides."""
    seen = await check(fails(socket.EAI_NONAME)).look(1.0)
    assert seen.state is Name.NOWHERE
    assert isinstance(seen.outcome, Failed)
    assert len(seen.outcome.evidence) == 1


async def test_a_resolver_that_hangs_holds_nobody_up() -> None:
    """The limit holds, whoever hangs; the thread that does is none that anybody waits for."""
    done = threading.Event()

    def hang(_: str) -> list[str]:
        done.wait(30)
        return []

    before = time.monotonic()
    async with resolver(is_mute=True) as (mute, _):
        seen = await check(hang, mute).look(1.0)
    took = time.monotonic() - before
    try:
        assert seen.state is Name.OFFLINE
        assert took < 1.5
        assert [one.daemon for one in threading.enumerate() if one.name == f"look up {HOST}"] == [True]
    finally:
        done.set()


async def test_the_systems_own_resolver_tells_each_address_once() -> None:
    """It gives one an address and a kind of socket; `localhost` is in every hosts file."""
    seen = await NameKnown("localhost", None, (), "localhost").look(5.0)
    assert seen.state is Name.RESOLVES
    assert isinstance(seen.outcome, Passed)
    assert seen.outcome.evidence[0].count("127.0.0.1") == 1


async def test_what_is_no_name_is_not_found() -> None:
    """A label of 70 letters ends no check."""
    seen = await NameKnown(f"{'a' * 70}.example.org", None, (), "long").look(1.0)
    assert seen.state is Name.NOWHERE
