"""Three services are stopped: obedient ones, and with one among them that ignores SIGTERM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from figures import AtMost, Row, Unit, median
from ours import Ours, kept
from peers import Peer
from scope import Scope
from world import Task, World, gone

_MS: Final = Unit.MILLISECONDS
_TIMEOUT: Final = 2.0


def measure(scope: Scope) -> Iterator[Row]:
    rounds = scope.rounds(5, 2)
    peers = scope.beside(lambda peer: median([_peer(peer, stubborn=False) for _ in range(3)]))
    keepers = median([asyncio.run(_keepers()) for _ in range(rounds)])
    yield Row("stop three services that obey, the keepers alone", _MS, keepers, AtMost(100), rounds=rounds)
    ours = median([_command(stubborn=False) for _ in range(rounds)])
    yield Row("`flawless stop` of three services that obey, the whole command", _MS, ours, None, "", peers, rounds)
    once = scope.rounds(3, 1)
    stubborn = scope.beside(lambda peer: _peer(peer, stubborn=True))
    last = median([_command(stubborn=True) for _ in range(once)])
    what = "`flawless stop`, one ignores SIGTERM, stop_timeout 2 s"
    yield Row(what, _MS, last, AtMost(_TIMEOUT * 1000 + 500), "2000 ms", stubborn, once, reason=_COMMAND)


_COMMAND: Final = "the two seconds are the service's own, and a third of a second is the command's start and end."


def _tasks(world: World, *, stubborn: bool) -> list[Task]:
    last = ("--on-term", "ignore") if stubborn else ()
    return [
        world.service(name, *options, stop_timeout=_TIMEOUT) for name, options in (("a", ()), ("b", ()), ("c", last))
    ]


async def _keepers() -> float:
    """All three at once, as `flawless stop` orders it."""
    with World.made() as world:
        keepers = await asyncio.gather(*(kept(world, task) for task in _tasks(world, stubborn=False)))
        pids = world.events.all("ready", 3)
        began = time.perf_counter()
        await asyncio.gather(*(keeper.stop() for keeper in keepers))
        gone(pids.values())
        return (time.perf_counter() - began) * 1000


def _command(*, stubborn: bool) -> float:
    with World.made() as world:
        ours = Ours(world, _tasks(world, stubborn=stubborn))
        ours.run("start")
        pids = world.events.all("ready", 3)
        began = time.perf_counter()
        ours.run("stop")
        gone(pids.values())
        return (time.perf_counter() - began) * 1000


def _peer(peer: type[Peer], *, stubborn: bool) -> float:
    """Raises TooSlowError for one that leaves a service behind."""
    with World.made() as world:
        contender = peer(world, _tasks(world, stubborn=stubborn))
        contender.begin()
        contender.start()
        pids = world.events.all("ready", 3)
        began = time.perf_counter()
        contender.stop()
        gone(pids.values(), limit=10)
        return (time.perf_counter() - began) * 1000
