"""The write-ahead journal: the durable events of a run, a JSON line each.

What a run intends is on disk before it acts. After `kill -9` or a power cut the next command reads here where the run
stood, and writes its report.
"""

from __future__ import annotations

import errno
import json
from typing import Protocol

from flawless.core.errors import CommandFailed
from flawless.core.event import Failure, RunEnded, Stamped, from_json
from flawless.core.reason import Reason


class DurableFile(Protocol):
    """Where records go; `append` returns when they are safe, if `sync` is asked for."""

    def append(self, data: bytes, *, sync: bool) -> None: ...


class Journal:
    """A reader of the event stream that writes what must survive.

    Raises CommandFailed the first time a record cannot be written: nothing may be done that is not written down. From
    then on, and from the run's failure on, it writes what it can: the way back must not end at a full disk.
    """

    def __init__(self, file: DurableFile) -> None:
        self._file = file
        self._is_strict = True

    def __call__(self, stamped: Stamped) -> None:
        if isinstance(stamped.event, Failure):
            self._is_strict = False
        if not stamped.event.durable:
            return
        try:
            self._file.append(to_line(stamped), sync=stamped.event.synced)
        except OSError as error:
            if self._is_strict:
                self._is_strict = False
                raise _unwritable(error) from error


def _unwritable(error: OSError) -> CommandFailed:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return CommandFailed(
        "the journal of this run cannot be written" + (": the disk is full" if full else ""),
        code=Reason.DISK_FULL if full else Reason.DISK_NOT_WRITABLE,
        evidence=[f"{error.strerror or error} in .flawless/journal"],
        next_steps=["make room, then run it again: flawless deploy" if full else "see who may write: ls -ld .flawless"],
    )


def to_line(stamped: Stamped) -> bytes:
    return json.dumps(stamped.to_json(), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def read(data: bytes) -> list[Stamped]:
    """The events of a journal. A torn last record is dropped, and so is all behind a record that cannot be read: it is
    the disk's damage or another version's, and what stands before it is true all the same.
    """
    events = []
    *lines, torn = data.split(b"\n")
    del torn  # a whole record ends in a newline, so what stands after the last one is none
    for line in lines:
        try:
            events.append(from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError):
            break
    return events


def is_ended(data: bytes) -> bool:
    """The run told its end itself: that is the last whole record."""
    last = data[: data.rfind(b"\n")].rpartition(b"\n")[2]
    return bool(events := read(last + b"\n")) and isinstance(events[-1].event, RunEnded)
