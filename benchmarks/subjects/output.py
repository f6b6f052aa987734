"""200,000 lines of 100 bytes from a service to the disk, each written by itself; rotated at 10 MB where that exists."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from figures import AtMost, Row, Unit, median
from ours import kept
from peers import Peer
from scope import Scope
from world import TooSlowError, World, launch, until

_WIDTH: Final = 100
_SECRETS: Final = tuple(f"canary-{number:04d}-of-the-benchmark" for number in range(20))
_REDACTED: Final = (
    "redaction is the slowest link, and shares the processors with the service that prints: between 1.3 and 1.9 times "
    "the bare file, by how fast that is on the day."
)


def measure(scope: Scope) -> Iterator[Row]:
    lines = scope.rounds(200_000, 50_000)
    rounds = scope.rounds(5, 1)
    # In turns, so that what else the machine does falls on both.
    pairs = [(_bare(lines), asyncio.run(_ours(lines))) for _ in range(rounds)]
    bare = median([seconds for seconds, _ in pairs])
    ours = median([seconds for _, (seconds, _) in pairs])
    peers = scope.beside(lambda peer: _peer(peer, lines))
    bound = f"{bare:.3f} s into a bare file"
    what = f"{lines:,} lines to the disk, 20 secrets redacted, rotated: times the bare file"
    times = {name: seconds / bare for name, (seconds, _) in peers.items()}
    yield Row(what, Unit.TIMES, ours / bare, AtMost(1.5), bound, times, rounds, f"{ours:.3f} s", _REDACTED)
    lost = max(abs(lines - count) for _, (_, count) in pairs)
    strayed = {name: float(abs(lines - count)) for name, (_, count) in peers.items()}
    yield Row("... lines lost or doubled", Unit.COUNT, lost, AtMost(0), peers=strayed, rounds=rounds)


def _bare(lines: int) -> float:
    with World.made() as world:
        path = world.folder / "bare.log"
        with path.open("wb") as file:
            launch(world.printer("web", lines).command, world.folder, stdout=file)
            world.events.next("ready", "web")
            began = time.perf_counter()
            world.go()
            world.events.next("written", "web")
        return time.perf_counter() - began


async def _ours(lines: int) -> tuple[float, int]:
    with World.made() as world:
        task = world.printer("web", lines)
        keeper = await kept(world, task, redact=_SECRETS)
        taken = _written(world, world.folder / "keepers" / "logs", lines)
        await keeper.stop()
        return taken, _count(world.folder / "keepers" / "logs")


def _peer(peer: type[Peer], lines: int) -> tuple[float, int]:
    with World.made() as world:
        contender = peer(world, [world.printer("web", lines)])
        contender.begin()
        contender.start()
        taken = _written(world, contender.logs, lines)
        contender.stop()
        return taken, _count(contender.logs)


def _written(world: World, logs: Path, lines: int) -> float:
    """Seconds from the first line until the last byte stands in a file; who loses some gets ten more, in vain."""
    world.events.next("ready", "web")
    began = time.perf_counter()
    world.go()
    world.events.next("written", "web")
    with contextlib.suppress(TooSlowError):
        until(lambda: _size(logs) >= lines * _WIDTH, "all is on the disk", limit=10, pause=0.005)
    return time.perf_counter() - began


def _files(logs: Path) -> Sequence[Path]:
    return [path for path in logs.rglob("*") if path.is_file() and path.name not in ("lock", "config", "state")]


def _size(logs: Path) -> int:
    return sum(path.stat().st_size for path in _files(logs))


def _count(logs: Path) -> int:
    """Lines that are there, each number once."""
    numbers = [line.rpartition(b" x")[0][-14:] for path in _files(logs) for line in path.read_bytes().splitlines()]
    return len({number for number in numbers if number.isdigit()})
