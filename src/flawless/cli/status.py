"""flawless status: what runs, since when, ready or not; from records, asking nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli import document
from flawless.cli.ago import for_long
from flawless.cli.options import Common, common
from flawless.cli.page import Line, Span, fitting, line, result, wrapped
from flawless.core.pasting import flags_of, pasted
from flawless.core.reason import Reason
from flawless.core.service import ServiceState

if TYPE_CHECKING:
    from flawless.adapters.tunnel_record import TunnelRecord
    from flawless.wiring.status import Picture, Seen

_EXIT_CODES: Final = {"healthy": 0, "degraded": 2, "down": 3, "not_running": 3, "unknown": 4}
_SIGNS: Final = {"healthy": ("●", "green"), "degraded": ("!", "yellow"), "not_running": ("○", "dim")}
_SAID: Final = {
    "healthy": "is healthy",
    "degraded": "is degraded",
    "down": "is down",
    "not_running": "is not running",
    "unknown": "is in a state that cannot be told",
}
_STYLES: Final = {"ready": "green", "stopped": "dim", "gave_up": "red", "unhealthy": "red"}

_HELP: Final = """What runs, since when, ready or not, and what is open.

It reads the records and asks nobody, so it is quick and may be repeated at will; `flawless check` asks.

\b
Exit code: 0 healthy, 2 degraded, 3 down or not running, 4 unknown.
"""


@click.command(name="status", help=_HELP)
@common
def command(flags: Common) -> int:
    from flawless.wiring.status import look

    picture = look(flags.config, flags.environment)
    if flags.json:
        document.write(to_json(picture))
    else:
        page = result(flags)
        named = flags_of(str(flags.config) if flags.config else None, flags.environment)
        page.write(*to_lines(picture, datetime.now(UTC), page.width, named))
    return _EXIT_CODES[picture.standing]


def to_json(picture: Picture) -> dict[str, Any]:
    """The document of CONTRACTS 1."""
    return {
        "name": picture.outline.name,
        "environment": picture.outline.environment,
        "deploy_id": picture.deploy_id,
        "state": str(picture.standing),
        "supervisor": None,
        "services": [_service(one) for one in picture.services],
        "database": {
            "ready": picture.database_ready,
            "latency_ms": picture.latency_ms,
            "embedded": picture.outline.embedded,
        },
        "tunnel": {
            "verdict": picture.tunnel.verdict if picture.tunnel else None,
            "code": picture.tunnel.code if picture.tunnel else None,
            "at": picture.tunnel.at if picture.tunnel else None,
        },
        "incidents": {"open": picture.incidents["open"], "critical": picture.incidents["critical"]},
    }


def _service(one: Seen) -> dict[str, Any]:
    running = one.running
    return {
        "name": one.name,
        "role": one.role,
        "state": str(one.state),
        "pid": running.pid if running else None,
        "port": running.port if running else None,
        "since": running.since if running else None,
        "ready": one.is_ready,
        "restarts": running.restarts if running else 0,
        "last_exit": asdict(running.last_exit) if running and running.last_exit else None,
    }


def to_lines(picture: Picture, now: datetime, width: int, named: str = "") -> Iterator[Line]:
    """What is known, at a glance; what to do stands last. `named`: the flags that name the stack."""
    sign, style = _SIGNS.get(picture.standing, ("✗", "red"))
    place = f" ({picture.outline.environment})" if picture.outline.environment else ""
    name = Span(f"{picture.outline.name}{place} {_SAID[picture.standing]}", f"bold {style}".strip())
    yield line(" ", Span(f"{sign} ", style), name)
    rows = [_row(one, now) for one in picture.services]
    rows += [_row(one, now, ("no longer in the manifest",)) for one in picture.leaving]
    if picture.outline.has_database:
        rows.append(_database(picture, now))
    if rows:
        yield ()
        yield from fitting(rows, width, indent="   ")
    yield ()
    for label, said, tone in _facts(picture, now):
        yield from wrapped(said, width, (Span(f"   {label:<12}", "dim"),), tone)
    steps = list(dict.fromkeys(pasted(step, named) for step in next_steps(picture)))
    if steps:
        yield ()
        for step in steps:
            yield from wrapped(step, width, (Span("   next: ", "dim"),), "cyan")


def _row(one: Seen, now: datetime, notes: tuple[str, ...] = ()) -> Line:
    running = one.running
    state = str(one.state) if one.is_readable else "its record cannot be read"
    told = list(notes)
    if running is not None:
        if running.restarts:
            told.append(f"{running.restarts} restart{'s' * (running.restarts > 1)}")
        last = running.last_exit
        if last is not None and not last.requested and (running.restarts or not one.is_up):
            told.append(f"last exit: {last}")
        if running.reason:
            told.append(running.reason)
        if one.is_unkept:
            told.append("its keeper is gone")
        elif one.is_unverified:
            told.append("no verdict yet")
    return (
        Span(one.name, "bold"),
        Span(state, _STYLES.get(state, "yellow")),
        Span(f"pid {running.pid}" if running and running.pid else ""),
        Span(f"port {running.port}" if running and running.port else ""),
        Span(for_long(running.since, now) if running and running.since else ""),
        Span(", ".join(told), "dim"),
    )


def _database(picture: Picture, now: datetime) -> Line:
    server = picture.server
    latency = f"{picture.latency_ms:.1f} ms in the last deploy" if picture.latency_ms is not None else ""
    if server is None:
        return (Span("database", "bold"), Span("not asked", "dim"), *[Span("")] * 3, Span(latency, "dim"))
    note = ", ".join(filter(None, ["embedded PostgreSQL", latency]))
    return (
        Span("database", "bold"),
        Span("running" if server.running else "stopped", "green" if server.running else "dim"),
        Span(f"pid {server.pid}" if server.pid else ""),
        Span(f"port {server.port}" if server.port else ""),
        Span(for_long(server.since.isoformat(), now) if server.since else ""),
        Span(note, "dim"),
    )


def _facts(picture: Picture, now: datetime) -> Iterator[tuple[str, str, str]]:
    """Label, sentence, style."""
    if picture.holder:
        yield "running now", str(picture.holder), "yellow"
    if picture.killed:
        yield "killed", f"deploy {picture.killed} was killed before its end; its report is not written yet", "red"
    if picture.standing == "healthy":
        yield (
            "asked",
            "nobody now: ready is what the last deploy or start found; to ask all again: flawless deploy",
            "dim",
        )
    yield "last deploy", *_last_deploy(picture, now)
    if picture.tunnel:
        yield "tunnel", *_tunnel(picture.tunnel, now)
    counts = picture.incidents
    critical = f", {counts['critical']} critical" if counts["critical"] else ""
    yield (
        "incidents",
        f"{counts['open']} open{critical}" if counts["open"] else "none open",
        "red" if counts["critical"] else "yellow" if counts["open"] else "",
    )


def _tunnel(last: TunnelRecord, now: datetime) -> tuple[str, str]:
    """What was last found out; nobody is asked for it now."""
    said = f"{last.code}: {last.verdict}" if last.code else f"{last.hostname} led here"
    return f"{said}, {for_long(last.at, now)} ago", "red" if last.code else "green"


def _last_deploy(picture: Picture, now: datetime) -> tuple[str, str]:
    report = picture.report
    if report is None:
        return ("its report cannot be read", "yellow") if picture.report_path else ("none yet", "")
    failure = f": {report['failure']['code']}, {report['failure']['cause']}" if report["failure"] else ""
    ago = for_long(report["finished_at"], now)
    style = {"success": "green", "partial": "yellow"}.get(report["result"], "red")
    return f"{report['result']} {ago} ago ({report['deploy_id']}){failure}", style


def next_steps(picture: Picture) -> Iterator[str]:
    """What helps, where the stack is not healthy."""
    if picture.holder:
        yield "wait for what runs now: flawless lock status"
        return
    if picture.killed:
        yield "the next deploy goes on from what is there: flawless deploy"
    match picture.standing:
        case "not_running":
            yield "bring it up: flawless deploy"
        case "unknown":
            yield f"{_unreadable(picture)} cannot be read; the next good deploy writes it anew: flawless deploy"
        case "down" | "degraded":
            yield from _cures(picture)
    if picture.incidents["open"]:
        yield "see what is open: flawless incidents"


def _unreadable(picture: Picture) -> str:
    return "desired.json (what should run)" if picture.is_forgotten else "a record in .flawless/run"


def _cures(picture: Picture) -> Iterator[str]:
    if picture.database_ready is False:
        yield "start the database: flawless db start"
    if picture.tunnel and picture.tunnel.code:
        yield "look at the tunnel again: flawless tunnel status"
    for one in picture.services:
        if not one.is_ready:
            yield f"see what {one.name} printed: flawless logs {one.name}"
        if one.state is ServiceState.UNHEALTHY:
            yield f"start {one.name} anew: flawless restart {one.name}"
        if one.state is ServiceState.GAVE_UP:
            yield f"{one.name} crashed too often ({Reason.SERVICE_GAVE_UP}); once mended: flawless start {one.name}"
        if one.is_unkept:
            yield f"nobody would start {one.name} again: give it a new keeper with flawless deploy"
    yield "bring it up, verified: flawless deploy"
