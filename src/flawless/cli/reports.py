"""flawless reports: what earlier deploys said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Line, Span, result, table
from flawless.core.errors import UsageError
from flawless.core.plain import one_line

LAST: Final = "last"
_STYLES: Final = {"success": "green", "partial": "yellow"}


@dataclass(frozen=True, slots=True)
class Archived:
    """A report with the file it stands in."""

    path: Path
    report: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.report["deploy_id"])

    def to_json(self) -> dict[str, Any]:
        """What the list says of it."""
        keys = ("deploy_id", "environment", "started_at", "finished_at", "duration_ms", "result", "exit_code")
        failure = self.report["failure"] or {}
        told = {key: self.report[key] for key in keys}
        return {**told, "code": failure.get("code"), "cause": failure.get("cause"), "path": str(self.path)}


@click.group(name="reports", invoke_without_command=True, help="The reports of earlier deploys, newest first.")
@common
@click.pass_context
def command(context: click.Context, flags: Common) -> int | None:
    return _list(flags) if context.invoked_subcommand is None else None


@command.command(name="list", help="Every report, newest first: when, which deploy, how it ended, why.")
@common
def list_(flags: Common) -> int:
    return _list(flags)


@command.command(name="show", help="One report as text. ID is a deploy id or its beginning, or the word last.")
@click.argument("id_", metavar="ID|last")
@common
def show(flags: Common, *, id_: str) -> None:
    found = find(_newest_first(flags), id_)
    if flags.json:
        document.write(found.report)
        return
    page = result(flags)
    page.write(*((Span(text),) for text in _text(found).splitlines()))


def find(archived: Sequence[Archived], wanted: str) -> Archived:
    """The report of one deploy; `archived` is newest first. Raises UsageError when none or several are meant."""
    matching = archived[:1] if wanted == LAST else [one for one in archived if one.id.startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    if not archived:
        raise UsageError(
            "there is no report",
            evidence=["nothing was deployed yet, or the reports in logs were removed"],
            next_steps=["the next deploy writes one: flawless deploy"],
        )
    cause = f"{len(matching)} reports begin with {wanted}" if matching else f"there is no report of {wanted}"
    known = [one.id for one in (matching or archived)[:5]]
    raise UsageError(cause, evidence=[f"there are: {', '.join(known)}"], next_steps=["see them all: flawless reports"])


def _list(flags: Common) -> int:
    archived = _newest_first(flags)
    if flags.json:
        document.write({"reports": [one.to_json() for one in archived]})
        return 0
    page = result(flags)
    if not archived:
        page.say("no report in logs; the next deploy writes one: flawless deploy")
        return 0
    page.write(*_rows(archived, page.width))
    return 0


def _rows(archived: Sequence[Archived], width: int) -> Iterator[Line]:
    rows = list(table([_row(one.to_json()) for one in archived], indent=""))
    for row in rows:
        room = width - sum(len(span.text) for span in row[:-1])
        yield (*row[:-1], Span(one_line(row[-1].text, max(room, 0)), row[-1].style))


def _row(told: dict[str, Any]) -> Line:
    code = "-" if told["exit_code"] is None else str(told["exit_code"])
    cause = f"{told['code']}: {told['cause']}" if told["code"] else ""
    return (
        Span(told["started_at"][:19].replace("T", " "), "dim"),
        Span(told["deploy_id"]),
        Span(told["result"], _STYLES.get(told["result"], "red")),
        Span(f"exit {code}"),
        Span(f"{told['duration_ms'] / 1000:.1f} s"),
        Span(cause),
    )


def _newest_first(flags: Common) -> list[Archived]:
    from flawless.wiring.reports import reports

    found = [_read(path, flags) for path in reversed(reports(flags.config, flags.environment))]
    return [one for one in found if one is not None]


def _read(path: Path, flags: Common) -> Archived | None:
    """None, and a line on standard error, for a file that holds no report."""
    try:
        archived = Archived(path, json.loads(path.read_bytes()))
        _row(archived.to_json())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if not flags.quiet:
            sys.stderr.write(f"{path} holds no report that can be read\n")
        return None
    return archived


def _text(one: Archived) -> str:
    """The text file beside it; built anew where that is gone."""
    try:
        return one.path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        from flawless.deploy.report_text import to_text

        return to_text(one.report)
