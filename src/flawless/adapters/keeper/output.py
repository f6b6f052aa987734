"""What the service prints: read from a FIFO the service itself keeps open, redacted, written to its log, remembered."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import struct
import sys
import termios
from collections import deque
from collections.abc import Iterable

from flawless.adapters.keeper.loop import Loop, Timer
from flawless.adapters.keeper.spec import LogRule
from flawless.adapters.log_files import LogFile, NotWritten
from flawless.core.redaction import Redactor

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Final

FIFO: Final = "output"
REMEMBERED: Final = 50
"""Lines kept for `tail`."""
LONGEST: Final = 65_536
"""Bytes of one line; a longer one is split."""
_CHUNK: Final = 65_536
_PIPE_SIZE: Final = 1_048_576
_F_SETPIPE_SZ: Final = 1031
_REST: Final = 0.002
"""Seconds in which more may come before the next look: a line costs less among others."""


class Output:
    """The reading side. The service holds the FIFO open for reading too, so it outlives a keeper that was killed."""

    def __init__(self, folder: str, loop: Loop) -> None:
        self.path = os.path.join(folder, FIFO)
        self._loop = loop
        self._secrets: frozenset[str] = frozenset()
        self._stream = Redactor(()).stream()
        self._target: tuple[str, LogRule] | None = None
        self._log: LogFile | None = None
        self._unfinished = b""
        self._last: deque[bytes] = deque(maxlen=REMEMBERED)
        self.dropped = 0
        """Lines that could not be written since the log last worked."""
        self._reading = _open_fifo(self.path)
        self._may_rest = _has_room(self._reading)
        self._resting: Timer | None = None
        self._listen()

    def expect(self, service: str, rule: LogRule, secrets: Iterable[str]) -> None:
        """From here on this is what prints. Secrets known before stay known: what they held may still be on its way."""
        known = self._secrets | frozenset(secrets)
        if known != self._secrets:
            self._take(self._stream.flush())
            self._secrets = known
            self._stream = Redactor(known).stream()
        if self._target != (service, rule):
            self._close_log()
            self._target = (service, rule)

    def open_writing_end(self) -> int:
        """A blocking end for a new child, whose last lines are its own and not those of the one before.

        Each gets a description of its own, lest one set O_NONBLOCK for another.
        """
        self._last.clear()
        # By its descriptor where that works, as the folder may have been removed meanwhile.
        path = f"/proc/self/fd/{self._reading}" if sys.platform == "linux" else self.path
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def drain(self) -> None:
        """Take all that was printed until now, an unfinished last line too: its writer is dead."""
        waiting = _waiting(self._reading)
        while waiting > 0:
            taken = self._read_some(min(waiting, _CHUNK))
            if not taken:
                break
            waiting -= taken
        self._take(self._stream.flush())
        if self._unfinished:
            self._take(b"\n")

    def tail(self, count: int) -> list[str]:
        """The last lines, redacted; bytes that are no UTF-8 are shown as escapes."""
        lines = list(self._last)[-count:] if count > 0 else []
        return [line.decode(errors="backslashreplace") for line in lines]

    def close(self) -> None:
        """Leave no FIFO behind: nothing prints any more."""
        if self._resting:
            self._resting.cancel()
        self._loop.forget(self._reading)
        os.close(self._reading)
        self._close_log()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def identify(self) -> os.stat_result:
        """What a process that prints here has open."""
        return os.fstat(self._reading)

    def redact(self, text: str) -> str:
        return Redactor(self._secrets).text(text)

    def _listen(self) -> None:
        self._resting = None
        self._loop.watch(self._reading, select.POLLIN, self._on_output)

    def _on_output(self, _events: int) -> None:
        if self._read_some(_CHUNK) < _CHUNK and self._may_rest:
            self._loop.forget(self._reading)
            self._resting = self._loop.after(_REST, self._listen)

    def _read_some(self, size: int) -> int:
        try:
            data = os.read(self._reading, size)
        except BlockingIOError:
            return 0
        self._take(self._stream.feed(data))
        return len(data)

    def _take(self, redacted: bytes) -> None:
        data = _split_long_lines(self._unfinished + redacted)
        end = data.rfind(b"\n") + 1
        self._unfinished = data[end:]
        if end:
            self._write(data[:end])

    def _write(self, lines: bytes) -> None:
        self._last.extend(lines[:-1].rsplit(b"\n", REMEMBERED)[-REMEMBERED:])
        try:
            log = self._open_log()
            if self.dropped:
                self._confess(log)
            log.write(lines)
        except NotWritten as error:  # a full disk or a lost folder must not stop the service; it is said later
            self.dropped += error.rest.count(b"\n")

    def _confess(self, log: LogFile) -> None:
        count, self.dropped = self.dropped, 0
        try:
            log.write(f"[flawless] {count} lines were lost here: the log could not be written\n".encode())
        except NotWritten:
            self.dropped = count

    def _open_log(self) -> LogFile:
        if self._log is None:
            assert self._target, "nothing prints before it was started"
            service, rule = self._target
            self._log = LogFile(rule.folder, service, max_size=rule.max_size, keep_days=rule.keep_days)
        return self._log

    def _close_log(self) -> None:
        if self._log:
            with contextlib.suppress(OSError):  # as in _write
                self._log.close()
        self._log = None


def _open_fifo(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            os.unlink(path)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # For reading alone it would be at its end whenever no child lives, and poll would never rest.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _has_room(descriptor: int) -> bool:
    """Whether the pipe could be made so large that nothing fills it while we rest."""
    try:
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:  # not Linux, or the user's share of pipe memory is used up: it works, smaller
        return False
    return True


def _waiting(descriptor: int) -> int:
    """Bytes in the pipe now; a grandchild that goes on printing must not keep us here."""
    answer = fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def _split_long_lines(data: bytes) -> bytes:
    """The same with a newline in every line over the limit. It hops from limit to limit: next to no cost."""
    pieces: list[bytes] = []
    start = done = 0
    while len(data) - start > LONGEST:
        end = data.rfind(b"\n", start, start + LONGEST + 1) + 1
        if not end:
            end = _character_border(data, start + LONGEST)
            pieces += [data[done:end], b"\n"]
            done = end
        start = end
    return b"".join([*pieces, data[done:]]) if pieces else data


def _character_border(data: bytes, position: int) -> int:
    """Not inside a UTF-8 character, when it is one."""
    for border in range(position, position - 4, -1):
        if data[border] & 0xC0 != 0x80:
            return border
    return position
