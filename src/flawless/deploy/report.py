"""The report of a run: the event stream, read into the document of CONTRACTS 5.

The same reader builds the report of a run that ended and, from its journal, of one that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from flawless.core.clock import to_stamp
from flawless.core.event import (
    Asked,
    Event,
    Failure,
    Noted,
    PhaseEnded,
    PhaseStarted,
    RolledBack,
    RunStarted,
    Stamped,
    Verdict,
    WaitingFor,
)
from flawless.core.phase import DeployResult, Phase, PhaseStatus
from flawless.core.reason import Reason

SCHEMA_VERSION: Final = 1
_LISTS: Final = {"external"}
"""Each note adds an item."""
_LONGER: Final = {"stopped", "unfinished"}
"""Each note is a list that is added."""


class ReportBuilder:
    """A reader of the event stream that keeps what the report tells."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._phases: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, Any] = {}
        self._failure: dict[str, Any] | None = None
        self._rollback: dict[str, Any] | None = None
        self._verdict = Verdict(DeployResult.ABORTED, None)
        self._started: str = ""
        self._elapsed = 0.0

    def __call__(self, stamped: Stamped) -> None:
        self._elapsed = max(self._elapsed, stamped.elapsed)
        self._read(stamped.event, stamped.at)

    def _read(self, event: Event, at: str) -> None:
        match event:
            case RunStarted():
                self._begin(event, at)
            case PhaseStarted(phase=phase):
                self._phases[phase] = _phase(phase, at)
            case PhaseEnded():
                self._end_phase(event)
            case Asked(phase=phase, finding=finding):
                self._phases[phase]["checks"].append(dict(finding))
            case WaitingFor(phase=phase):
                self._wait(event)
            case Noted(key=key, value=value):
                self._note(key, value)
            case Failure():
                self._failure = _failure(event)
            case RolledBack(status=status, actions=actions, next_steps=next_steps):
                self._rollback = {"status": status, "actions": list(actions), "next_steps": list(next_steps)}
            case Verdict():
                self._verdict = event
            case _:
                pass

    def _begin(self, event: RunStarted, at: str) -> None:
        self._started = at
        self._head = {
            "schema_version": SCHEMA_VERSION,
            "deploy_id": event.deploy_id,
            "name": event.project,
            "environment": event.environment,
            "versions": dict(event.versions),
            "embedded_database": event.embedded,
            "last_good": event.last_good,
        }

    def _end_phase(self, event: PhaseEnded) -> None:
        phase = self._phases[event.phase]
        phase["status"] = event.status
        phase["duration_ms"] = round(event.duration * 1000)
        if event.because:
            phase["because"] = event.because

    def _wait(self, event: WaitingFor) -> None:
        waited_for = self._phases[event.phase]["waited_for"]
        if event.claim not in waited_for:
            waited_for.append(event.claim)

    def _note(self, key: str, value: Any) -> None:
        """A later note of the same key adds to what stands there already."""
        if key in _LISTS:
            self._facts.setdefault(key, []).append(value)
        elif key in _LONGER:
            self._facts.setdefault(key, []).extend(value)
        elif isinstance(value, Mapping):
            self._facts.setdefault(key, {}).update(value)
        else:
            self._facts[key] = value

    @property
    def failure(self) -> dict[str, Any] | None:
        return self._failure

    @property
    def external(self) -> list[dict[str, Any]]:
        """The outcomes of the interfaces, as far as they were judged."""
        return list(self._facts.get("external", []))

    @property
    def deploy_id(self) -> str:
        return str(self._head["deploy_id"])

    def build(self, finished: datetime, *, incident_id: str | None) -> dict[str, Any]:
        """The whole report. A run without a verdict was killed: it is `aborted`, and says so."""
        return {
            **{key: self._head[key] for key in ("schema_version", "deploy_id", "name", "environment")},
            "started_at": self._started,
            "finished_at": to_stamp(finished),
            # What the wall clock says may have been set meanwhile.
            "duration_ms": round(self._elapsed * 1000),
            "result": self._verdict.result,
            "exit_code": self._verdict.exit_code,
            "versions": self._head["versions"],
            "embedded_database": self._head["embedded_database"],
            "phases": list(self._phases.values()),
            "services": [one for one in self._facts.get("services", {}).values() if one is not None],
            "stopped": self._facts.get("stopped", []),
            "database": {**_NO_DATABASE, **self._facts.get("database", {})},
            "health": {"live": None, "db": None, "status": None, **self._facts.get("health", {})},
            "tunnel": {"verdict": None, "observations": {}, **self._facts.get("tunnel", {})},
            "external": self._facts.get("external", []),
            "recovery": {"stats": None, "attempted": False, "result": None, **self._facts.get("recovery", {})},
            "failure": self._failure,
            "rollback": self._rollback,
            "incident_id": incident_id,
            "changes_since_last_good": {"last_good": self._head["last_good"], **self._facts.get("changes", {})},
            "log_tail": self._facts.get("log_tail", {}),
            "unfinished": self._facts.get("unfinished", []),
        }


_NO_DATABASE: Final[Mapping[str, Any]] = {
    "latency_ms": None,
    "migrations": {"applied": [], "pending": []},
    "tables": {},
}


def killed(events: Iterable[Stamped]) -> tuple[ReportBuilder, Failure]:
    """The report of a run that was killed, from its journal, and the failure it ended in.

    What had failed before it was killed stands in the evidence.
    """
    builder = ReportBuilder()
    last = None
    phase: str = Phase.PRECHECK
    for stamped in events:
        builder(stamped)
        last = stamped
        if isinstance(stamped.event, PhaseStarted):
            phase = stamped.event.phase
    at = last.at if last else "unknown"
    before = builder.failure
    failure = Failure(
        phase,
        Reason.DEPLOY_KILLED,
        "the deploy was killed before it could say how it ended",
        (
            f"its journal ends at {at}, in phase {phase}" + (f", after {last.event.name}" if last else ""),
            *([f"it had failed before: {before['code']} in {before['phase']}: {before['cause']}"] if before else ()),
        ),
        ("run it again, it goes on from what is there: flawless deploy", "see what runs now: flawless status"),
    )
    return builder, failure


def _phase(name: str, at: str) -> dict[str, Any]:
    # A phase that never ended is one in which the run was killed.
    return {
        "name": name,
        "status": str(PhaseStatus.FAILED),
        "started_at": at,
        "duration_ms": None,
        "waited_for": [],
        "checks": [],
    }


def _failure(event: Failure) -> dict[str, Any]:
    return {
        "phase": event.phase,
        "code": event.code,
        "cause": event.cause,
        "evidence": list(event.evidence),
        "next_steps": list(event.next_steps),
    }
