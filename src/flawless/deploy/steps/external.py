"""EXTERNAL_VERIFY: the interfaces of others, asked beside the other phases and judged here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flawless.checks.interfaces.declared import REFUSALS, Declared, Interface
from flawless.core.check import Check, Failed, Finding, Outcome, Passed, Skipped
from flawless.core.gate import Patience, Waiting, gate
from flawless.core.phase import Phase
from flawless.core.reason import Reason
from flawless.deploy.run import Run, Step, required_failure, together
from flawless.deploy.steps.undeclared import NOT_DECLARED, Unsupported

LONGEST: Final = 3
"""A question takes at most so many of its interface's timeouts: two attempts, and one Retry-After between them."""


Answered = tuple[Interface, Finding]


@dataclass(frozen=True, slots=True)
class _Asking:
    """An interface, and its answers on their way."""

    interface: Interface
    answers: asyncio.Task[list[Finding]]

    @property
    def known(self) -> list[Answered]:
        """What it has answered by now; nothing while it is being asked."""
        task = self.answers
        is_answered = task.done() and not task.cancelled() and task.exception() is None
        return [(self.interface, finding) for finding in task.result()] if is_answered else []


@dataclass
class Interfaces:
    """The declared ones while the deploy goes on. Built when they are first asked: only then a client is needed.

    `opened` returns when the client is loaded, which is no part of what an answer may take.
    """

    build: Callable[[], Declared]
    opened: Callable[[], Awaitable[None]]
    _asking: list[_Asking] = field(default_factory=list)
    _settled: Sequence[Finding] = ()

    def start(self, run: Run) -> None:
        """Asks all of them at once, beside whatever comes next."""
        declared = self.build()
        self._settled = declared.settled
        self._asking = [_Asking(one, run.beside(self._answers(one, run))) for one in declared.asked]

    def refusal(self, run: Run) -> Failed | None:
        """A key that is refused, as far as is known by now; everything that is known is told then."""
        known = self._known()
        findings = [*self._settled, *(finding for _, finding in known)]
        if not any(one.failure and one.failure.reason in REFUSALS and not one.makes_partial for one in findings):
            return None
        outcome = self._judged(run, known)
        return outcome if isinstance(outcome, Failed) else None

    async def verify(self, run: Run) -> Outcome:
        """Waits for the answers that are not there yet, and judges all of them."""
        if self._asking:
            await asyncio.gather(*(one.answers for one in self._asking))
        again = await asyncio.gather(*(_looked_again(one, finding, run) for one, finding in self._known()))
        return self._judged(run, again)

    def findings(self) -> list[Finding]:
        return [*self._settled, *(finding for _, finding in self._known())]

    async def _answers(self, one: Interface, run: Run) -> list[Finding]:
        await self.opened()
        return await _answers(one, run)

    def _known(self) -> list[Answered]:
        return [answered for one in self._asking for answered in one.known]

    def _judged(self, run: Run, answered: Sequence[Answered]) -> Outcome:
        for finding in self._settled:
            _record(run, finding, "")
        for interface, finding in answered:
            _record(run, finding, interface.base_url)
        findings = [*self._settled, *(finding for _, finding in answered)]
        return together(findings, required_failure(findings))


@dataclass(frozen=True, slots=True)
class ThenAsk:
    """A phase, and when it has passed the interfaces are asked: a key of the wrong form is sent nowhere."""

    step: Step
    interfaces: Interfaces

    async def run(self, run: Run) -> Outcome:
        outcome = await self.step.run(run)
        if isinstance(outcome, Passed):
            self.interfaces.start(run)
        return outcome


@dataclass(frozen=True, slots=True)
class UnlessRefused:
    """A phase that is not begun when a key is known to be refused. It waits for no answer."""

    step: Step
    interfaces: Interfaces

    async def run(self, run: Run) -> Outcome:
        return self.interfaces.refusal(run) or await self.step.run(run)


@dataclass(frozen=True, slots=True)
class VerifyInterfaces:
    """Judges the interfaces. `unsupported`: what is declared and not carried out yet."""

    interfaces: Interfaces
    unsupported: Sequence[Unsupported]

    async def run(self, run: Run) -> Outcome:
        parts = [part.finding() for part in self.unsupported]
        for part in parts:
            run.record(part)
        outcome = await self.interfaces.verify(run)
        findings = [*self.interfaces.findings(), *parts]
        unasked = [(one.id, one.outcome.because) for one in findings if isinstance(one.outcome, Skipped)]
        if len(unasked) < len(findings):
            return outcome
        return Skipped("; ".join(f"{id_}: {because}" for id_, because in unasked) or NOT_DECLARED)


@dataclass(slots=True)
class _OneRetry:
    """A check that is asked again at most once, and only where its answer says that this helps."""

    check: Check
    asked: int = 0

    @property
    def id(self) -> str:
        return self.check.id

    @property
    def claim(self) -> str:
        return self.check.claim

    @property
    def optional(self) -> bool:
        return self.check.optional

    async def ask(self, limit: float) -> Outcome:
        outcome = await self.check.ask(limit)
        self.asked += 1
        if isinstance(outcome, Failed):
            return replace(outcome, permanent=self.asked > 1 or outcome.retry_after is None)
        return outcome


async def _answers(one: Interface, run: Run) -> list[Finding]:
    """Whether it accepts the key; when it does, the rest side by side."""
    ends = run.clock.monotonic() + LONGEST * one.timeout
    accepts = await _answer(one, one.accepts, run, ends)
    if accepts.failure is not None:
        return [accepts, *(_unasked(check, accepts.id) for check in one.further)]
    return [accepts, *await asyncio.gather(*(_answer(one, check, run, ends) for check in one.further))]


async def _answer(one: Interface, check: Check, run: Run, ends: float) -> Finding:
    total = max(ends - run.clock.monotonic(), 0.001)
    # The pause is what the answer asks for: the gate's own is longer than any of those.
    patience = Patience(total, attempt=one.timeout, interval=one.timeout, ceiling=one.timeout)

    def tell(waiting: Waiting) -> None:
        if run.phase is Phase.EXTERNAL_VERIFY:
            run.tell_wait(waiting)

    return one.judged(await gate(_OneRetry(check), patience, clock=run.clock, on_wait=tell))


def _unasked(check: Check, before: str) -> Finding:
    return Finding(check.id, check.claim, Skipped(f"not asked, because {before} did not pass"), 0.0, check.optional)


async def _looked_again(one: Interface, finding: Finding, run: Run) -> Answered:
    """A tunnel that was asked for before this deploy brought it up is asked for again, until the API has seen it."""
    if finding.failure is None or finding.failure.reason is not Reason.TUNNEL_NOT_CONNECTED:
        return one, finding
    check = next(check for check in one.further if check.id == finding.id)
    patience = Patience(one.timeout, attempt=one.timeout, interval=1.0, ceiling=2.0)
    return one, one.judged(await gate(check, patience, clock=run.clock, on_wait=run.tell_wait))


def _record(run: Run, finding: Finding, base_url: str) -> None:
    run.record(finding)
    run.note("external", _outcome(finding, base_url))


def _outcome(finding: Finding, base_url: str) -> Mapping[str, Any]:
    """The outcome of CONTRACTS 5, with every next step, and with the address where that is not the interface's own."""
    steps = list(finding.failure.next_steps) if finding.failure else []
    return {**finding.to_json(), "next_steps": steps, "base_url": base_url or None}
