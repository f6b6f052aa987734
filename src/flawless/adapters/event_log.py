"""The event stream as JSON lines: logs/flawless*.jsonl."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from flawless.adapters.log_files import LogFile
from flawless.core.event import Stamped


class EventLog:
    """A reader of the event stream. The log tells what happened; the journal, not it, is what must not be lost."""

    def __init__(self, folder: Path, max_size: int, keep_days: int) -> None:
        self._file = LogFile(folder, "flawless", ".jsonl", max_size=max_size, keep_days=keep_days)

    def __call__(self, stamped: Stamped) -> None:
        line = json.dumps(stamped.to_json(), separators=(",", ":"), ensure_ascii=True)
        # A full disk ends a deploy where it matters, at the journal; a log line that is lost there is not the cause.
        with suppress(OSError):
            self._file.write(line.encode() + b"\n")
