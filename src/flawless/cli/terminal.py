"""Readers of the event stream for whoever started the command: a live list, plain lines, or JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from flawless.cli.board import Board
from flawless.cli.options import Common
from flawless.cli.page import Line, Page, progress, size_of
from flawless.cli.verdict import show_verdict
from flawless.core.clock import Clock, SystemClock
from flawless.core.event import Stamped, WaitingFor

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

__all__ = ["JsonLines", "Terminal", "show_verdict"]

_REDRAWS_A_SECOND: Final = 10
_WIDEST: Final = 120


class JsonLines:
    """Every event as a JSON line on standard output, each at once."""

    def __call__(self, stamped: Stamped) -> None:
        sys.stdout.write(json.dumps(stamped.to_json(), separators=(",", ":")) + "\n")
        sys.stdout.flush()


class _Display(Protocol):
    """How a board is shown."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def read(self, stamped: Stamped) -> None: ...


class Terminal:
    """Shows on standard error how a run goes; nothing at all with `-q`.

    On a terminal the phase at hand is redrawn in place, and what has ended stays above it. Elsewhere (a pipe, CI,
    TERM=dumb) there is a line for each end of a phase and for each wait, and no cursor is moved.
    """

    def __init__(self, flags: Common, name: str, clock: Clock | None = None) -> None:
        page = progress(flags)
        board = Board(name, min(page.width, _WIDEST) - 1, flags.verbose, page.is_ascii)
        clock = clock or SystemClock()
        self._quiet = flags.quiet
        self._display: _Display = Live(page, board, clock) if flags.live else Plain(page, board, clock)

    def __enter__(self) -> Self:
        if not self._quiet:
            self._display.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._quiet:
            self._display.stop()

    def __call__(self, stamped: Stamped) -> None:
        if not self._quiet:
            self._display.read(stamped)


class Plain:
    """Lines that stay, in the order in which things happen."""

    def __init__(self, page: Page, board: Board, clock: Clock) -> None:
        self._page = page
        self._board = board
        self._clock = clock

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to put back."""

    def read(self, stamped: Stamped) -> None:
        self._page.write(*self._board.read(stamped.event, self._clock.monotonic()))
        if isinstance(stamped.event, WaitingFor):
            self._page.write(*self._board.waiting(stamped.event))


class Live:
    """The present phase, redrawn in place by a thread of its own; what has ended is printed above it for good."""

    def __init__(self, page: Page, board: Board, clock: Clock) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._page = page
        self._board = board
        self._clock = clock
        self._lock = threading.Lock()
        self._columns = 0
        self._drawn: list[Line] = []
        self._console = Console(
            file=page.stream, force_terminal=True, no_color=not page.colors, highlight=False, markup=False, emoji=False
        )
        self._live = RichLive(
            console=self._console,
            get_renderable=self._present,
            refresh_per_second=_REDRAWS_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        """The live part is wiped away and the cursor shown again."""
        self._live.stop()

    def read(self, stamped: Stamped) -> None:
        with self._lock:
            lines = self._board.read(stamped.event, self._clock.monotonic())
        if lines:
            self._console.print(self._group(lines))

    def _present(self) -> Group:
        size = size_of(self._page.stream)
        self._wipe_folded(size.columns)
        with self._lock:
            self._board.width = min(size.columns, _WIDEST) - 1
            self._drawn = self._board.present(self._clock.monotonic(), max(size.lines - 2, 1))
        return self._group(self._drawn)

    def _wipe_folded(self, columns: int) -> None:
        """A window that was made narrower has folded what stood in it: rows that rich does not know of are wiped."""
        if columns < self._columns:
            lengths = [sum(len(span.text) for span in one) for one in self._drawn]
            rows = sum((length - 1) // columns for length in lengths if length)
            self._page.stream.write("\r\x1b[2K" + "\x1b[1A\x1b[2K" * rows)
        self._columns = columns

    def _group(self, lines: Sequence[Line]) -> Group:
        from rich.console import Group

        return Group(*(self._text(one) for one in lines))

    def _text(self, spans: Line) -> Text:
        from rich.text import Text

        parts: list[Any] = [(self._page.shown(span.text), span.style) for span in spans]
        return Text.assemble(*parts, no_wrap=True, overflow="crop")
