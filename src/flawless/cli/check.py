"""`flawless check`: the preflight questions, and nothing is changed."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from flawless.cli.options import Common, common
from flawless.core.errors import UsageError
from flawless.core.plain import printable

if TYPE_CHECKING:
    from flawless.core.check import Check, Finding
    from flawless.wiring import Stack

LIMIT = 5.0
"""Seconds a check may take."""


@click.command(help="Ask the preflight checks; nothing is changed.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--list", "listing", is_flag=True, help="Show every check, with its id, and ask none.")
@common
def command(flags: Common, ids: tuple[str, ...], *, listing: bool) -> int:
    if listing:
        _show_list(as_json=flags.json)
        return 0
    from flawless.wiring import Stack

    stack = Stack.load(flags.config, flags.environment)
    findings = asyncio.run(_ask(_chosen(_all(stack), ids)))
    told: Any = stack.redact([finding.to_json() | {"next_steps": _steps(finding)} for finding in findings])
    passed = not any(finding.failure and not finding.optional for finding in findings)
    if flags.json:
        click.echo(json.dumps(_document(stack, told, passed=passed), indent=2))
    else:
        click.echo(to_text(told, verbose=flags.verbose), nl=False)
    return 0 if passed else 1


def _all(stack: Stack) -> list[Check]:
    return [*stack.preflight(), *(artefact.check for artefact in stack.artefacts())]


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


def _steps(finding: Finding) -> list[str]:
    return list(finding.failure.next_steps) if finding.failure else []


def _document(stack: Stack, told: Sequence[Mapping[str, Any]], *, passed: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": stack.name,
        "environment": stack.manifest.environment,
        "result": "success" if passed else "failure",
        "exit_code": 0 if passed else 1,
        "checks": told,
    }


def to_text(told: Sequence[Mapping[str, Any]], *, verbose: bool) -> str:
    """A line a check; what is wrong follows with its evidence and what to do."""
    lines = []
    for one in told:
        code = f"  {one['code']}" if one["code"] else ""
        lines.append(f"{one['status']:<4}  {one['id']}{code}")
        if one["status"] != "PASS" or verbose:
            lines += [f"        {line}" for line in one["evidence"]]
        steps = one["next_steps"] or ([one["next_step"]] if one["next_step"] else [])
        lines += [f"        next: {step}" for step in steps]
    lines.append(_summary(told))
    return "".join(printable(line) + "\n" for line in lines)


def _summary(told: Sequence[Mapping[str, Any]]) -> str:
    count = {status: sum(one["status"] == status for one in told) for status in ("FAIL", "WARN", "SKIP")}
    words = {"FAIL": "failed", "WARN": "with a warning", "SKIP": "not asked"}
    said = ", ".join(f"{number} {words[status]}" for status, number in count.items() if number)
    return f"{len(told)} checks" + (f", {said}" if said else ", all passed")


def _show_list(*, as_json: bool) -> None:
    from flawless.checks.catalog import CATALOG

    entries = [{"id": one.id, "claim": one.claim, "asked": list(one.occasions), "about": one.doc} for one in CATALOG]
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "checks": entries}, indent=2))
        return
    for one in entries:
        click.echo(f"{one['id']:<20} {' '.join(one['asked']):<10} {one['claim']}\n{'':<32}{one['about']}")
