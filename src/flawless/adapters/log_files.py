"""Log files of several writers: rotated by size and by day, never renamed, every line whole and once.

A file is named `<stem>-<UTC day>.<number><suffix>`; the newest by name is the one written to. A writer locks it, looks
whether it is still to be written to, and appends. A file is closed for ever once it has reached its size or its day is
over; that is seen from the file and the clock alone, so no writer has to be told, however long it was idle. The next
one is made only after that was seen under the lock: where it exists, the one before is complete. This is what lets a
reader go on to it.

Only the standard library, and little of it: a keeper is made of this.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress

TYPE_CHECKING = False  # typing and pathlib would be a quarter of a keeper's memory
if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 65_536
_READ = 1_048_576
_DAY = 86_400
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW
_KEY = re.compile(r".*-(\d{4}-\d\d-\d\d)\.(\d{4,})")
_APPEND = os.O_RDWR | os.O_APPEND | _SAFE


class NotWritten(OSError):
    """The disk is full, or the like; `errno` says. `rest` is what did not get into the file: whole lines."""

    def __init__(self, cause: OSError, rest: bytes) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.rest = rest


class LogFile:
    """One writer of the log `stem` in `folder`. Any number of processes may write it, each with one of these in one
    thread. `max_size` is in bytes and passed by one batch at most; `keep_days` counts back from the present UTC day.
    """

    def __init__(
        self,
        folder: Path | str,
        stem: str,
        suffix: str = ".log",
        *,
        max_size: int = 10_000_000,
        keep_days: int = 7,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = os.fspath(folder)
        self._stem = stem
        self._suffix = suffix
        self._max_size = max_size
        self._keep_days = keep_days
        self._clock = clock
        self._fd = -1
        self._day_ends = 0.0
        self._end = -1  # the size after our own last write: so far it is known to end in a whole line

    def write(self, data: bytes) -> None:
        """Appends whole lines; a last line without its end gets one. Raises NotWritten, an OSError."""
        if data and not data.endswith(b"\n"):
            data += b"\n"
        done = 0
        try:
            while done < len(data):
                done += self._write_piece(data[done : _piece_end(data, done)])
        except OSError as error:
            raise NotWritten(error, data[done:]) from error

    def close(self) -> None:
        """Lets go of the file. A later write opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write_piece(self, piece: bytes) -> int:
        """How many bytes were written: whole lines, at least one."""
        while True:
            if self._fd < 0:
                self._open_newest()
            written = self._append(piece)
            if written:
                return written
            self.close()

    def _append(self, piece: bytes) -> int:
        """As `_write_piece`, or 0 when the file is closed for ever."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            size = self._open_size()
            if size is None:
                return 0
            written = _write_lines(self._fd, size, piece)
            self._end = size + written
            return written
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _open_size(self) -> int | None:
        """The size of the locked file, its last line made whole; None when it is closed for ever."""
        status = os.fstat(self._fd)
        if status.st_nlink == 0 or self._clock() >= self._day_ends:
            return None
        size = status.st_size if status.st_size == self._end else _without_torn_line(self._fd, status.st_size)
        return size if size < self._max_size else None

    def _open_newest(self) -> None:
        _make_private(self._folder)
        lock = os.open(os.path.join(self._folder, f".{self._stem}.lock"), os.O_RDWR | os.O_CREAT | _SAFE, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = _names(self._folder, self._stem, self._suffix)
            if not (names and self._reopen(names[-1])):
                self.close()
                self._rotate(names)
        finally:
            os.close(lock)

    def _reopen(self, name: str) -> bool:
        """Opens the newest file, unless it is closed for ever."""
        now = self._clock()
        day_ends = (now // _DAY + 1) * _DAY if _key(name)[0] >= _day(now) else 0.0
        try:
            self._open(name, 0, day_ends)
        except FileNotFoundError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            return self._open_size() is not None
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _rotate(self, names: list[str]) -> None:
        now = self._clock()
        day, number = _key(names[-1]) if names else ("", 0)
        if day < _day(now):
            day, number = _day(now), 0
        name = f"{self._stem}-{day}.{number + 1:04d}{self._suffix}"
        self._open(name, os.O_CREAT | os.O_EXCL, (now // _DAY + 1) * _DAY)
        oldest = _day(now - self._keep_days * _DAY)
        for old in names:
            if _key(old)[0] < oldest:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, old))

    def _open(self, name: str, flags: int, day_ends: float) -> None:
        self._fd = os.open(os.path.join(self._folder, name), _APPEND | flags, 0o600)
        self._day_ends = day_ends
        self._end = -1


class Follower:
    """Reads a log across its rotations: every line, once, in order. `last` is how many lines of what is there already
    to begin with; None for all. Where somebody deletes or empties the file, it goes on with what is written then.
    """

    def __init__(self, folder: Path | str, stem: str, suffix: str = ".log", *, last: int | None = None) -> None:
        self._folder = os.fspath(folder)
        self._stem = stem
        self._suffix = suffix
        self._name = ""
        self._fd = -1
        self._at = 0
        if last is not None:
            self._skip_to(last)

    def poll(self) -> list[bytes]:
        """The next whole lines, without their ends; about 1 MiB, none when there is nothing new. Never waits."""
        while True:
            # Looked for before the read: when a later file exists, what is read now is all of this one.
            following = self._following_name()
            lines = self._read() if self._fd >= 0 else []
            if lines or following is None:
                return lines
            self.close()
            self._open(following)

    def close(self) -> None:
        """Ends the following."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _following_name(self) -> str | None:
        """The next file; the same name again, where the one that is read was deleted and a writer made it anew."""
        names = _names(self._folder, self._stem, self._suffix)
        if self._name in names and (self._fd < 0 or os.fstat(self._fd).st_nlink == 0):
            return self._name
        return next((name for name in names if not self._name or _key(name) > _key(self._name)), None)

    def _open(self, name: str) -> None:
        self._name, self._at = name, 0
        with suppress(FileNotFoundError):
            self._fd = os.open(os.path.join(self._folder, name), os.O_RDONLY | _SAFE)

    def _read(self) -> list[bytes]:
        size = _READ
        if os.fstat(self._fd).st_size < self._at:
            self._at = 0  # emptied: a writer begins it anew
        while True:
            data = os.pread(self._fd, size, self._at)
            end = data.rfind(b"\n") + 1
            if end:
                self._at += end
                return data[: end - 1].split(b"\n")
            if len(data) < size:
                return []
            size *= 2

    def _skip_to(self, last: int) -> None:
        wanted = last
        for name in reversed(_names(self._folder, self._stem, self._suffix)):
            self.close()
            self._open(name)
            if self._fd < 0:
                continue
            self._at, found = _before_last(self._fd, wanted)
            wanted -= found
            if wanted <= 0:
                return


def files_of(folder: Path, stem: str, suffix: str = ".log") -> list[Path]:
    """The log's files, oldest first."""
    return [folder / name for name in _names(os.fspath(folder), stem, suffix)]


def _names(folder: str, stem: str, suffix: str) -> list[str]:
    pattern = re.compile(re.escape(stem) + r"-\d{4}-\d\d-\d\d\.\d{4,}" + re.escape(suffix))
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted([name for name in names if pattern.fullmatch(name)], key=_key)


def _key(name: str) -> tuple[str, int]:
    match = _KEY.match(name)
    return (match[1], int(match[2])) if match else ("", 0)


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(when))


def _make_private(folder: str) -> None:
    """Makes the folder and those above it where they are missing, for the user alone."""
    if not os.path.isdir(folder):
        if os.path.dirname(folder):
            _make_private(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _piece_end(data: bytes, start: int) -> int:
    """The end of the last line that fits into a piece; of the first, when it alone is longer."""
    if len(data) - start <= _PIECE:
        return len(data)
    return (data.rfind(b"\n", start, start + _PIECE) + 1) or data.index(b"\n", start) + 1


def _write_lines(descriptor: int, size: int, piece: bytes) -> int:
    """Appends to the locked file of that size. On a full disk fewer bytes, but whole lines; OSError when not one."""
    written = os.write(descriptor, piece)
    try:
        while written < len(piece):
            written += os.write(descriptor, piece[written:])
    except OSError:
        whole = piece.rfind(b"\n", 0, written) + 1
        os.ftruncate(descriptor, size + whole)
        if not whole:
            raise
        return whole
    return written


def _without_torn_line(descriptor: int, size: int) -> int:
    """The size after what a writer that was killed in the middle of a line has left is cut off; the file is locked."""
    whole = _whole_end(descriptor, size)
    if whole < size:
        os.ftruncate(descriptor, whole)
    return whole


def _whole_end(descriptor: int, size: int) -> int:
    """Where the last whole line within the first `size` bytes ends."""
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    start = max(0, size - _PIECE)
    end = os.pread(descriptor, size - start, start).rfind(b"\n") + 1
    return start + end if end else _whole_end(descriptor, start)


def _before_last(descriptor: int, lines: int) -> tuple[int, int]:
    """Where the last `lines` whole lines begin, and how many there are."""
    found, at = 0, _whole_end(descriptor, os.fstat(descriptor).st_size)
    while at:
        start = max(0, at - _PIECE)
        block = os.pread(descriptor, at - start, start)
        cut = len(block)
        while (cut := block.rfind(b"\n", 0, cut)) >= 0:
            if found == lines:
                return start + cut + 1, found
            found += 1
        at = start
    return 0, found
