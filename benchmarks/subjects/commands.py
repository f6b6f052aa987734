"""Commands that a person waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from figures import AtMost, Row, Unit, median
from ours import Ours, to_note
from peers import Peer
from scope import Scope
from world import Ran, World, run

_MODULES: Final = ("pydantic", "sqlalchemy", "alembic", "asyncpg", "rich", "httpx2", "psutil")
"""What takes long to import."""


def measure(scope: Scope) -> Iterator[Row]:
    rounds = scope.rounds(20, 2)
    with World.made() as world:
        tasks = [world.shell(name) for name in ("a", "b", "c")]
        ours = Ours(world, tasks)
        ours.run("start")
        bare = f"{_taken(lambda: run([sys.executable, '-c', ''], ours.folder), rounds):.0f} ms, a bare interpreter"
        peers = scope.beside(_peer, lambda peer: peer.status is not Peer.status)
        yield _verb("--help", AtMost(120), [ours.run("--help") for _ in range(rounds)], bare, {})
        yield _verb("status", AtMost(250), [ours.run("status", codes=()) for _ in range(rounds)], bare, peers)
        for verb in ("--help", "status"):
            yield _imports(ours, verb)
        ours.run("stop")


def _verb(verb: str, bar: AtMost, rans: Sequence[Ran], bound: str, peers: Mapping[str, float]) -> Row:
    taken = median([ran.seconds for ran in rans]) * 1000
    return Row(f"`flawless {verb}`", Unit.MILLISECONDS, taken, bar, bound, peers, len(rans), to_note(rans))


def _taken(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def _imports(ours: Ours, verb: str) -> Row:
    told = run([sys.executable, "-X", "importtime", "-m", "flawless", verb], ours.folder, codes=()).errors
    loaded = [line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")]
    heavy = sorted({name for name in loaded if name in _MODULES})
    note = f"{len(loaded)} modules in all; {', '.join(heavy) or 'none of ' + ', '.join(_MODULES)}"
    bar = AtMost(0) if verb == "--help" else None
    return Row(f"heavy libraries that `flawless {verb}` imports", Unit.COUNT, len(heavy), bar, note=note)


def _peer(peer: type[Peer]) -> float:
    with World.made() as world:
        contender = peer(world, [world.shell(name) for name in ("a", "b", "c")])
        contender.begin()
        contender.start()
        world.events.all("born", 3)
        return _taken(contender.status, 5)
