"""flawless tunnel: what is seen of the tunnel and of the public name, and the one verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, before_the_verb, common
from flawless.cli.page import Line, Span, fitting, line, result, wrapped

if TYPE_CHECKING:
    from flawless.wiring.tunnel_orders import Looked

_STYLES: Final = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "SKIP": "dim"}

_STATUS: Final = """What is seen of the tunnel and of the public name, each observation by itself, and the one verdict.

Asks cloudflared, its rules, the origin and the public name; nothing is changed.

\b
Exit code: 0 the public name leads to this release, 1 it does not (or a restart has not helped).
"""
_RESTART: Final = """Restart cloudflared once, and look again.

One that Flawless runs is ended and started anew; another's by the command in [tunnel] restart, and not without one.
When somebody else restarts it at the same time (a deploy, another terminal), that is one restart, not two.

\b
Exit code: as of `flawless tunnel status`, asked afterwards.
"""


@click.group(name="tunnel", help="The tunnel: status, restart.", invoke_without_command=True)
@before_the_verb
@click.pass_context
def command(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        context.invoke(status)


@command.command(name="status", help=_STATUS)
@common
def status(flags: Common) -> int:
    from flawless.wiring.tunnel_orders import look

    return _told(asyncio.run(look(flags.config, flags.environment)), flags)


@command.command(name="restart", help=_RESTART)
@common
def restart(flags: Common) -> int:
    from flawless.wiring.tunnel_orders import restart as restarted

    return _told(asyncio.run(restarted(flags.config, flags.environment)), flags)


def _told(looked: Looked, flags: Common) -> int:
    told = looked.redact(to_json(looked))
    if flags.json:
        document.write(told)
    else:
        page = result(flags)
        page.write(*to_lines(told, page.width))
    return 0 if told["code"] is None else 1


def to_json(looked: Looked) -> dict[str, Any]:
    failed = looked.finding.failure
    row = looked.routed.verdict.row if looked.routed.verdict else None
    return {
        "hostname": looked.routed.hostname,
        "verdict": row.verdict if row else "routed" if failed is None else str(failed.reason),
        "code": str(failed.reason) if failed else None,
        "restart_helps": str(row.restart) if row else "no",
        "restarted": looked.restarted,
        "cause": failed.cause if failed else None,
        "evidence": list(failed.evidence) if failed else [],
        "next_steps": list(failed.next_steps) if failed else [],
        "observations": [one.to_json() for one in looked.findings],
    }


def to_lines(told: Mapping[str, Any], width: int) -> Iterator[Line]:
    """The observations as a table, the verdict, what to do."""
    yield from fitting([_row(one) for one in told["observations"]], width, indent="")
    yield ()
    if told["restarted"]:
        yield from wrapped(told["restarted"], width)
    if told["code"] is None:
        yield line(Span(f"{told['hostname']} leads to this release", "bold green"))
        return
    yield from wrapped(told["cause"], width, (Span(f"{told['code']} ", "bold red"),), "bold")
    for evidence in told["evidence"]:
        yield from wrapped(evidence, width, (Span("  "),))
    for step in told["next_steps"]:
        yield from wrapped(step, width, (Span("  next: ", "dim"),), "cyan")


def _row(one: Mapping[str, Any]) -> tuple[Span, ...]:
    said = one["evidence"][0] if one["evidence"] else one["claim"]
    return Span(one["status"], _STYLES[one["status"]]), Span(one["id"], "bold"), Span(said)
