"""What a run looks like while it goes: the event stream, read into lines that stay and lines that change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flawless.cli.page import NARROW, Line, Span, line, wrapped
from flawless.core.event import (
    Asked,
    Effected,
    Event,
    Failure,
    Intended,
    PhaseEnded,
    PhaseStarted,
    RolledBack,
    RunStarted,
    WaitingFor,
)
from flawless.core.phase import Phase, PhaseStatus

_NAME_WIDTH: Final = max(len(phase) for phase in Phase)
_DETAIL: Final = "     "
_SIGNS: Final = {"PASS": ("✓", "green"), "FAIL": ("✗", "red"), "WARN": ("!", "yellow"), "SKIP": ("-", "dim")}
_TALLIES: Final = {"PASS": "passed", "WARN": "warned", "FAIL": "failed", "SKIP": "skipped"}
_FRAMES: Final = {True: "|/-\\", False: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"}
_FRAMES_A_SECOND: Final = 8
_DOING: Final = {
    "start": "starting {}",
    "stop": "stopping {}",
    "build": "building {}",
    "migrate": "applying the migrations of {}",
    "recover": "{} answers and is not well: its one recovery is ordered",
}
_DONE: Final = {
    "start": "{} started",
    "stop": "{} stopped",
    "build": "{} built",
    "migrate": "migrations of {} applied",
    "recover": "recovery of {} ordered",
}


@dataclass(frozen=True, slots=True)
class Wait:
    """A gate that waits, and when it said so."""

    told: WaitingFor
    at: float


@dataclass
class Board:
    """The state of one run, as a person follows it. Moments are seconds of one monotonic clock."""

    name: str
    width: int
    shows_all: bool
    is_ascii: bool
    _phase: str | None = None
    _since: float = 0.0
    _tally: Counter[str] = field(default_factory=Counter)
    _details: list[Line] = field(default_factory=list)
    _waits: dict[str, Wait] = field(default_factory=dict)
    _doing: dict[tuple[str, str], str] = field(default_factory=dict)
    _walks: bool = False

    def read(self, event: Event, now: float) -> list[Line]:
        """Takes in what happened; the lines that can be said for good now."""
        match event:
            case RunStarted():
                self._walks = True
                return list(self._heading(event))
            case PhaseStarted(phase=phase):
                self._begin(phase, now)
            case PhaseEnded():
                return self._end(event)
            case _:
                self._details += self._told(event, now)
        return self._taken() if self._phase is None else []

    def present(self, now: float, height: int) -> list[Line]:
        """What goes on at this moment, in at most `height` lines: the phase, what it waits for, what is to come."""
        if self._phase is None:
            return list(self._waiting(now))[:height]
        current = [self._current(now), *self._details, *self._waiting(now)]
        if len(current) > height:
            # The last lines say what is waited for; what is cut here is said for good when the phase ends.
            current = [current[0], *current[len(current) - height + 1 :]] if height > 1 else current[:1]
        return [*current, *self._to_come()][:height]

    def _heading(self, event: RunStarted) -> Iterator[Line]:
        place = f" ({event.environment})" if event.environment else ""
        database = "   database: embedded PostgreSQL" if event.embedded else ""
        name = Span(f" {self.name}{place}", "bold")
        whole = line(name, Span(f"   deploy {event.deploy_id}{database}", "dim"))
        if sum(len(span.text) for span in whole) <= self.width:
            yield whole
        else:
            yield line(name)
            for part in (f" deploy {event.deploy_id}", database and f" {database.strip()}"):
                if part:
                    yield line(Span(part, "dim"))
        yield ()

    def _begin(self, phase: str, now: float) -> None:
        self._phase, self._since = phase, now
        self._tally.clear()
        if phase == Phase.FAILURE_ROLLBACK:
            self._waits.clear()
            self._doing.clear()

    def _end(self, event: PhaseEnded) -> list[Line]:
        sign, color = self._sign(event)
        said = event.because if event.status != PhaseStatus.PASSED and event.because else self._tallied()
        if event.status == PhaseStatus.SKIPPED:
            said = f"skipped: {said}"
        elif event.status == PhaseStatus.PASSED and event.because:
            said = event.because
        took = None if event.status == PhaseStatus.SKIPPED else event.duration
        head = self._head(Span(sign, color), event.phase, took)
        style = "red" if event.status == PhaseStatus.FAILED else "dim"
        narrow = self.width < NARROW
        lines = [head, *self._detail(said, style)] if narrow else [*wrapped(said, self.width, head, style)]
        self._phase = None
        return [*lines, *self._taken()]

    def _sign(self, event: PhaseEnded) -> tuple[str, str]:
        if event.phase == Phase.FAILURE_ROLLBACK and event.status == PhaseStatus.PASSED:
            return "•", "yellow"
        match event.status:
            case PhaseStatus.FAILED:
                return _SIGNS["FAIL"]
            case PhaseStatus.SKIPPED:
                return _SIGNS["SKIP"]
            case _:
                return _SIGNS["WARN"] if self._tally["WARN"] or self._tally["FAIL"] else _SIGNS["PASS"]

    def _head(self, sign: Span, phase: str, seconds: float | None) -> Line:
        return (Span(" "), sign, Span(f" {phase:<{_NAME_WIDTH}}", "bold"), Span(f" {_took(seconds):>8}  "))

    def _tallied(self) -> str:
        counted = [(status, word) for status, word in _TALLIES.items() if self._tally[status]]
        # Passes alone are the usual case and need no word for what is not there.
        return ", ".join(f"{self._tally[status]} {word}" for status, word in counted)

    def _taken(self) -> list[Line]:
        details, self._details = self._details, []
        return details

    def _told(self, event: Event, now: float) -> Iterator[Line]:
        match event:
            case Asked(finding=finding):
                yield from self._asked(finding)
            case WaitingFor():
                self._waits[event.check] = Wait(event, now)
            case Intended(action=action, subject=subject):
                self._doing[action, subject] = _DOING.get(action, f"{action} {{}}").format(subject)
            case Effected():
                yield from self._effected(event)
            case Failure(code="DEPLOY_INTERRUPTED"):
                yield from self._detail("interrupted: putting things back; a second Ctrl-C abandons that", "yellow")
            case RolledBack(actions=actions):
                for action in actions:
                    yield from self._detail(action, "red" if action.startswith("NOT DONE") else "")

    def _asked(self, finding: Mapping[str, Any]) -> Iterator[Line]:
        status = str(finding["status"])
        self._waits.pop(str(finding["id"]), None)
        self._tally[status] += 1
        if status == "PASS" and not self.shows_all:
            return
        if status == "SKIP" and not finding["evidence"]:
            return
        sign, style = _SIGNS[status]
        code = f" {finding['code']}" if finding["code"] else ""
        optional = " (optional)" if finding["optional"] else ""
        first = (Span(_DETAIL), Span(f"{sign} ", style))
        said = "; ".join(finding["evidence"]) or str(finding["claim"])
        yield from wrapped(f"{finding['id']}{code}{optional}: {said}", self.width, first, "dim" * (status == "PASS"))

    def _effected(self, event: Effected) -> Iterator[Line]:
        self._doing.pop((event.action, event.subject), None)
        said = _DONE.get(event.action, f"{event.action} {{}}: done").format(event.subject)
        facts = [f"{name} {event.detail[name]}" for name in ("pid", "port") if event.detail.get(name) is not None]
        what = f": {event.detail['pending']}" if event.detail.get("pending") else ""
        yield from self._detail(", ".join([f"{said}{what}", *facts]))

    def _detail(self, text: str, style: str = "") -> Iterator[Line]:
        yield from wrapped(text, self.width, (Span(_DETAIL),), style)

    def _current(self, now: float) -> Line:
        frames = _FRAMES[self.is_ascii]
        frame = frames[int((now - self._since) * _FRAMES_A_SECOND) % len(frames)]
        head = self._head(Span(frame, "cyan"), self._phase or "", now - self._since)
        return head if self.width < NARROW else (*head, Span(self._tallied(), "dim"))

    def _waiting(self, now: float) -> Iterator[Line]:
        for doing in self._doing.values():
            yield from self._detail(doing, "cyan")
        for wait in self._waits.values():
            yield from self.waiting(wait.told, now - wait.at)

    def waiting(self, told: WaitingFor, since: float = 0.0) -> Iterator[Line]:
        """What a gate waits for, `since` seconds after it said so."""
        left = max(told.remaining - since, 0.0)
        yield from self._detail(f"waiting until {told.claim} ({told.waited + since:.0f} s, {left:.0f} s left)", "cyan")
        if told.last:
            yield from wrapped(told.last, self.width, (Span(f"{_DETAIL}  last answer: ", "dim"),), "dim")

    def _to_come(self) -> Iterator[Line]:
        order = [str(phase) for phase in Phase if phase is not Phase.FAILURE_ROLLBACK]
        if not self._walks or self._phase not in order:
            return
        for phase in order[order.index(self._phase) + 1 :]:
            yield line(Span(f"   {phase}", "dim"))


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)} m {int(seconds % 60):02d} s"
