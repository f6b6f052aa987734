"""Where lines go: a stream, what it can show, and lines made of styled spans. No line can move a cursor."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

from flawless.cli.options import Common
from flawless.core.plain import ascii_only, printable

UNKNOWN_WIDTH: Final = 120
"""Columns where there is no terminal to ask: what a report has."""

UNKNOWN_HEIGHT: Final = 24
NARROWEST: Final = 30
NARROW: Final = 60
"""Columns below which a path, an id or a command has no room beside anything else."""

_COLUMNS: Final = 20
"""At most, in a table."""

_UNALIGNED: Final = (0,) * _COLUMNS

_ANSI: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Span(NamedTuple):
    """A piece of a line; `style` is words out of bold, dim and the colours."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def wrapped(text: str, width: int, first: Line = (), style: str = "") -> Iterator[Line]:
    """The text behind `first`, in lines of at most `width` columns, hanging under its own beginning.

    Words longer than a line (a path, a URL) are broken, not lost; in a narrow window they run over, to be copied whole.
    """
    indent = sum(len(span.text) for span in first)
    room = max(width - indent, NARROWEST // 2)
    pieces = textwrap.wrap(printable(text), room, break_on_hyphens=False, break_long_words=width >= NARROW) or [""]
    yield (*first, Span(pieces[0], style))
    for piece in pieces[1:]:
        yield (Span(" " * indent), Span(piece, style))


@dataclass(frozen=True, slots=True)
class Page:
    """A stream with what it can show; every line is written whole and at once."""

    stream: TextIO
    width: int
    colors: bool
    is_ascii: bool

    def write(self, *lines: Line) -> None:
        for one in lines:
            self.stream.write(self.to_text(one).rstrip() + "\n")
        self.stream.flush()

    def say(self, *parts: str | Span) -> None:
        self.write(line(*parts))

    def to_text(self, spans: Line) -> str:
        return "".join(self._painted(span) for span in spans)

    def shown(self, text: str) -> str:
        """Text from anywhere, without what a terminal would obey or cannot show."""
        return ascii_only(printable(text)) if self.is_ascii else printable(text)

    def _painted(self, span: Span) -> str:
        text = self.shown(span.text)
        codes = ";".join(_ANSI[word] for word in span.style.split())
        return f"\x1b[{codes}m{text}\x1b[0m" if self.colors and codes and text else text


def result(flags: Common) -> Page:
    """Standard output: what was asked for."""
    return _page(sys.stdout, colors=_wants_colors(flags, sys.stdout))


def progress(flags: Common) -> Page:
    """Standard error: how it goes."""
    return _page(sys.stderr, colors=flags.colors)


def _page(stream: TextIO, *, colors: bool) -> Page:
    return Page(stream, max(size_of(stream).columns, NARROWEST), colors, not can_show(stream))


def size_of(stream: TextIO) -> os.terminal_size:
    """The size of the terminal behind the stream at this moment; of a page where there is none."""
    try:
        # Not shutil's: it asks the stream that Python began with, which may have been put aside since.
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return os.terminal_size((UNKNOWN_WIDTH, UNKNOWN_HEIGHT))
    return os.terminal_size((size.columns or UNKNOWN_WIDTH, size.lines or UNKNOWN_HEIGHT))


def can_show(stream: TextIO) -> bool:
    """Whether the stream's encoding has every character there is."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


def _wants_colors(flags: Common, stream: TextIO) -> bool:
    """As `Common.colors`, for a stream of its own."""
    if flags.no_color or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


def table(rows: Iterable[tuple[Span, ...]], *, indent: str = "  ", gap: str = "  ") -> Iterator[Line]:
    """Rows with every column as wide as its widest cell, but the last, which is left as it is."""
    rows = list(rows)
    widths = _widths(rows)
    for row in rows:
        yield (Span(indent), *_leading(row, widths, gap), *row[-1:])


def fitting(rows: Iterable[tuple[Span, ...]], width: int, *, indent: str = "  ", gap: str = "  ") -> Iterator[Line]:
    """The same; where that is wider than the window, the last cell of a row stands below it, wrapped.

    First of those that would not fit by themselves; then of those that make the columns too wide for the others.
    """
    rows = list(rows)
    inline = [row for row in rows if _length(row, _UNALIGNED, indent, gap) <= width]
    while any(_length(row, _widths(inline), indent, gap) > width for row in inline):
        inline.remove(max(inline, key=lambda row: _length(row[:-1], _UNALIGNED, indent, gap)))
    widths = _widths(inline)
    for row in rows:
        if row in inline:
            yield (Span(indent), *_leading(row, widths, gap), *row[-1:])
        else:
            yield (Span(indent), *_leading(row, widths, gap))
            yield from wrapped(row[-1].text, width, (Span(f"{indent}  "),), row[-1].style)


def _widths(rows: Sequence[tuple[Span, ...]]) -> list[int]:
    """Of all columns but the last of each row."""
    return [
        max((len(row[column].text) for row in rows if column < len(row) - 1), default=0) for column in range(_COLUMNS)
    ]


def _leading(row: tuple[Span, ...], widths: Sequence[int], gap: str) -> Iterator[Span]:
    """All cells but the last, each as wide as its column at least, and a gap behind each."""
    for cell, width in zip(row[:-1], widths, strict=False):
        yield Span(cell.text.ljust(width), cell.style)
        yield Span(gap)


def _length(row: tuple[Span, ...], widths: Sequence[int], indent: str, gap: str) -> int:
    return len(indent) + sum(len(span.text) for span in (*_leading(row, widths, gap), *row[-1:]))
