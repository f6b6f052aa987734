"""Recorded runs, told again: for whatever reads the event stream. As a program it plays one, slowly, to a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flawless.core.clock import to_stamp
from flawless.core.event import (
    Asked,
    Effected,
    Event,
    Failure,
    Intended,
    Noted,
    PhaseEnded,
    PhaseStarted,
    RolledBack,
    RunStarted,
    Stamped,
    Verdict,
    WaitingFor,
)
from flawless.deploy.report import ReportBuilder

HOSTILE = "\x1b[2Jcleared\u202e"
"""What would clear a screen and turn a line around, were it shown as it is."""

_VERSIONS = {
    "flawless": "0.1.0",
    "python": "3.11.2",
    "node": None,
    "os": "Linux",
    "git_commit": None,
    "git_dirty": False,
}


def finding(
    id_: str,
    status: str = "PASS",
    code: str | None = None,
    *evidence: str,
    optional: bool = False,
    declared: bool = False,
) -> Any:
    """An outcome as reports have it."""
    return {
        "id": id_,
        "status": status,
        "code": code,
        "latency_ms": 1.0,
        "evidence": list(evidence),
        "next_step": "do this" if status in {"FAIL", "WARN"} else None,
        "optional": optional,
        "makes_partial": (status == "FAIL" and optional) or (status == "SKIP" and declared),
        "claim": f"{id_} holds",
    }


def _begun() -> list[Event]:
    return [
        RunStarted("20261123T141502Z-3f9c2a", "board", None, _VERSIONS, 1, True, None),
        PhaseStarted("PRECHECK"),
        *(Asked("PRECHECK", finding(f"port.free:{number}")) for number in range(12)),
        Asked("PRECHECK", finding("env.strong", "WARN", "ENV_WEAK", "ADMIN_PASSWORD has 8 characters of 12")),
        PhaseEnded("PRECHECK", "passed", 0.24),
        PhaseStarted("DB_VALIDATE"),
        Intended("start", "embedded database"),
        Effected("start", "embedded database"),
        Noted("database", {"latency_ms": {"average": 1.23, "samples": [1.0, 1.2, 1.5]}}),
        PhaseEnded("DB_VALIDATE", "passed", 1.7),
        PhaseStarted("BACKEND_START"),
        Effected("start", "backend", {"pid": 4242, "port": 3001}),
        _service("backend", 4242, 3001),
        PhaseEnded("BACKEND_START", "passed", 0.05),
        PhaseStarted("BACKEND_READY_GATE"),
        WaitingFor("BACKEND_READY_GATE", "ready", "backend answers /health/db as it should", 5.0, 55.0, HOSTILE),
    ]


def _service(name: str, pid: int, port: int) -> Noted:
    told = {"name": name, "role": name, "pid": pid, "port": port, "started_at": "x", "restarted": True}
    return Noted("services", {name: told})


GOOD: Sequence[Event] = [
    *_begun(),
    Asked("BACKEND_READY_GATE", finding("ready")),
    PhaseEnded("BACKEND_READY_GATE", "passed", 6.2),
    PhaseStarted("EXTERNAL_VERIFY"),
    PhaseEnded("EXTERNAL_VERIFY", "skipped", 0.0, "not declared"),
    PhaseStarted("SUCCESS"),
    PhaseEnded("SUCCESS", "passed", 1.5),
    Verdict("success", 0),
]

PARTIAL: Sequence[Event] = [
    *GOOD[:-5],
    PhaseStarted("EXTERNAL_VERIFY"),
    Asked("EXTERNAL_VERIFY", finding("external.stripe", "FAIL", "API_TIMEOUT", "no answer in 10 s", optional=True)),
    PhaseEnded("EXTERNAL_VERIFY", "passed", 10.0),
    PhaseStarted("SUCCESS"),
    PhaseEnded("SUCCESS", "passed", 1.5),
    Verdict("partial", 2),
]

FAILING: Sequence[Event] = [
    *_begun(),
    Asked("BACKEND_READY_GATE", finding("ready", "FAIL", "SERVICE_EXITED", "backend exited with status 1")),
    Noted("log_tail", {"backend": ["Traceback:", f"ModuleNotFoundError {HOSTILE}"]}),
    Failure(
        "BACKEND_READY_GATE",
        "SERVICE_EXITED",
        "backend exited with status 1",
        ("exit status 1 after 3.1 s", f"{'a long line of evidence, ' * 12}end"),
        ("see what it printed: flawless logs backend",),
    ),
    PhaseEnded("BACKEND_READY_GATE", "failed", 3.2, "backend exited with status 1"),
    PhaseStarted("FAILURE_ROLLBACK"),
    RolledBack("done", ("backend is stopped, as before this deploy",)),
    PhaseEnded("FAILURE_ROLLBACK", "passed", 1.0),
    Verdict("failure", 1),
]


def stamped(events: Sequence[Event]) -> list[Stamped]:
    moment = to_stamp(datetime(2026, 11, 23, 14, 15, 2, tzinfo=UTC))
    return [Stamped(moment, float(number), event) for number, event in enumerate(events)]


def report_of(events: Sequence[Event]) -> dict[str, Any]:
    builder = ReportBuilder()
    for one in stamped(events):
        builder(one)
    incident = "0193-ab" if builder.failure else None
    return builder.build(datetime(2026, 11, 23, 14, 15, 10, tzinfo=UTC), incident_id=incident)


def play(pause: float) -> None:
    """The failing run and its verdict, as `deploy` shows them; each wait takes `pause` seconds."""
    from flawless.cli.options import Common
    from flawless.cli.streams import go_on_unheard
    from flawless.cli.terminal import Terminal, show_verdict

    go_on_unheard()
    with Terminal(Common(), "board") as terminal:
        for one in stamped(FAILING):
            terminal(one)
            if isinstance(one.event, WaitingFor):
                time.sleep(pause)
    show_verdict(report_of(FAILING), "/x/logs/deploy-report-1.json", "", Common())


if __name__ == "__main__":
    play(float(sys.argv[1]))
