"""Standard streams that never end a command by themselves: closed ones, and those whose reader has gone away."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast


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
    sys.stdout = sys.stdout or _text(1, "w")
    sys.stderr = sys.stderr or _text(2, "w")


def go_on_unheard() -> None:
    """From here on nobody has to listen: what changes the world goes on to its end, and its exit code says how."""
    sys.stdout = _unheard(sys.stdout)
    sys.stderr = _unheard(sys.stderr)


class Unheard(io.TextIOWrapper):
    """A text stream to a closed pipe, a closed terminal or a full disk: what cannot be written is lost."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return self._turn_away(len(text))

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._turn_away(0)

    def _turn_away(self, lost: int) -> int:
        """What is still in the buffer goes nowhere too, or the interpreter would complain of it at its end."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return lost


def _unheard(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, Unheard):
        return stream
    buffering = stream.line_buffering
    encoding, errors = stream.encoding, stream.errors
    stream.flush()
    return Unheard(stream.detach(), encoding=encoding, errors=errors, line_buffering=buffering)


def _text(number: int, mode: str) -> TextIO:
    return cast("TextIO", open(number, mode, encoding="utf-8", closefd=False))
