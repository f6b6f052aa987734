"""What the outbox was told is on disk, once, whatever happens to who writes and who reads."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flawless.core.ids import uuid7
from flawless.incidents.incident import EventType, Severity
from flawless.incidents.outbox import Outbox
from flawless.incidents.record import Record
from flawless.incidents.rules import opening_of
from incidents.conftest import failure

WRITER = """
import sys
from pathlib import Path
from flawless.core.clock import SystemClock
from flawless.incidents import IncidentBook
book = IncidentBook(Path(sys.argv[1]), stack="s", url=lambda: None, redact=lambda tree: tree, clock=SystemClock())
for number in range(int(sys.argv[3])):
    failure = {"code": "DB_REFUSED", "cause": f"writer {sys.argv[2]} n{number}x", "evidence": [], "next_steps": []}
    print(book.open_for(failure, "run"), flush=True)
"""


PROGRAM = (sys.executable, "-c", WRITER)


def record(text: str = "so", severity: Severity = Severity.CRITICAL) -> Record:
    now = datetime.now(UTC)
    opening = opening_of(failure(cause=text), stack="shop", severity=severity)
    return replace(Record(uuid7(now), now, EventType.DETECTED, text, severity), opening=opening)


def full(count: int) -> Record:
    return record(f"dropped {count}")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox", on_drop=full, segment_size=2000)


def test_records_come_back_as_they_were_and_in_order(outbox: Outbox) -> None:
    """Over several segments."""
    records = [record(f"number {number}") for number in range(20)]
    for one in records:
        outbox.append([one])
    assert list(outbox.records()) == records
    assert outbox.count() == 20
    assert [one for segment in outbox.seal() for one in segment.records()] == records


def test_a_torn_last_record_is_dropped_and_never_an_earlier_one(outbox: Outbox, tmp_path: Path) -> None:
    """Cut at every byte of the last line: those before are whole, and the next one does not join the rest."""
    first, second, third = record("first"), record("second"), record("third")
    outbox.append([first])
    [path] = (tmp_path / "outbox").glob("*.jsonl")
    whole = path.read_bytes()
    line = second.to_line()
    for cut in range(0, len(line), 7):
        path.write_bytes(whole + line[:cut])
        assert list(outbox.records()) == [first]
        outbox.append([third])
        assert list(outbox.records()) == [first, third]


def test_blocks_of_zeros_left_by_a_power_cut_are_passed_over(outbox: Outbox, tmp_path: Path) -> None:
    """Whether or not the line's end made it to the disk."""
    first, second = record("first"), record("second")
    outbox.append([first])
    [path] = (tmp_path / "outbox").glob("*.jsonl")
    for left in (b"\0" * 100, b"\0" * 100 + b"\n"):
        path.write_bytes(first.to_line() + left)
        outbox.append([second])
        assert list(outbox.records()) == [first, second]


def test_what_is_written_after_sealing_is_in_another_segment(outbox: Outbox) -> None:
    """So a drainer may remove what it has read."""
    outbox.append([record("first")])
    sealed = outbox.seal()
    late = record("late")
    outbox.append([late])
    for segment in sealed:
        segment.remove()
    assert list(outbox.records()) == [late]


def test_an_empty_outbox_is_not_written_to(tmp_path: Path) -> None:
    """Looking for something to drain makes no folder and no lock."""
    outbox = Outbox(tmp_path / "outbox", on_drop=full)
    assert (outbox.seal(), outbox.count(), list(tmp_path.iterdir())) == ([], 0, [])


def test_files_are_for_their_owner_alone(outbox: Outbox, tmp_path: Path) -> None:
    """Folders 0700, files 0600."""
    outbox.append([record()])
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "outbox").iterdir()} == {0o600}


def test_at_its_limit_the_oldest_information_goes_first_and_an_incident_says_so(tmp_path: Path) -> None:
    """INFO before WARN before CRITICAL; what is left is under the limit."""
    outbox = Outbox(tmp_path / "outbox", on_drop=full, limit=40_000, segment_size=2000)
    order = [Severity.CRITICAL, Severity.INFO, Severity.WARN]
    records = [record(f"{order[number % 3]} {number}", order[number % 3]) for number in range(120)]
    for one in records:
        outbox.append([one])
    left = list(outbox.records())
    said = [one for one in left if one.message.startswith("dropped")]
    kept = {severity: [one for one in left if one.severity is severity] for severity in Severity}
    assert said
    assert len(kept[Severity.CRITICAL]) == 40 + len(said)
    assert len(kept[Severity.WARN]) > len(kept[Severity.INFO])
    assert kept[Severity.INFO] == [one for one in records if one.severity is Severity.INFO][-len(kept[Severity.INFO]) :]
    assert sum(path.stat().st_size for path in (tmp_path / "outbox").glob("*.jsonl")) <= 40_000
    dropped = sum(int(one.message.split()[1]) for one in said)
    assert dropped == len(records) + len(said) - len(left)


def test_a_full_disk_is_said_and_leaves_no_half_record(outbox: Outbox, tmp_path: Path) -> None:
    """The caller gets the error, the file what it had before. (A limit on the size of files tears the line.)"""
    first = record("first")
    outbox.append([first])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(first.to_line()) + 50, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            outbox.append([record("second")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [path] = (tmp_path / "outbox").glob("*.jsonl")
    assert path.read_bytes() == first.to_line()


@contextmanager
def writers(folder: Path, names: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), name, str(count)], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_several_processes_write_at_once_and_none_loses_a_record(tmp_path: Path) -> None:
    """Four writers: every id that was given out is there, once."""
    with writers(tmp_path / "outbox", "abcd", 100) as processes:
        given = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    found = [str(one.id) for one in Outbox(tmp_path / "outbox", on_drop=full).records()]
    assert len(given) == 400
    assert sorted(found) == sorted(given)


def test_a_writer_that_is_killed_loses_nothing_it_was_promised(tmp_path: Path) -> None:
    """Killed at some record, twenty times: what it printed is there, and at most the one it was at besides."""
    outbox = Outbox(tmp_path / "outbox", on_drop=full)
    given: list[str] = []
    for number in range(20):
        with writers(tmp_path / "outbox", chr(97 + number), 10_000) as [process]:
            assert process.stdout is not None
            given += [process.stdout.readline().strip() for _ in range(1 + number)]
            process.kill()
            given += process.stdout.read().split("\n")[:-1]
    found = [str(one.id) for one in outbox.records()]
    assert len(found) == len(set(found))
    assert set(given) <= set(found)
    assert len(found) - len(set(given)) <= 20
