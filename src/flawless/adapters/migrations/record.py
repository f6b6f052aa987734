"""What was there before migrations were begun, kept until they are done.

A revision that runs outside a transaction may leave half of itself behind, and neither the tool nor its table can tell.
The difference between the catalogue before the first attempt and now can, also when that attempt was killed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flawless.adapters.files import ensure_private_folder, write_atomically


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has not ended well yet: by which deploy, on which database, at which state of the migrations."""

    deploy_id: str
    database: str
    pending: tuple[str, ...]
    objects: tuple[str, ...]

    def left_behind(self, now: frozenset[str]) -> tuple[str, ...]:
        """What has come and what has gone since, in sentences."""
        before = frozenset(self.objects)
        come = [f"{thing} is there, and was not before" for thing in sorted(now - before)]
        gone = [f"{thing} is gone, and was there before" for thing in sorted(before - now)]
        return (*come, *gone)


class Record:
    """The file that holds the last unfinished attempt."""

    def __init__(self, state: Path) -> None:
        self._path = state / "migrations.json"

    def begin(self, attempt: Attempt) -> Attempt:
        """Writes the attempt down; one that began in the same state and has not ended keeps its place."""
        unfinished = self._read()
        if unfinished and (unfinished.database, unfinished.pending) == (attempt.database, attempt.pending):
            return unfinished
        ensure_private_folder(self._path.parent)
        write_atomically(self._path, json.dumps(asdict(attempt)).encode())
        return attempt

    def end(self) -> None:
        """The migrations are done, or have got further."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> Attempt | None:
        try:
            record = json.loads(self._path.read_bytes())
            return Attempt(record["deploy_id"], record["database"], tuple(record["pending"]), tuple(record["objects"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # Nothing, or nothing of ours: then this attempt is the first.
            return None
