"""Standard streams that never end a command by themselves: closed ones, and those whose reader has gone away."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Final, TextIO, cast

from flawless.core.errors import CommandFailed

_NOBODY_LISTENS: Final = frozenset({errno.EPIPE, errno.EIO})
"""A reader that has gone, a terminal that was closed."""


def ensure_open() -> None:
    """A stream that was closed by whoever started us (`>&-`) leads nowhere; its number is not given to a file of ours.

    To be called before anything is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or _text(0, "r")
    sys.stdout = _output(sys.stdout or _text(1, "w"))
    sys.stderr = _output(sys.stderr or _text(2, "w"))
    _go_on(sys.stderr)  # progress and complaints: the exit code says it too


def go_on_unheard() -> None:
    """From here on nobody has to listen: what changes the world goes on to its end, and its exit code says how.

    Whoever tells a result then ends with `ensure_told`.
    """
    _go_on(sys.stdout)


def ensure_told(done: str, exit_code: int = 0) -> None:
    """Raises CommandFailed where the result could not be written, though somebody wanted to have it: "`done`, but ..."

    `exit_code` is what the command would have ended with. A reader that has gone away wanted no more of it.
    """
    stream = sys.stdout
    stream.flush()
    lost = stream.lost if isinstance(stream, Output) else None
    if lost is not None and lost.errno not in _NOBODY_LISTENS:
        raise _untold(f"{done}, but its result could not be written", lost, exit_code)


def ensure_heard(stream: TextIO) -> None:
    """Raises BrokenPipeError where the reader has gone: who has nothing to write would never learn of it."""
    if hasattr(select, "poll"):
        reader = select.poll()
        reader.register(stream, 0)  # for what is told unasked: an error, a hang-up
        if reader.poll(0):
            raise BrokenPipeError


def is_lost(stream: TextIO) -> bool:
    """Whether what is written there goes nowhere any more."""
    return isinstance(stream, Output) and stream.lost is not None


class Output(io.TextIOWrapper):
    """A text stream that remembers what kept it from being written; what comes after that goes nowhere.

    Raises CommandFailed for a full disk and the like, BrokenPipeError where the reader has gone; neither once it
    `goes_on`.
    """

    goes_on = False
    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._turn_away(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._turn_away(error)

    def _turn_away(self, error: OSError) -> None:
        """What is still in the buffer goes nowhere too, or the interpreter would complain of it at its end."""
        self.lost = self.lost or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        if not self.goes_on:
            raise error if error.errno in _NOBODY_LISTENS else _untold("the result could not be written", error, 1)


def _untold(cause: str, error: OSError, exit_code: int) -> CommandFailed:
    failed = CommandFailed(
        f"{cause}: {error.strerror or error}",
        code="DISK_FULL" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "DISK_NOT_WRITABLE",
        evidence=["standard output leads to where nothing can be written"],
        next_steps=["let it lead elsewhere, and ask again what is there now: flawless status"],
    )
    failed.exit_code = exit_code or 1
    return failed


def _go_on(stream: TextIO) -> None:
    if isinstance(stream, Output):
        stream.goes_on = True


def _output(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    buffering = stream.line_buffering
    encoding, errors = stream.encoding, stream.errors
    stream.flush()
    return Output(stream.detach(), encoding=encoding, errors=errors, line_buffering=buffering)


def _text(number: int, mode: str) -> TextIO:
    return cast("TextIO", open(number, mode, encoding="utf-8", closefd=False))
