"""Deploys that fail before anything is started: how soon the reader knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from figures import AtMost, Row, Unit, median
from ours import Ours
from scope import Scope
from world import World, free_port

_FOLDERS: Final = 30
_PORTS: Final = 20
"""With what is asked of every stack these make 60 checks."""


def measure(scope: Scope) -> Iterator[Row]:
    yield _refused(scope.rounds(5, 1))
    yield _preflight(scope.rounds(7, 1))


def _refused(rounds: int) -> Row:
    with World.made() as world:
        ours = Ours(world)
        address = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        ours.write(f'name = "bench"\n[database]\nurl = "{address}"\n[timeouts]\ndatabase = "500ms"\n')
        taken = [_after_the_last_attempt(ours) for _ in range(rounds)]
    what = "database refused: from the last attempt to the written report"
    return Row(what, Unit.MILLISECONDS, median(taken), AtMost(100), rounds=rounds)


def _after_the_last_attempt(ours: Ours) -> float:
    """Milliseconds, by the run's own clock: the report is on disk when the run says that it has ended."""
    told = [json.loads(line) for line in ours.run("deploy", "--json-lines", codes=(1,)).output.splitlines()]
    [end] = [one for one in told if one["event"] == "run.ended"]
    assert Path(end["report"]).exists(), end
    return (float(end["elapsed"]) - _last_attempt(told)) * 1000


def _last_attempt(told: list[dict[str, Any]]) -> float:
    asked = [one for one in told if one["event"] == "check.asked" and one["phase"] == "DB_VALIDATE"]
    return float(asked[-1]["elapsed"])


def _preflight(rounds: int) -> Row:
    """Mostly folders and ports; a variable that is not set ends the run when all are asked."""
    with World.made() as world:
        ours = Ours(world)
        folders = [f"folder-{number}" for number in range(_FOLDERS)]
        for name in folders:
            (ours.folder / name).mkdir()
        services = [
            f'[services.s{number}]\nrole = "backend"\ncommand = ["sleep", "9"]\nport = {free_port()}\n'
            for number in range(_PORTS)
        ]
        ours.write(
            'name = "bench"\n[env]\nrequire = ["BENCH_NOT_SET"]\n'
            f"[paths]\nwritable = {json.dumps(folders)}\n" + "".join(services)
        )
        phases = [_precheck(ours) for _ in range(rounds)]
    count = len(phases[0]["checks"])
    taken = median([phase["duration_ms"] for phase in phases])
    return Row(f"preflight with {count} checks", Unit.MILLISECONDS, taken, AtMost(300), rounds=rounds)


def _precheck(ours: Ours) -> dict[str, Any]:
    ours.run("deploy", codes=(1,))
    [phase] = [one for one in ours.report()["phases"] if one["name"] == "PRECHECK"]
    return dict(phase)
