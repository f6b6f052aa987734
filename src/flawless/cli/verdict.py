"""How a deploy ended, for a person: the public address when it is live, else the cause first and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flawless.cli import document
from flawless.cli.options import Common
from flawless.cli.page import Line, Span, line, result, table, wrapped
from flawless.deploy.report_text import incident_command

_WIDEST: Final = 120
_LABEL: Final = 10
_NOTHING_SERVES: Final = ("!", "names no service: what it declares passed, and nothing serves", "yellow")
_HEADLINES: Final = {
    "success": ("✓", "is live, verified", "green"),
    "partial": ("!", "serves, but something that was asked for did not pass", "yellow"),
    "failure": ("✗", "was not deployed", "red"),
    "aborted": ("✗", "was left by a deploy that was killed before its end", "red"),
}


def show_verdict(report: Mapping[str, Any], path: str, address: str, flags: Common, named: str = "") -> None:
    """The end of a deploy on standard output. `path` is the JSON report's, `address` the one users open, `named` the
    flags that find the stack from where we are.
    """
    if flags.json:
        document.write(report)
        return
    page = result(flags)
    page.write(*to_lines(report, path, address, min(page.width, _WIDEST), named))


def to_lines(report: Mapping[str, Any], path: str, address: str, width: int, named: str = "") -> Iterator[Line]:
    """What is said, in lines of at most `width` columns."""
    yield ()
    yield from _headline(report, width)
    failure = report["failure"]
    if failure is not None:
        yield from _failure(report, failure, width)
    if report["result"] in {"success", "partial"}:
        yield from _missing(report, width)
        yield from _services(report)
        yield from _stopped(report["stopped"], width)
    yield from _database(report, width)
    if report["incident_id"]:
        yield from _labelled("incident", incident_command(report, named), width)
    yield from _labelled("report", _near(path), width)
    if address and report["services"] and report["result"] in {"success", "partial"}:
        yield ()
        yield line(Span(address, "bold"))


def _headline(report: Mapping[str, Any], width: int) -> Iterator[Line]:
    sign, said, style = _HEADLINES[report["result"]]
    if report["result"] == "success" and not report["services"]:
        sign, said, style = _NOTHING_SERVES
    place = f" ({report['environment']})" if report["environment"] else ""
    took = f"{report['duration_ms'] / 1000:.1f} s"
    yield from wrapped(f"{report['name']}{place} {said}", width, (Span(" "), Span(f"{sign} ", style)), f"bold {style}")
    code = "" if report["exit_code"] is None else f", exit code {report['exit_code']}"
    yield from wrapped(f"deploy {report['deploy_id']}, {took}{code}", width, (Span("   "),), "dim")


def _failure(report: Mapping[str, Any], failure: Mapping[str, Any], width: int) -> Iterator[Line]:
    yield ()
    code = (Span("   "), Span(f"{failure['code']} ", "bold red"))
    yield from wrapped(f"in {failure['phase']}", width, code, "dim")
    yield from wrapped(failure["cause"], width, (Span("   "),), "bold")
    shown_below = bool(report["log_tail"])
    for evidence in failure["evidence"]:
        if not (shown_below and evidence.startswith("| ")):
            yield from wrapped(evidence, width, (Span("     "),))
    yield ()
    yield line("   what to do")
    for number, step in enumerate(failure["next_steps"], 1):
        yield from wrapped(step, width, (Span("   "), Span(f"{number}. ", "cyan")), "cyan")
    yield from _log_tail(report["log_tail"], width)
    yield from _rollback(report["rollback"], width)
    yield ()


def _log_tail(tails: Mapping[str, list[str]], width: int) -> Iterator[Line]:
    for service, lines in tails.items():
        yield ()
        yield line(f"   last lines of {service}" if lines else f"   {service} printed nothing")
        for text in lines:
            yield from wrapped(text, width, (Span("   │ ", "dim"),), "dim")


def _rollback(rollback: Mapping[str, Any] | None, width: int) -> Iterator[Line]:
    if rollback is None:
        return
    yield ()
    failed = rollback["status"] == "failed"
    nothing = "; nothing had been changed" if rollback["status"] == "not needed" else ""
    yield line("   rollback: ", Span(f"{rollback['status']}{nothing}", "bold red" if failed else ""))
    for action in rollback["actions"]:
        yield from wrapped(action, width, (Span("     "),), "red" if action.startswith("NOT DONE") else "")
    for step in rollback.get("next_steps", []):
        yield from wrapped(step, width, (Span("     "), Span("next: ", "cyan")), "cyan")


def _missing(report: Mapping[str, Any], width: int) -> Iterator[Line]:
    """What did not pass and does not keep the release from serving."""
    asked = [one for phase in report["phases"] for one in phase["checks"]]
    findings = [one for one in asked if one["status"] == "WARN" or one["makes_partial"]]
    for one in findings:
        said = "; ".join(one["evidence"])
        code = f" {one['code']}" if one["code"] else ""
        first = (Span("   "), Span(f"{one['status']} ", "yellow"))
        yield from wrapped(f"{one['id']}{code}: {said}", width, first)
        if one["next_step"]:
            yield from wrapped(one["next_step"], width, (Span("        "),), "cyan")


def _services(report: Mapping[str, Any]) -> Iterator[Line]:
    if not report["services"]:
        return
    yield ()
    rows = [
        (
            Span(one["name"], "bold"),
            Span(f"pid {one['pid']}"),
            Span(f"port {one['port']}" if one["port"] is not None else "no port"),
            Span("started" if one["restarted"] else "left as it was", "dim"),
        )
        for one in report["services"]
    ]
    yield from table(rows, indent="   ")


def _stopped(names: Sequence[str], width: int) -> Iterator[Line]:
    if names:
        them = "it" if len(names) == 1 else "them"
        yield from _labelled("stopped", f"{', '.join(names)}: the manifest no longer names {them}", width)


def _database(report: Mapping[str, Any], width: int) -> Iterator[Line]:
    """An embedded database is said in every verdict."""
    said = ["the embedded PostgreSQL of this project"] if report["embedded_database"] else []
    database = report["database"]
    if database["latency_ms"] is not None:
        said.append(f"{database['latency_ms']['average']:.1f} ms")
    if said:
        yield from _labelled("database", ", ".join(said), width)
    if database["migrations"]["applied"]:
        # Migrations are never undone: after a rollback too these stay.
        yield from _labelled("migrated", ", ".join(database["migrations"]["applied"]), width)


def _labelled(label: str, text: str, width: int) -> Iterator[Line]:
    yield from wrapped(text, width, (Span(f"   {label:<{_LABEL}}", "dim"),))


def _near(path: str) -> str:
    """The text report, as short as it can be written from here."""
    text = Path(path).with_suffix(".txt")
    here = Path.cwd()
    return str(text.relative_to(here) if text.is_relative_to(here) else text)
