"""The write-ahead journal: what was told is there, a torn end costs only itself, a full disk stops no way back."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.errors import CommandFailed
from flawless.core.event import Event, Failure, Intended, PhaseEnded, PhaseStarted, RunEnded, Stamped
from flawless.core.reason import Reason
from flawless.deploy.journal import Journal, is_ended, read, to_line

ENDED = RunEnded("logs/x.json", None, None)


def stamped(event: Event, elapsed: float = 0.5) -> Stamped:
    return Stamped("2026-11-23T14:15:02.123Z", elapsed, event)


WALK = [
    stamped(PhaseStarted("PRECHECK")),
    stamped(Intended("start", "w\x1b[2Jeb", {"why": ["\u202e\n\x00", "\ud800"]})),
    stamped(PhaseEnded("PRECHECK", "passed", 1.0)),
]


class File:
    """A durable file in memory, whose disk can be full."""

    def __init__(self) -> None:
        self.data = b""
        self.synced: list[bool] = []
        self.error: int | None = None

    def append(self, data: bytes, *, sync: bool) -> None:
        if self.error is not None:
            raise OSError(self.error, "No space left on device")
        self.data += data
        self.synced.append(sync)


class Fleeting(Event):
    """An event that is told and not kept."""

    name = "fleeting"


def test_what_is_durable_is_written_and_what_must_be_on_disk_is_synced() -> None:
    """An event that is not durable is not there."""
    file = File()
    journal = Journal(file)
    for one in [*WALK, stamped(Fleeting())]:
        journal(one)
    assert read(file.data) == WALK
    assert file.synced == [False, True, False]


def test_a_record_is_one_line_of_ascii_whatever_stands_in_it() -> None:
    """A newline, an escape sequence or half a surrogate from outside breaks no line."""
    for one in WALK:
        line = to_line(one)
        assert line.isascii()
        assert line.count(b"\n") == 1
        assert json.loads(line)["event"] == one.event.name


@given(st.integers(min_value=0))
def test_a_journal_cut_anywhere_keeps_every_whole_record(cut: int) -> None:
    """A torn last record is dropped, never an earlier one."""
    lines = [to_line(one) for one in WALK]
    data = b"".join(lines)
    cut %= len(data) + 1
    whole = sum(len(b"".join(lines[: count + 1])) <= cut for count in range(len(lines)))
    assert read(data[:cut]) == WALK[:whole]


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 40,
        b"{}",
        b"[]",
        b"7",
        b"{",
        b'{"event":"of.the.future"}',
        b"[" * 100_000,
        b'{"event":"run.ended","at":"x"}',
    ],
)
def test_behind_a_record_that_cannot_be_read_nothing_is_believed(damage: bytes) -> None:
    """What stands before it is; a journal of another version, or a block of zeros, ends no later command."""
    assert read(to_line(WALK[0]) + damage + b"\n" + to_line(WALK[1])) == WALK[:1]


def test_a_run_has_ended_when_its_last_whole_record_says_so() -> None:
    """Not when it says so before something else, and not in a torn record."""
    end = to_line(stamped(ENDED))
    assert is_ended(to_line(WALK[0]) + end)
    assert is_ended(end + b'{"torn')
    assert not is_ended(end[:-1])
    assert not is_ended(end + to_line(WALK[0]))
    assert not is_ended(b"")
    assert not is_ended(b"\0" * 10 + b"\n")


@pytest.mark.parametrize(
    ("number", "code", "cause"),
    [
        (errno.ENOSPC, Reason.DISK_FULL, "the journal of this run cannot be written: the disk is full"),
        (errno.EDQUOT, Reason.DISK_FULL, "the journal of this run cannot be written: the disk is full"),
        (errno.EROFS, Reason.DISK_NOT_WRITABLE, "the journal of this run cannot be written"),
    ],
)
def test_what_cannot_be_written_down_must_not_be_done(number: int, code: Reason, cause: str) -> None:
    """The first record that does not fit is refused, with a code; those after it are written as can be."""
    file = File()
    journal = Journal(file)
    file.error = number
    with pytest.raises(CommandFailed) as refused:
        journal(WALK[1])
    assert (refused.value.code, refused.value.cause) == (code, cause)
    assert refused.value.evidence
    assert refused.value.next_steps
    journal(WALK[2])
    file.error = None
    journal(stamped(ENDED))
    assert read(file.data) == [stamped(ENDED)]


def test_from_the_failure_on_a_full_disk_stops_nothing() -> None:
    """The way back must not end at the journal."""
    file = File()
    journal = Journal(file)
    file.error = errno.ENOSPC
    journal(stamped(Failure("PRECHECK", "DISK_FULL", "full", ["seen"], ["do"])))
    journal(WALK[1])
    assert file.data == b""
