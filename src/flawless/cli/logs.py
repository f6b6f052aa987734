"""flawless logs: what the services printed, and what they print."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Page, Span, progress, result
from flawless.cli.streams import ensure_heard
from flawless.core.duration import parse_duration
from flawless.core.errors import UsageError

if TYPE_CHECKING:
    from flawless.wiring.logs import Printed, ServiceLogs

_LINES: Final = 100
_INTERVAL: Final = 0.1
"""Seconds between two looks while following: no system tells of new lines in the same way."""

_COLORS: Final = ("cyan", "magenta", "green", "yellow", "blue")
_HELP: Final = """What the services printed; all of them when none is named.

Lines carry no time of their own, so several services are shown one after the other, and --since goes by the times of
the log files: a file that was being written at that moment is shown from its beginning, and that is said. With -f
the lines of all services come as they are printed, across rotation, and those of services that start later too;
Ctrl-C ends it.
"""


@click.command(name="logs", help=_HELP)
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help=f"The last N of each service; absent: {_LINES}.")
@click.option("--since", metavar="T", help="A length of time (10m, 2h) or a moment (2026-11-23T14:00, local time).")
@common
def command(flags: Common, *, services: tuple[str, ...], follow: bool, lines: int | None, since: str | None) -> None:
    from flawless.wiring.logs import ServiceLogs, logged_services
    from flawless.wiring.status import outline_of

    outline = outline_of(flags.config, flags.environment)
    folder = outline.service_logs
    known = list(dict.fromkeys([*outline.roles, *logged_services(folder)]))
    names = _chosen(services, known, list(outline.roles))
    moment = _moment(since, datetime.now(UTC)) if since else None
    wanted = lines if lines is not None or moment else _LINES
    with closing(ServiceLogs(folder, names, last=wanted, since=moment)) as logs:
        if flags.json:
            document.write({"services": _collected(logs, names)})
            return
        if logs.is_vague and not flags.quiet:
            progress(flags).say("lines carry no times: what was printed a while before that moment is shown too")
        _show(Writer(result(flags), names), logs, follow=follow)


@dataclass(frozen=True)
class Writer:
    """Prints lines, each with its service's name where there are several."""

    page: Page
    names: Sequence[str]

    def print(self, printed: Iterable[Printed]) -> None:
        for one in printed:
            self.page.write(*((*self._prefix(one.service), Span(line)) for line in one.lines))

    def _prefix(self, service: str) -> tuple[Span, ...]:
        if len(self.names) < 2:
            return ()
        width = max(len(name) for name in self.names)
        color = _COLORS[self.names.index(service) % len(_COLORS)]
        return (Span(f"{service:<{width}} ", color), Span("│ ", "dim"))


def _show(writer: Writer, logs: ServiceLogs, *, follow: bool) -> None:
    writer.print(logs.recent())
    while follow:
        ensure_heard(sys.stdout)
        writer.print(logs.poll())
        time.sleep(_INTERVAL)


def _collected(logs: ServiceLogs, names: Sequence[str]) -> dict[str, list[str]]:
    collected: dict[str, list[str]] = {name: [] for name in names}
    for one in logs.recent():
        collected[one.service] += one.lines
    return collected


def _chosen(services: Sequence[str], known: Sequence[str], declared: Sequence[str]) -> Sequence[str]:
    for name in services:
        if name not in known:
            raise _unknown(name, known)
    return list(dict.fromkeys(services)) or declared


def _unknown(name: str, known: Sequence[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, 1)
    steps = [f"did you mean {close[0]}?"] if close else []
    listed = f"there are: {', '.join(known)}" if known else "the manifest has no service"
    return UsageError(f"there is no service named {name}", evidence=[listed], next_steps=steps or ["name one of those"])


def _moment(text: str, now: datetime) -> datetime:
    """A length of time before now, or a moment; without a zone it is local time."""
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise UsageError(
            f"--since {text}: neither a length of time nor a moment",
            evidence=["a length of time is 10m, 2h or 1d; a moment is 2026-11-23T14:00"],
            next_steps=["flawless logs --since 10m"],
        ) from None
