"""flawless plan: what a deploy would do, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Line, Span, line, result, table, wrapped

if TYPE_CHECKING:
    from flawless.wiring.planning import Planned

_STYLES: Final = {"keep": "dim", "start": "green", "replace": "yellow", "stop": "red"}
_HELP: Final = """What deploy would do with each service, which migrations it would apply, and what stands in its way.

Nothing is changed. The database is asked for at most two seconds.
"""


@click.command(name="plan", help=_HELP)
@common
def command(flags: Common) -> None:
    from flawless.wiring.planning import plan
    from flawless.wiring.stack import Stack

    stack = Stack.load(flags.config, flags.environment)
    planned = asyncio.run(plan(stack))
    told = stack.redact(to_json(planned))
    if flags.json:
        document.write(told)
        return
    page = result(flags)
    page.write(*to_lines(told, page.width))


def to_json(planned: Planned) -> dict[str, Any]:
    return {
        "services": [{"name": one.name, "action": str(one.action), "why": list(one.why)} for one in planned.changes],
        "database": {
            "starts": planned.starts_database,
            "migrations": {"pending": list(planned.migrations.pending), "unknown": planned.migrations.unknown},
        },
        "preflight": {
            "problems": sum(not one.optional for one in planned.problems),
            "findings": [one.to_json() for one in planned.problems],
        },
    }


def to_lines(told: Mapping[str, Any], width: int) -> Iterator[Line]:
    """The same document for a person."""
    rows = [
        (Span(one["name"], "bold"), Span(one["action"], _STYLES[one["action"]]), Span(", ".join(one["why"])))
        for one in told["services"]
    ]
    yield from table(rows, indent="")
    if told["database"]["starts"]:
        yield line("the embedded database is started first")
    yield from wrapped(_migrations(told["database"]["migrations"]), width)
    if not told["preflight"]["findings"]:
        return
    yield ()
    yield line(Span("in the way", "red"))
    for finding in told["preflight"]["findings"]:
        yield from _problem(finding, width)


def _migrations(told: Mapping[str, Any]) -> str:
    if told["unknown"]:
        return f"migrations: which are pending cannot be told: {told['unknown']}"
    return f"migrations to apply: {', '.join(told['pending']) or 'none'}"


def _problem(finding: Mapping[str, Any], width: int) -> Iterator[Line]:
    cause, *_ = finding["evidence"]
    optional = " (optional)" if finding["optional"] else ""
    yield from wrapped(f"{cause}{optional}", width, (Span("  "), Span(f"{finding['code']} ", "bold")))
    yield from wrapped(finding["next_step"], width, (Span("    next: ", "dim"),), "cyan")
