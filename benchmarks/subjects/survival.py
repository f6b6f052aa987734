"""Who keeps the services is killed, and services leave processes behind: how many copies, how many left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from figures import AtMost, Row, Unit
from flawless.adapters.keeper.client import Keeper
from ours import child, kept, spec
from peers import Peer
from scope import Scope
from world import TooSlowError, World, gone, is_alive, kill, mentioning

_AT_ONCE: Final = 10


def measure(scope: Scope) -> Iterator[Row]:
    rounds = scope.rounds(100, 10)
    copies, lost = asyncio.run(_keepers_killed(rounds))
    peers = scope.beside(_peer_killed, lambda peer: peer.respawns)
    what = f"keeper killed (-9) {rounds} times and asked for again: rounds without exactly one copy, the same process"
    note = "a peer: its daemon killed and started again once, copies beside the one, or none"
    yield Row(what, Unit.COUNT, copies, AtMost(0), peers=peers, rounds=rounds, note=note)
    yield Row("... lines lost, torn or doubled meanwhile", Unit.COUNT, lost, None, rounds=rounds)
    for session, where in (("same", "in the group"), ("own", "in a session of its own")):
        left = asyncio.run(_grandchildren(rounds, session))
        peers = scope.beside(partial(_peer_grandchild, session=session))
        what = f"grandchild that ignores SIGTERM, {where}: left after stop"
        yield Row(what, Unit.COUNT, left, AtMost(0), peers=peers, rounds=rounds, note="a peer: one round")


async def _keepers_killed(rounds: int) -> tuple[int, int]:
    """Of a service that prints all the time."""
    with World.made() as world:
        task = world.printer("web", 10_000_000, pause=0.0005)
        keeper = await kept(world, task)
        _, pid = world.events.next("ready", "web")
        world.go()
        wrong = 0
        for _ in range(rounds):
            kill(keeper.record.keeper.pid)
            gone([keeper.record.keeper.pid])
            keeper = await Keeper.spawn(spec(world, task))
            wrong += child(keeper) != pid or _copies(world, "web") != [pid]
        await keeper.stop()
        return wrong, _missing(world.folder / "keepers" / "logs")


def _missing(logs: Path) -> int:
    """Lines between the first and the last that are not there once, whole."""
    lines = [line for path in sorted(logs.glob("*.log")) for line in path.read_bytes().splitlines()]
    whole = {int(line[:14]) for line in lines if len(line) == 99 and line[:14].isdigit()}
    return max(whole) + 1 - len(whole) + len(lines) - len(whole)


def _copies(world: World, name: str) -> list[int]:
    """The processes of a service."""
    return [pid for pid in mentioning(f"\0{name}\0{world.events.path}") if is_alive(pid)]


def _peer_killed(peer: type[Peer]) -> float:
    with World.made() as world:
        contender = peer(world, [world.service("web")])
        contender.begin()
        contender.start()
        world.events.next("ready", "web")
        kill(contender.root)
        gone([contender.root])
        contender.begin()
        contender.start()
        with contextlib.suppress(TooSlowError):  # the old one goes on, and no other is started
            world.events.next("ready", "web", limit=2)
        return abs(len(_copies(world, "web")) - 1)


async def _grandchildren(rounds: int, session: str) -> int:
    left = 0
    for _ in range(rounds // _AT_ONCE):
        with World.made() as world:
            left += await _batch(world, session)
    return left


async def _batch(world: World, session: str) -> int:
    names = [f"web{number}" for number in range(_AT_ONCE)]
    tasks = [world.service(name, "--grandchild", session, stop_timeout=0.2) for name in names]
    keepers = await asyncio.gather(*(kept(world, task) for task in tasks))
    ready = world.events.all("ready", 2 * _AT_ONCE)
    await asyncio.gather(*(keeper.stop() for keeper in keepers))
    return sum(is_alive(ready[f"{name}-below"]) for name in names)


def _peer_grandchild(peer: type[Peer], session: str) -> float:
    with World.made() as world:
        contender = peer(world, [world.service("web", "--grandchild", session, stop_timeout=1.0)])
        contender.begin()
        contender.start()
        _, below = world.events.next("ready", "web-below")
        pid = next(each for each in _copies(world, "web"))
        contender.stop()
        gone([pid])
        with contextlib.suppress(TooSlowError):
            gone([below], limit=2)
        return int(is_alive(below))
