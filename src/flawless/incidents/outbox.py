"""The durable outbox: what happened is on disk before anybody is told that it is written.

Segments of JSON lines, named by UUIDv7 so that names sort by age. Writers append to the newest one under a lock that
dies with its holder, and each append is on disk when it returns. A drainer seals the newest segment by beginning
another; a sealed one never grows, so it is read without the lock and removed when the database has it. A line that
cannot be read was torn by a kill or a power cut before its append returned: nobody was told of it, and it is passed
over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from uuid import UUID

from flawless.core.ids import uuid7
from flawless.incidents.incident import Severity
from flawless.incidents.record import Record

SEGMENT_SIZE = 256 * 1024
"""Bytes after which a new segment is begun; also what one transaction carries at most, and a record."""

LIMIT = 100 * 1000 * 1000
"""Bytes of all segments; beyond it the mildest and oldest are dropped."""

KEPT_SHARE = 0.9
"""Of the limit, after dropping: so that it is not done for every record."""

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of records that does not grow any more."""

    path: Path

    def records(self) -> list[Record]:
        """Oldest first; none when another drainer has removed it."""
        with suppress(FileNotFoundError):
            return list(_records(self.path.read_bytes()))
        return []

    def lines(self) -> int:
        with suppress(FileNotFoundError):
            return self.path.read_bytes().count(b"\n")
        return 0

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Outbox:
    """The folder of segments. `on_drop` makes the record that says how many were dropped at the limit."""

    def __init__(
        self,
        folder: Path,
        *,
        on_drop: Callable[[int], Record],
        limit: int = LIMIT,
        segment_size: int = SEGMENT_SIZE,
    ) -> None:
        self._folder = folder
        self._on_drop = on_drop
        self._limit = limit
        self._segment_size = segment_size

    def append(self, records: Sequence[Record]) -> None:
        """On disk when it returns. Raises OSError."""
        with self.locked():
            self.append_locked(records)

    def append_locked(self, records: Sequence[Record]) -> None:
        """The same, for a caller who holds the lock."""
        segment = self._newest_open() or self._begin()
        _append(segment, b"".join(record.to_line() for record in records))
        if segment.stat().st_size >= self._segment_size:
            self._begin()
            self._ensure_bounded()

    def seal(self) -> list[Segment]:
        """Every record there is now, in segments that do not grow any more; oldest first."""
        if self.is_empty:
            return []
        with self.locked():
            newest = self._newest_open()
            if newest is not None and newest.stat().st_size:
                self._begin()
            return [Segment(path) for path in self._paths() if _size(path)]

    def records(self) -> Iterator[Record]:
        """What waits for the database, oldest first."""
        for path in self._paths():
            yield from Segment(path).records()

    def count(self) -> int:
        """How many records wait for the database."""
        return sum(Segment(path).lines() for path in self._paths())

    @property
    def is_empty(self) -> bool:
        return not any(map(_size, self._paths()))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other writer of this outbox out, in whatever process."""
        from filelock import FileLock

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self._folder / "lock", mode=0o600, poll_interval=0.002, preserve_lock_file=True):
            yield

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else []

    def _newest_open(self) -> Path | None:
        paths = self._paths()
        return paths[-1] if paths and _size(paths[-1]) < self._segment_size else None

    def _begin(self) -> Path:
        paths = self._paths()
        path = self._folder / f"{_following(paths[-1].stem if paths else '')}{_SUFFIX}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        for empty in paths:
            if not _size(empty):
                empty.unlink(missing_ok=True)
        _sync_folder(self._folder)
        return path

    def _ensure_bounded(self) -> None:
        if sum(map(_size, self._paths())) <= self._limit - 2 * self._segment_size:
            return
        dropped = self._drop(int(self._limit * KEPT_SHARE) - 2 * self._segment_size)
        if dropped:
            self.append_locked([self._on_drop(dropped)])

    def _drop(self, goal: int) -> int:
        """Drops records until `goal` bytes are left, the mildest first, of those the oldest; how many."""
        dropped = 0
        for severity in Severity:
            for path in self._paths():
                if sum(map(_size, self._paths())) <= goal:
                    return dropped
                dropped += _without(path, severity)
        return dropped


def _following(last: str) -> str:
    """A name after every other, whatever the clock does."""
    name = str(uuid7(datetime.now(UTC)))
    return name if name > last else str(UUID(int=UUID(last).int + 1))


def _append(path: Path, data: bytes) -> None:
    """A torn last line, left by a writer that was killed, is cut off first: nothing may join it."""
    with path.open("r+b", buffering=0) as file:
        whole = _whole_lines(file)
        try:
            file.truncate(whole)
            file.seek(whole)
            _write_all(file, data)
            os.fsync(file.fileno())
        except OSError:  # a full disk: what the caller is not told of is not kept either
            file.truncate(whole)
            raise


def _whole_lines(file: FileIO) -> int:
    """Bytes up to the end of the last whole line."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _records(data: bytes) -> Iterator[Record]:
    for line in data.splitlines(keepends=True):
        if line.endswith(b"\n"):
            # Torn before its append returned: see above.
            with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                yield Record.of_line(line)


def _without(path: Path, severity: Severity) -> int:
    """Takes the records of one severity out of a segment; how many. A drainer that has it open reads the old one."""
    records = Segment(path).records()
    kept = [record for record in records if record.severity is not severity]
    if len(kept) == len(records):
        return 0
    if not kept:
        path.unlink(missing_ok=True)
        return len(records)
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _append(temporary, b"".join(record.to_line() for record in kept))
    temporary.replace(path)
    return len(records) - len(kept)


def _size(path: Path) -> int:
    """Bytes; 0 for a segment that another drainer has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there, and needs no such call
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
