"""The write-ahead journal: the durable events of a run, a JSON line each.

What a run intends is on disk before it acts. After `kill -9` or a power cut the next command reads here where the run
stood, and writes its report.
"""

from __future__ import annotations

import json
from typing import Protocol

from flawless.core.event import RunEnded, Stamped, from_json


class DurableFile(Protocol):
    """Where records go; `append` returns when they are safe, if `sync` is asked for."""

    def append(self, data: bytes, *, sync: bool) -> None: ...


class Journal:
    """A reader of the event stream that writes what must survive."""

    def __init__(self, file: DurableFile) -> None:
        self._file = file

    def __call__(self, stamped: Stamped) -> None:
        if stamped.event.durable:
            self._file.append(to_line(stamped), sync=stamped.event.synced)


def to_line(stamped: Stamped) -> bytes:
    return json.dumps(stamped.to_json(), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def read(data: bytes) -> list[Stamped]:
    """The events of a journal. A torn last record is dropped; a torn record before the last raises ValueError."""
    *lines, torn = data.split(b"\n")
    del torn  # a whole record ends in a newline, so what stands after the last one is none
    return [from_json(json.loads(line)) for line in lines]


def is_ended(events: list[Stamped]) -> bool:
    """The run told its end itself."""
    return bool(events) and isinstance(events[-1].event, RunEnded)
