# a script, no package
"""Incidents in numbers, as JSON: pages and stories of 1,000,000 rows, the cost of a write, 10,000 written and drained.

The server is one of the tests' own, without fsync; the outbox is on this disk, with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import asyncpg

from flawless.core.clock import SystemClock
from flawless.core.secret import Secret
from flawless.incidents import IncidentBook
from flawless.incidents.postgres import PostgresStore
from flawless.incidents.reading import IdRange, Query
from flawless.incidents.schema import OwnMigrations
from support.incidents import MANY
from support.postgres import Postgres, _folder

ROWS = 1_000_000
READS = 1000
WRITES = 10_000
DRAIN_FOR = """
import asyncio, sys
from pathlib import Path
from flawless.core.clock import SystemClock
from flawless.core.secret import Secret
from flawless.incidents import IncidentBook
book = IncidentBook(
    Path(sys.argv[1]), stack="bench", url=lambda: Secret(sys.argv[2]), redact=lambda tree: tree, clock=SystemClock()
)
asyncio.run(book.drain(60.0))
"""


def percentiles(samples: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(samples)
    share = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(int(len(ordered) * at), len(ordered) - 1)] * 1000, 2) for name, at in share.items()}


async def timed(question: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    samples = []
    for _ in range(READS):
        began = time.perf_counter()
        await question()
        samples.append(time.perf_counter() - began)
    return percentiles(samples)


async def reading(url: str) -> dict[str, Any]:
    """Pages from anywhere, stories of any."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    for statement in MANY:
        arguments = (ROWS,) if "$1" in statement else ()
        await connection.execute(statement, *arguments, timeout=600)
    store, chance = PostgresStore(connection), random.Random(1)  # noqa: S311  # the same rows each time

    def anywhere() -> UUID:
        return UUID(int=chance.randrange(1, ROWS))

    figures = {
        "first_page": await timed(lambda: store.page(Query(20))),
        "first_page_of_all": await timed(lambda: store.page(Query(20, resolved=True))),
        "page_from_anywhere": await timed(lambda: store.page(Query(20, resolved=True, before=anywhere()))),
        "story": await timed(lambda: store.stories(IdRange.of(str(anywhere())))),
    }
    await connection.close()
    return figures


def writing(folder: Path) -> dict[str, Any]:
    """With the database down. The bound: an append and an fsync of the same bytes."""
    book = IncidentBook(folder, stack="bench", url=lambda: None, redact=lambda tree: tree, clock=SystemClock())
    samples = []
    for number in range(WRITES):
        cause = f"service n{number}x exited with status 3"
        failure = {"code": "SERVICE_EXITED", "cause": cause, "evidence": ["it"], "next_steps": ["look"]}
        began = time.perf_counter()
        book.open_for(failure, "20261123T141502Z-3f9c2a")
        samples.append(time.perf_counter() - began)
    with (folder / "bound").open("ab", buffering=0) as file:
        bound = []
        for _ in range(1000):
            began = time.perf_counter()
            file.write(b"x" * 600)
            os.fsync(file.fileno())
            bound.append(time.perf_counter() - began)
    return {"write": percentiles(samples), "bare_fsync": percentiles(bound)}


async def draining(folder: Path, url: str) -> dict[str, Any]:
    """The drainer killed ten times on the way, then left alone."""
    killed = 0
    for number in range(10):
        argv = [sys.executable, "-c", DRAIN_FOR, str(folder), url]
        drainer = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
        try:
            await asyncio.wait_for(drainer.wait(), 0.25 + number * 0.02)
        except TimeoutError:
            drainer.kill()
            killed += await drainer.wait() < 0
    book = IncidentBook(folder, stack="bench", url=lambda: Secret(url), redact=lambda tree: tree, clock=SystemClock())
    before = book.waiting()
    began = time.perf_counter()
    left = await book.drain(60.0)
    took = time.perf_counter() - began
    connection = await asyncpg.connect(url)
    exactly_once = await connection.fetchval(
        "SELECT count(*) FILTER (WHERE occurrences = 1) FROM flawless.ops_incident WHERE details ->> 'stack' = 'bench'"
    )
    await connection.close()
    return {
        "written": WRITES,
        "each_exactly_once": exactly_once,
        "left": left,
        "drainers_killed": killed,
        "waiting_after_kills": before,
        "last_drain_s": round(took, 2),
    }


async def measure(url: str, folder: Path) -> dict[str, Any]:
    await OwnMigrations(lambda: Secret(url)).ensure_applied("bench", lambda _: None)
    written = await asyncio.to_thread(writing, folder)
    return {"ms": {**written, **await reading(url)}, "outbox": await draining(folder, url), "rows": ROWS}


def main() -> None:
    server, folder = Postgres(_folder()), Path(tempfile.mkdtemp(prefix="flawless-outbox-"))
    try:
        server.create()
        server.start()
        asyncio.run(server.ready())
        sys.stdout.write(json.dumps(asyncio.run(measure(server.url, folder)), indent=2) + "\n")
    finally:
        server.stop()
        shutil.rmtree(server.folder)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
