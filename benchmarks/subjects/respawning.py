"""A service is killed: how soon there is another, and how soon anybody knows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Final

from figures import AtMost, Row, Unit, median, percentile
from flawless.adapters.keeper.client import Keeper
from ours import child, kept
from peers import Peer
from scope import Scope
from world import TooSlowError, World, kill, launch, until

_BUSY: Final = 4


def measure(scope: Scope) -> Iterator[Row]:
    rounds = scope.rounds(100, 10)
    peers = scope.beside(lambda peer: _peer(peer, scope.rounds(5, 2)), lambda peer: peer.respawns)
    taken = _ours(rounds)
    yield Row("service killed -> new pid, median", _MS, median(taken), AtMost(20), peers=peers, rounds=rounds)
    yield Row("... p99", _MS, percentile(taken, 0.99), AtMost(100), rounds=rounds)
    for busy, limit, when in ((0, 5, "idle"), (_BUSY, 50, f"with {_BUSY} busy loops")):
        noticed = asyncio.run(_noticed(rounds, busy))
        note = f"median {median(noticed):.2f} ms"
        what = f"death noticed by who watches, {when}, p99"
        yield Row(what, _MS, percentile(noticed, 0.99), AtMost(limit), rounds=rounds, note=note, reason=_TAIL)


_TAIL: Final = (
    "of a hundred rounds the worst one; it varies from run to run on a shared machine, the median is what the keeper "
    "itself needs."
)
_MS: Final = Unit.MILLISECONDS


def _ours(rounds: int) -> list[float]:
    """Killed again as soon as the next one runs."""
    with World.made() as world:
        keeper = asyncio.run(kept(world, world.shell("web")))
        pid = world.events.next("born")[1]
        taken = []
        for _ in range(rounds):
            seconds, pid = _replaced(world, pid)
            taken.append(seconds * 1000)
        asyncio.run(keeper.stop())
        return taken


def _peer(peer: type[Peer], rounds: int) -> float:
    """At its best: runit and s6 start at once only what has lived for a second."""
    with World.made() as world:
        contender = peer(world, [world.shell("web")])
        contender.begin()
        contender.start()
        pid = world.events.next("born")[1]
        taken = []
        for _ in range(rounds):
            _rest(1.1)
            seconds, pid = _replaced(world, pid)
            taken.append(seconds * 1000)
        contender.stop()
        return median(taken)


def _replaced(world: World, pid: int) -> tuple[float, int]:
    began = time.perf_counter()
    kill(pid)
    _, new = world.events.next("born")
    return time.perf_counter() - began, new


def _rest(seconds: float) -> None:
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() > ends, "the time passes", pause=0.01)


async def _noticed(rounds: int, busy: int) -> list[float]:
    """Milliseconds from the kill to the record in which the process is another, as a watcher gets it."""
    with World.made() as world:
        keeper = await kept(world, world.shell("web"))
        for _ in range(busy):
            launch(["/bin/sh", "-c", f": {world.folder}; while :; do :; done"], world.folder)
        try:
            return [await _one_notice(keeper) for _ in range(rounds)]
        finally:
            await keeper.stop()


async def _one_notice(keeper: Keeper) -> float:
    async with asyncio.timeout(10), contextlib.aclosing(keeper.watch()) as records:
        seen = await anext(records)
        while seen.child is None:  # still between the last death and its successor
            seen = await anext(records)
        killed = child(keeper)
        began = time.perf_counter()
        kill(killed)
        async for seen in records:
            if seen.child is None or seen.child.pid != killed:
                return (time.perf_counter() - began) * 1000
    raise TooSlowError("the keeper ended before it told of the death")
