"""One run of a deploy: what its steps share. A step asks and waits through it, so that everything is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flawless.core.check import Check, Failed, Finding, Outcome, Passed, ask
from flawless.core.clock import Clock
from flawless.core.event import Asked, Event, Noted, Stream, WaitingFor
from flawless.core.gate import Ending, Patience, Waiting, gate
from flawless.core.phase import Phase
from flawless.deploy.rollback import UndoStack

T = TypeVar("T")

ATTEMPT = 5.0
"""Seconds a check may take when it is asked once."""


class Step(Protocol):
    """One phase of the deploy."""

    async def run(self, run: Run) -> Outcome:
        """Does the phase. Whatever it changes, it first hands `run.undo` the way back."""


@dataclass
class Run:
    """The state of one run; `findings` are all outcomes, newest last. A committed run cannot be undone any more."""

    deploy_id: str
    clock: Clock
    stream: Stream
    undo: UndoStack = field(default_factory=UndoStack)
    phase: Phase = Phase.PRECHECK
    findings: list[Finding] = field(default_factory=list)
    is_committed: bool = False
    _beside: list[asyncio.Task[Any]] = field(default_factory=list)
    _endings: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that goes on beside the phases. It ends with the run, whatever becomes of that."""
        task = asyncio.ensure_future(work)
        self._beside.append(task)
        return task

    def ends_with(self, end: Callable[[], Awaitable[None]]) -> None:
        """`end` stops what somebody else has going on beside the phases; it may be called twice."""
        self._endings.append(end)

    async def aclose(self) -> None:
        """Ends what still goes on beside the phases: before anything is put back, and when the run is over."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, *(end() for end in self._endings), return_exceptions=True)

    def tell(self, event: Event) -> None:
        self.stream.tell(event)

    def note(self, key: str, value: object) -> None:
        """A fact for the report, under the report's own key."""
        self.tell(Noted(key, value))

    async def ask_all(self, checks: Sequence[Check], *, limit: float = ATTEMPT) -> list[Finding]:
        """Asks every check once, side by side; the findings come in the checks' order."""
        findings = await asyncio.gather(*(ask(check, limit) for check in checks))
        for finding in findings:
            self.record(finding)
        return list(findings)

    async def wait_for(self, check: Check, patience: Patience, *, ending: Ending | None = None) -> Finding:
        """Asks one check until its gate is settled, and records the finding."""
        finding = await gate(check, patience, clock=self.clock, on_wait=self.tell_wait, ending=ending)
        self.record(finding)
        return finding

    async def timed(self, id_: str, claim: str, question: Awaitable[Outcome]) -> Finding:
        """Awaits an answer that is more than a question (a migration), and records it as a finding."""
        before = self.clock.monotonic()
        finding = Finding(id_, claim, await question, self.clock.monotonic() - before)
        self.record(finding)
        return finding

    def record(self, finding: Finding) -> None:
        """Keeps a finding, tells it, and notes its facts under the report's keys."""
        self.findings.append(finding)
        self.tell(Asked.of(self.phase, finding))
        if isinstance(finding.outcome, Passed | Failed):
            for key, value in finding.outcome.facts.items():
                self.note(key, value)

    @property
    def is_partial(self) -> bool:
        return any(finding.makes_partial for finding in self.findings)

    def tell_wait(self, waiting: Waiting) -> None:
        last = waiting.last.cause if isinstance(waiting.last, Failed) else None
        self.tell(WaitingFor(self.phase, waiting.check_id, waiting.claim, waiting.elapsed, waiting.remaining, last))


def required_failure(findings: Sequence[Finding]) -> Failed | None:
    """The first failure, in the checks' order, that does more than make the deploy partial."""
    return next((finding.failure for finding in findings if finding.failure and not finding.makes_partial), None)


def together(findings: Sequence[Finding], first: Failed | None) -> Outcome:
    """The first failure, with every other one named beside it."""
    if first is None:
        return Passed()
    failed = [one.failure for one in findings if one.failure and not one.makes_partial]
    return first.because(*(f"also {other.reason}: {other.cause}" for other in failed if other is not first))
