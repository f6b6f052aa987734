"""flawless check: the preflight questions, and nothing is changed."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Line, Span, line, result, table, wrapped
from flawless.core.errors import UsageError

if TYPE_CHECKING:
    from flawless.core.check import Check, Finding
    from flawless.wiring import Stack

LIMIT: Final = 5.0
"""Seconds a check may take."""

_WIDEST: Final = 120
_SIGNS: Final = {"PASS": ("✓", "green"), "WARN": ("!", "yellow"), "FAIL": ("✗", "red"), "SKIP": ("-", "dim")}
_COUNTED: Final = {"FAIL": "failed", "WARN": "with a warning", "SKIP": "not asked"}
_HELP: Final = """The preflight checks, all at once; nothing is changed.

An ID is a check's whole id or its kind: `port.free:backend`, or `port.free` for every port.

\b
Exit code: 0 all passed, 1 otherwise.
"""


@click.command(name="check", help=_HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--list", "listing", is_flag=True, help="Show every check with its id, and ask none.")
@common
def command(flags: Common, ids: tuple[str, ...], *, listing: bool) -> int:
    if listing:
        _list(flags)
        return 0
    from flawless.wiring import Stack

    stack = Stack.load(flags.config, flags.environment)
    findings = asyncio.run(_ask(_chosen(_all(stack), ids)))
    told: list[dict[str, Any]] = stack.redact([to_json(finding) for finding in findings])
    code = int(any(finding.failure and not finding.optional for finding in findings))
    if flags.json:
        document.write(_document(stack, told, code))
    else:
        page = result(flags)
        page.write(*to_lines(told, min(page.width, _WIDEST)))
    return code


def _all(stack: Stack) -> list[Check]:
    from flawless.wiring import preflight

    return preflight.everything(stack)


def _chosen(checks: Sequence[Check], ids: Sequence[str]) -> list[Check]:
    """Those asked for: by the id itself, or by the kind in front of its colon. All when none is named."""
    if not ids:
        return list(checks)
    known = {check.id for check in checks}
    for wanted in ids:
        if not any(_is(check_id, wanted) for check_id in known):
            raise _unknown(wanted, known)
    return [check for check in checks if any(_is(check.id, wanted) for wanted in ids)]


def _is(check_id: str, wanted: str) -> bool:
    return wanted in (check_id, check_id.partition(":")[0])


def _unknown(wanted: str, known: set[str]) -> UsageError:
    names = sorted(known | {check_id.partition(":")[0] for check_id in known})
    close = difflib.get_close_matches(wanted, names, 1, 0.5)
    meant = [f"did you mean {close[0]}?"] if close else []
    return UsageError(
        f"{wanted} is no preflight check of this stack",
        evidence=[*meant, f"its checks: {', '.join(sorted(known))}"],
        next_steps=["see all checks: flawless check --list"],
    )


async def _ask(checks: Sequence[Check]) -> list[Finding]:
    from flawless.core.check import ask

    return await asyncio.gather(*(ask(check, LIMIT) for check in checks))


def to_json(finding: Finding) -> dict[str, Any]:
    """The outcome of CONTRACTS 5, with every next step."""
    told = finding.to_json()
    steps = finding.failure.next_steps if finding.failure else [told["next_step"]] if told["next_step"] else []
    return told | {"next_steps": list(steps)}


def _document(stack: Stack, told: Sequence[Mapping[str, Any]], code: int) -> dict[str, Any]:
    return {
        "name": stack.name,
        "environment": stack.manifest.environment,
        "result": "failure" if code else "success",
        "exit_code": code,
        "checks": told,
    }


def to_lines(told: Sequence[Mapping[str, Any]], width: int) -> Iterator[Line]:
    """A line a check; then, in one list, whatever is wrong, with what to do."""
    yield from table([_row(one) for one in told], indent="")
    for one in told:
        if one["status"] in {"FAIL", "WARN"}:
            yield ()
            yield from _problem(one, width)
    yield ()
    yield line(_summary(told))


def _row(one: Mapping[str, Any]) -> tuple[Span, ...]:
    sign, style = _SIGNS[one["status"]]
    said = one["code"] or (one["evidence"][0] if one["evidence"] else one["claim"])
    return Span(sign, style), Span(one["id"]), Span(said, style if one["code"] else "dim")


def _problem(one: Mapping[str, Any], width: int) -> Iterator[Line]:
    style = _SIGNS[one["status"]][1]
    yield line(Span(one["code"], f"bold {style}"), f"  {one['id']}")
    for text in one["evidence"]:
        yield from wrapped(text, width, (Span("  "),))
    for step in one["next_steps"]:
        yield from wrapped(step, width, (Span("  next: ", "cyan"),))


def _summary(told: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(one["status"] == status for one in told) for status, word in _COUNTED.items()}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(told)} checks: {said or 'all passed'}"


def _list(flags: Common) -> None:
    """The catalog: it is the same for every stack, so no manifest is needed."""
    from flawless.checks.catalog import CATALOG

    entries = [{"id": one.id, "claim": one.claim, "asked": list(one.occasions), "about": one.doc} for one in CATALOG]
    if flags.json:
        document.write({"checks": entries})
        return
    page = result(flags)
    for one in CATALOG:
        page.say(Span(one.id, "bold"), f"  ({', '.join(one.occasions)})  {one.claim}")
        page.write(*wrapped(one.doc, min(page.width, _WIDEST), (Span("    "),), "dim"))
