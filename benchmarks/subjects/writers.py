"""Eight processes, one log, rotation at 10 MB."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from figures import AtLeast, AtMost, Row, Unit
from flawless.adapters.log_files import files_of
from scope import Scope
from world import LIMIT, World, launch

_WRITERS: Final = 8
_CODE: Final = """
import sys
from flawless.adapters.log_files import LogFile
log = LogFile(sys.argv[1], "web", max_size=10_000_000)
sys.stdin.read(1)
for number in range(int(sys.argv[3])):
    log.write(b"%s %d %s\\n" % (sys.argv[2].encode(), number, b"x" * 80))
"""


def measure(scope: Scope) -> Iterator[Row]:
    each = scope.rounds(1_000_000, 80_000) // _WRITERS
    with World.made() as world:
        seconds = _write(world, each)
        wanted = {b"%d %d %s" % (who, number, b"x" * 80): 1 for who in range(_WRITERS) for number in range(each)}
        found = Counter(line for path in files_of(world.folder / "log", "web") for line in _lines(path))
    total = each * _WRITERS
    yield Row(f"{_WRITERS} processes, one log, {total:,} lines", Unit.RATE, total / seconds, AtLeast(50_000))
    wrong = sum(((found - Counter(wanted)) + (Counter(wanted) - found)).values())
    yield Row("... lines lost, torn or doubled", Unit.COUNT, wrong, AtMost(0))


def _write(world: World, each: int) -> float:
    """Seconds, from the word to begin until the last writer has ended."""
    reading, writing = os.pipe()
    variables = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        launch(
            [sys.executable, "-c", _CODE, world.folder / "log", str(who), str(each)],
            world.folder,
            stdin=reading,
            env=variables,
        )
        for who in range(_WRITERS)
    ]
    os.close(reading)
    began = time.perf_counter()
    os.write(writing, b"." * _WRITERS)
    os.close(writing)
    for writer in writers:
        assert writer.wait(2 * LIMIT) == 0
    return time.perf_counter() - began


def _lines(path: str | os.PathLike[str]) -> list[bytes]:
    return Path(path).read_bytes().splitlines()
