"""What it costs to have three services kept: memory, and processor time while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from figures import AtMost, Row, Unit
from ours import Ours
from peers import Peer
from scope import Scope
from world import World, cpu, pss, until

_NAMES: Final = ("a", "b", "c")


def measure(scope: Scope) -> Iterator[Row]:
    seconds = scope.rounds(60, 2)
    peers = scope.beside(lambda peer: _peer(peer, scope.rounds(5, 2)))
    heaviest, together, share = _ours(seconds)
    weights = {name: weight for name, (weight, _) in peers.items()}
    shares = {name: used for name, (_, used) in peers.items()}
    yield Row("the heaviest of three keepers, PSS", Unit.MEGABYTES, heaviest, AtMost(7))
    yield Row("everything of ours with three services, PSS", Unit.MEGABYTES, together, AtMost(56), peers=weights)
    yield Row(f"processor time while idle, {seconds} s", Unit.PERCENT, share, AtMost(0.5), peers=shares)


def _ours(seconds: float) -> tuple[float, float, float]:
    with World.made() as world:
        ours = Ours(world, [world.shell(name) for name in _NAMES])
        ours.run("start")
        keepers = ours.keepers()
        weights = [pss([keeper]) for keeper in keepers]
        used = _share(keepers, seconds)
        ours.run("stop")
        return max(weights), sum(weights), used


def _peer(peer: type[Peer], seconds: float) -> tuple[float, float]:
    with World.made() as world:
        contender = peer(world, [world.shell(name) for name in _NAMES])
        contender.begin()
        contender.start()
        services = world.events.all("born", len(_NAMES)).values()
        processes = contender.processes(services)
        _pass(1.0)
        measured = pss(processes), _share(processes, seconds)
        contender.stop()
        return measured


def _share(processes: list[int], seconds: float) -> float:
    """Percent of one core."""
    used, began = cpu(processes), time.monotonic()
    _pass(seconds)
    return 100 * (cpu(processes) - used) / (time.monotonic() - began)


def _pass(seconds: float) -> None:
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() > ends, "the time passes", limit=seconds + 1, pause=0.05)
