"""From the outbox into PostgreSQL: exactly once, whoever drains and whenever they are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from flawless.core.clock import SystemClock
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.incidents import IncidentBook
from flawless.incidents.incident import EventType
from flawless.incidents.reading import IdRange, Query
from flawless.incidents.rules import opening_of
from incidents.conftest import MakeBook, failure
from support.postgres import Postgres, execute

pytestmark = pytest.mark.anyio

DRAINER = """
import asyncio, sys
from pathlib import Path
from flawless.core.clock import SystemClock
from flawless.core.secret import Secret
from flawless.incidents import IncidentBook
folder, url = sys.argv[1:]
book = IncidentBook(
    Path(folder), stack="shop", url=lambda: Secret(url), redact=lambda tree: tree, clock=SystemClock()
)
print("begun", flush=True)
left = asyncio.run(book.drain(30.0))
print(left, flush=True)
"""
HEAVY = ("sqlalchemy", "alembic", "asyncpg", "filelock", "click", "pydantic")


def write_many(book: IncidentBook, count: int, name: str = "n") -> list[str]:
    """Incidents of `count` different faults."""
    return [str(book.open_for(failure(cause=f"service {name}{number}x exited"), "run")) for number in range(count)]


def started(folder: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", DRAINER, str(folder), url], stdout=subprocess.PIPE, text=True)


def drain_for(seconds: float, folder: Path, url: str) -> None:
    """A drainer of its own, killed when it is not done by then."""
    with started(folder, url) as drainer:
        assert drainer.stdout is not None
        assert drainer.stdout.readline() == "begun\n"
        try:
            drainer.wait(seconds)
        except subprocess.TimeoutExpired:
            drainer.kill()


def all_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


async def ids_in(url: str) -> tuple[list[str], list[str]]:
    """Of incidents and of events, sorted."""
    connection = await asyncpg.connect(url)
    try:
        incidents = await connection.fetch("SELECT id, occurrences FROM flawless.ops_incident ORDER BY id")
        events = await connection.fetch("SELECT id FROM flawless.ops_incident_event ORDER BY id")
        assert {row["occurrences"] for row in incidents} <= {1}
        return [str(row["id"]) for row in incidents], [str(row["id"]) for row in events]
    finally:
        await connection.close()


async def test_what_is_written_with_the_database_down_arrives_when_it_is_back(
    make_book: MakeBook, migrated_url: str, refused_url: str
) -> None:
    """Nothing is lost while it is refused, and the drain says how much waits and why."""
    down = make_book(refused_url)
    written = write_many(down, 30)
    assert await down.drain(2.0) == 30
    assert down.unavailable is not None
    assert down.unavailable.reason is Reason.DB_REFUSED
    assert await make_book(migrated_url).drain(2.0) == 0
    assert (await ids_in(migrated_url))[0] == sorted(written)


async def test_a_drainer_killed_at_any_moment_doubles_and_loses_nothing(
    make_book: MakeBook, migrated_url: str, tmp_path: Path
) -> None:
    """Ten rounds of 500 incidents, the drainer killed a little later each time: each is there exactly once."""
    book = make_book()
    written: list[str] = []
    for round_ in range(10):
        written += write_many(book, 500, f"round{round_}n")
        await asyncio.to_thread(drain_for, 0.1 + round_ * 0.04, tmp_path / "outbox", migrated_url)
    assert await make_book(migrated_url).drain(30.0) == 0
    incidents, events = await ids_in(migrated_url)
    assert incidents == sorted(written)
    assert events == sorted(written)


async def test_killed_between_commit_and_removal_replays_harmlessly(
    make_book: MakeBook, migrated_url: str, tmp_path: Path
) -> None:
    """The same segments again, as a drainer leaves them that dies after its COMMIT."""
    book = make_book(migrated_url)
    written = write_many(book, 5)
    book.tell(UUID(written[0]), EventType.NOTE, "a note")
    kept = {path: path.read_bytes() for path in (tmp_path / "outbox").glob("*.jsonl")}
    await book.drain(2.0)
    before = await ids_in(migrated_url)
    for path, data in kept.items():
        path.write_bytes(data)
    assert await book.drain(2.0) == 0
    assert await ids_in(migrated_url) == before


async def test_two_drainers_and_a_writer_at_once(make_book: MakeBook, migrated_url: str, tmp_path: Path) -> None:
    """Each record once, though both drain the same outbox while it is written to."""
    written = write_many(make_book(), 300)
    drainers = [started(tmp_path / "outbox", migrated_url) for _ in range(2)]
    try:
        written += await asyncio.to_thread(write_many, make_book(), 200, "late")
        for drainer in drainers:
            said, _ = await asyncio.to_thread(drainer.communicate, timeout=60)
            assert drainer.returncode == 0, said
    finally:
        for drainer in drainers:
            drainer.kill()
            drainer.wait()
    assert await make_book(migrated_url).drain(10.0) == 0
    assert (await ids_in(migrated_url))[1] == sorted(written)


async def test_a_fault_that_another_machine_has_open_is_counted_there(
    make_book: MakeBook, migrated_url: str, tmp_path: Path
) -> None:
    """Two machines of one stack: one open incident, and the id given out here still leads to it."""
    here = make_book(migrated_url)
    there = IncidentBook(
        tmp_path / "elsewhere",
        stack="shop",
        url=lambda: Secret(migrated_url),
        redact=lambda tree: tree,
        clock=SystemClock(),
    )
    first, second = there.open_for(failure(), "one"), here.open_for(failure(), "two")
    assert await there.drain(2.0) == await here.drain(2.0) == 0
    async with here.opened() as opened:
        [story] = await opened.store.stories(IdRange.of(str(second)))
    assert (str(story.incident.id), story.incident.occurrences) == (first, 2)
    assert here.open_for(failure(), "three") == first


async def test_what_was_resolved_elsewhere_is_known_after_a_drain(make_book: MakeBook, migrated_url: str) -> None:
    """The counts for `status` follow the database."""
    book = make_book(migrated_url)
    book.open_for(failure(), "one")
    await book.drain(2.0)
    assert book.counts() == {"open": 1, "critical": 1}
    await execute(migrated_url, "UPDATE flawless.ops_incident SET resolved_at = now()")
    book.open_for(failure("DEPLOY_INTERRUPTED", "interrupted"), "two")
    await book.drain(2.0)
    assert book.counts() == {"open": 1, "critical": 0}


async def test_a_good_deploy_ends_what_failed_deploys_of_this_stack_had_opened(
    make_book: MakeBook, migrated_url: str, tmp_path: Path
) -> None:
    """Not what another stack has open, nor what no deploy opened."""
    ours, theirs = make_book(migrated_url), make_book(migrated_url, stack="blog")
    for code in ("DB_REFUSED", "SERVICE_EXITED", "DEPLOY_KILLED"):
        ours.open_for(failure(code), "20261123T141502Z-3f9c2a")
    held = str(ours.open(opening_of(failure("SERVICE_GAVE_UP"), stack="shop")))
    await ours.drain(2.0)
    foreign = IncidentBook(
        tmp_path / "blog", stack="blog", url=theirs._url, redact=lambda tree: tree, clock=SystemClock()
    ).open_for(failure(), "20261123T141502Z-ffffff")
    ours.resolve_for("20261123T150000Z-aaaaaa")
    await ours.drain(2.0)
    await IncidentBook(
        tmp_path / "blog", stack="blog", url=theirs._url, redact=lambda tree: tree, clock=SystemClock()
    ).drain(2.0)
    async with ours.opened() as opened:
        left = await opened.store.page(Query(10))
    assert {str(incident.id) for incident in left} == {held, foreign}


async def test_with_the_database_down_the_outbox_tells_the_story(make_book: MakeBook, refused_url: str) -> None:
    """Whole, with events; and why it is not the database's."""
    book = make_book(refused_url)
    id_ = book.open_for(failure(), "one")
    book.tell(UUID(id_), EventType.NOTE, "looking", {"by": "ada"})
    async with book.opened() as opened:
        assert opened.because is not None
        [story] = await opened.store.stories(IdRange.of(str(id_)[:20]))
    assert [event.message for event in story.events][1:] == ["looking"]


async def test_without_our_tables_records_wait(make_book: MakeBook, database_url: str) -> None:
    """A database that was never deployed to is no error: the reason is said, the outbox keeps."""
    book = make_book(database_url)
    write_many(book, 2)
    assert await book.drain(2.0) == 2
    assert book.unavailable is not None
    assert book.unavailable.reason is Reason.DB_TABLE_MISSING


async def test_a_silent_database_costs_no_more_than_the_limit(
    make_book: MakeBook, spare_postgres: Postgres, tmp_path: Path
) -> None:
    """A frozen server: the drain gives up in time and everything waits."""
    import signal

    spare_postgres.start()
    await spare_postgres.ready()
    book = make_book(spare_postgres.url)
    write_many(book, 2)
    spare_postgres.tell(signal.SIGSTOP)
    began = time.monotonic()
    assert await book.drain(0.5) == 2
    assert time.monotonic() - began < 2.0


async def test_nothing_written_holds_a_secret(make_book: MakeBook, tmp_path: Path) -> None:
    """Summary, details, steps, notes and who resolved pass the redactor before they reach the disk."""
    canary = "c4nary-s3cret"

    def redact(tree: object) -> object:
        match tree:
            case str():
                return tree.replace(canary, "****")
            case dict():
                return {redact(key): redact(value) for key, value in tree.items()}
            case list():
                return [redact(item) for item in tree]
        return tree

    book = make_book(redact=redact)
    told = {**failure(cause=f"refused {canary}"), "evidence": (canary,), "next_steps": (f"psql {canary}",)}
    id_ = UUID(book.open_for(told, "run"))
    book.tell(id_, EventType.NOTE, canary, {canary: [canary]})
    book.resolve(id_, canary, by=canary)
    assert canary not in all_text(tmp_path)


async def test_a_full_disk_does_not_hide_the_failure(make_book: MakeBook, tmp_path: Path) -> None:
    """No folder can be made where a file stands: there is no incident, and the deploy goes on to its report."""
    (tmp_path / "outbox").write_text("in the way")
    assert make_book().open_for(failure(), "run") is None
    make_book().resolve_for("run")


def test_an_empty_outbox_and_the_counts_import_nothing_heavy(tmp_path: Path) -> None:
    """What every `status` and every deploy without a change pays for."""
    program = (
        "import asyncio, sys; from pathlib import Path; from flawless.incidents import IncidentBook;"
        "from flawless.core.clock import SystemClock;"
        "book = IncidentBook(Path(sys.argv[1]), stack='s', url=lambda: None, redact=lambda t: t, clock=SystemClock());"
        "assert asyncio.run(book.drain(2.0)) == 0; assert book.counts() == {'open': 0, 'critical': 0};"
        "book.resolve_for('run'); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "outbox")], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(done.stdout.split())
