"""The report as text: the same facts, in at most 120 columns, cause first, next steps last."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flawless.core.pasting import flags_of, pasted
from flawless.core.plain import printable

WIDTH: Final = 120
_NOTHING_SERVES: Final = "PASSED, and nothing serves: the manifest names no service"
_HEADLINES: Final = {
    "success": "LIVE, verified",
    "partial": "PARTLY: the release serves, and something that was asked for did not pass",
    "failure": "FAILED",
    "aborted": "ABORTED: the run was killed before its end",
}
_SHOWN: Final = {"FAIL", "WARN", "SKIP"}


def to_text(report: Mapping[str, Any]) -> str:
    """The whole text report. Nothing in it can move a terminal's cursor."""
    return "\n".join(_blocks(report)) + "\n"


def _blocks(report: Mapping[str, Any]) -> Iterator[str]:
    yield from _head(report)
    yield from _cause(report["failure"], shown=bool(report["log_tail"]))
    yield from _phases(report["phases"])
    yield from _changes(report["changes_since_last_good"])
    yield from _services(report["services"])
    yield from _block("stopped, as the manifest no longer names them", report.get("stopped", ()))
    yield from _database(report)
    yield from _bodies(report)
    yield from _external(report["external"])
    yield from _recovery(report["recovery"])
    yield from _rollback(report["rollback"])
    yield from _block("unfinished", report["unfinished"])
    yield from _log_tail(report["log_tail"])
    yield from _versions(report)
    yield from _next_steps(report)


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    exit_code = "none" if report["exit_code"] is None else report["exit_code"]
    nothing_serves = report["result"] == "success" and not report["services"]
    yield f"{report['name']}: {_NOTHING_SERVES if nothing_serves else _HEADLINES[report['result']]}"
    took = _seconds(report["duration_ms"])
    yield f"deploy {report['deploy_id']}, {report['started_at']}, {took}, exit code {exit_code}"
    if report["environment"]:
        yield f"environment: {report['environment']}"
    if report["embedded_database"]:
        yield "database: the embedded PostgreSQL of this project"


def _cause(failure: Mapping[str, Any] | None, *, shown: bool) -> Iterator[str]:
    """`shown`: the last lines of the service stand below in full."""
    if failure is None:
        return
    yield ""
    yield from _wrapped(f"{failure['code']} in {failure['phase']}: {failure['cause']}", "")
    for line in failure["evidence"]:
        if not (shown and line.startswith("| ")):
            yield from _wrapped(line, "  ")


def _phases(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield "phases"
    for phase in phases:
        because = f"  {phase['because']}" if phase.get("because") else ""
        yield from _wrapped(
            f"{phase['name']:<24} {phase['status']:<8} {_seconds(phase['duration_ms']):>9}{because}", "  "
        )
        for claim in phase["waited_for"]:
            yield from _wrapped(f"waited until {claim}", "    ")
        for finding in phase["checks"]:
            if finding["status"] in _SHOWN:
                yield from _finding(finding)
        passed = [finding["id"] for finding in phase["checks"] if finding["status"] not in _SHOWN]
        if passed:
            yield from _wrapped(f"PASS {', '.join(passed)}", "    ")


def _changes(changes: Mapping[str, Any]) -> Iterator[str]:
    told = [f"{name}: {what}" for name, what in changes.get("services", {}).items()]
    yield from _block(f"changes since the last good deploy ({changes['last_good'] or 'none yet'})", told)


def _finding(finding: Mapping[str, Any]) -> Iterator[str]:
    code = f" {finding['code']}" if finding["code"] else ""
    optional = " (optional)" if finding["optional"] else ""
    # The last lines of a service have a block of their own.
    said = "; ".join(line for line in finding["evidence"] if not line.startswith("| "))
    yield from _wrapped(f"{finding['status']} {finding['id']}{code}{optional}: {said}", "    ")


def _services(services: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not services:
        return
    yield ""
    yield "services"
    for service in services:
        what = "restarted" if service["restarted"] else "left as it was"
        yield f"  {service['name']:<16} {service['role']:<9} pid {service['pid']}  port {service['port']}  {what}"


def _database(report: Mapping[str, Any]) -> Iterator[str]:
    database = report["database"]
    latency = database["latency_ms"]
    if latency is None:
        return
    samples = ", ".join(f"{sample:.1f}" for sample in latency["samples"])
    migrations = database["migrations"]
    yield ""
    yield f"database: {latency['average']:.1f} ms on average ({samples})"
    yield from _wrapped(f"migrations applied by this run: {', '.join(migrations['applied']) or 'none'}", "  ")
    if migrations["pending"]:
        yield from _wrapped(f"migrations still pending: {', '.join(migrations['pending'])}", "  ")


def _bodies(report: Mapping[str, Any]) -> Iterator[str]:
    """What was answered, as it was answered."""
    told = {**report["health"], "tunnel": report["tunnel"]["verdict"]}
    lines = [f"{name}: {_shown(body)}" for name, body in told.items() if body is not None]
    tables = [name for name, there in report["database"]["tables"].items() if not there]
    yield from _block("health", [*lines, *([f"tables that are missing: {', '.join(tables)}"] if tables else [])])


def _external(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The interfaces of others: what each answered, how fast, and where, when that is not its own address."""
    yield from _block("interfaces", [_interface(one) for one in outcomes])


def _interface(one: Mapping[str, Any]) -> str:
    code = f" {one['code']}" if one["code"] else ""
    took = "" if one["status"] == "SKIP" else f" {one['latency_ms']:.0f} ms"
    place = f" ({one['base_url']})" if one.get("base_url") else ""
    # What did not pass stands with its phase in full.
    said = one["evidence"] if one["status"] == "PASS" else one["evidence"][:1]
    return f"{one['status']} {one['id']}{code}{took}{place}: {'; '.join(said)}"


def _shown(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


def _recovery(recovery: Mapping[str, Any]) -> Iterator[str]:
    if recovery["attempted"]:
        yield from _block("recovery", [str(recovery["result"])])


def _block(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield title
    for line in lines:
        yield from _wrapped(line, "  ")


def _rollback(rollback: Mapping[str, Any] | None) -> Iterator[str]:
    if rollback is None:
        return
    yield ""
    yield f"rollback: {rollback['status']}"
    for action in rollback["actions"]:
        yield from _wrapped(action, "  ")


def _log_tail(tails: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for service, lines in tails.items():
        yield ""
        yield f"last lines of {service}"
        for line in lines:
            yield from _wrapped(f"| {line}", "  ")


def _versions(report: Mapping[str, Any]) -> Iterator[str]:
    versions = report["versions"]
    dirty = " with uncommitted changes" if versions.get("git_dirty") else ""
    commit = f", commit {versions['git_commit'][:12]}{dirty}" if versions.get("git_commit") else ""
    yield ""
    yield from _wrapped(f"flawless {versions['flawless']}, python {versions['python']}, {versions['os']}{commit}", "")


def incident_command(report: Mapping[str, Any], flags: str = "") -> str:
    """The command that shows the report's incident. `flags`: those that find its stack from where we are."""
    known = flags or flags_of(None, report["environment"])
    return pasted(f"flawless incidents show {report['incident_id']}", known)


def _next_steps(report: Mapping[str, Any]) -> Iterator[str]:
    incident = [f"the whole story: {incident_command(report)}"] if report["incident_id"] else []
    failure, rollback = report["failure"], report["rollback"]
    steps = [
        *(failure["next_steps"] if failure else _partly(report["phases"])),
        *(rollback.get("next_steps", []) if rollback else []),
        *incident,
    ]
    if not steps:
        return
    yield ""
    yield "next steps"
    for number, step in enumerate(steps, 1):
        yield from _wrapped(f"{number}. {step}", "  ")


def _partly(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What to do about that which did not pass, and does not keep the release from serving."""
    for phase in phases:
        for finding in phase["checks"]:
            if finding["status"] == "FAIL" and finding["makes_partial"] and finding["next_step"]:
                yield f"{finding['id']}: {finding['next_step']}"


def _wrapped(text: str, indent: str) -> list[str]:
    """Lines of at most 120 columns; words longer than that (a path, a URL) are broken, not lost."""
    shown = printable(text)
    # A Chinese character or an emoji takes two columns.
    width = WIDTH if all(unicodedata.east_asian_width(char) not in "WF" for char in shown) else WIDTH // 2
    return textwrap.wrap(
        shown, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    ) or [indent]


def _seconds(milliseconds: float | None) -> str:
    return "unended" if milliseconds is None else f"{milliseconds / 1000:.2f} s"
