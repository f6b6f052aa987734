"""The gate: the only place in the product that waits.

It asks one check until the check passes often and long enough, until its deadline comes, until the answer cannot change
any more (a permanent reason), or until something else settles the matter (the process has exited).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flawless.core.check import Check, Failed, Finding, Outcome, Passed
from flawless.core.clock import Clock
from flawless.core.reason import Reason

WHY_EVERY = 5.0
"""Seconds between two events that say what is being waited for."""

GRACE = 1.0
"""Seconds a check may run over its limit before the gate ends the attempt itself."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a gate waits. All in seconds.

    `total`: the deadline. `attempt`: the limit of one question. `interval`: the first pause, which grows by half each
    time up to `ceiling`. `lasting`: for how long the check must pass without a failure between, from its first pass.
    """

    total: float
    attempt: float = 3.0
    interval: float = 0.25
    ceiling: float = 1.0
    lasting: float = 0.0

    def pause(self, attempts: int) -> float:
        """The pause after so many attempts."""
        return float(min(self.ceiling, self.interval * 1.5 ** min(attempts - 1, 32)))


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a gate waits: the check, how long it has waited, what the last answer was."""

    check_id: str
    claim: str
    elapsed: float
    remaining: float
    last: Outcome | None


Ending = asyncio.Future[Failed] | asyncio.Task[Failed]
"""Settles a gate from outside: its result is the failure that ends the wait."""


async def gate(
    check: Check,
    patience: Patience,
    *,
    clock: Clock,
    on_wait: Callable[[Waiting], None] = lambda _: None,
    ending: Ending | None = None,
) -> Finding:
    """Asks `check` as `patience` says and answers with the last finding; a failure says how long it was waited for."""
    return await _Gate(check, patience, clock, on_wait, ending).settle()


class _Gate:
    def __init__(
        self,
        check: Check,
        patience: Patience,
        clock: Clock,
        on_wait: Callable[[Waiting], None],
        ending: Ending | None,
    ) -> None:
        self._check = check
        self._patience = patience
        self._clock = clock
        self._on_wait = on_wait
        self._ending = ending
        self._started = clock.monotonic()
        self._told = self._started
        self._attempts = 0
        self._passing_since: float | None = None
        self._last: Finding | None = None

    async def settle(self) -> Finding:
        while True:
            finding = await self._attempt()
            if self._is_settled(finding):
                return self._with_wait(finding)
            await self._pause()

    async def _attempt(self) -> Finding:
        """One question, raced against its limit and against the ending."""
        waiting = self._passing_since is None
        limit = max(min(self._patience.attempt, self._remaining()), 0.001) if waiting else self._patience.attempt
        before = self._clock.monotonic()
        self._attempts += 1
        outcome = await self._raced(limit)
        latency = self._clock.monotonic() - before
        finding = Finding(self._check.id, self._check.claim, outcome, latency, self._check.optional)
        if self._last is not None and self._was_cut_short(finding, limit):
            return self._last
        self._last = finding
        return finding

    async def _raced(self, limit: float) -> Outcome:
        question = asyncio.ensure_future(self._check.ask(limit))
        bell = asyncio.ensure_future(self._clock.sleep(limit + GRACE))
        try:
            await self._first(question, bell)
        finally:
            await _cancelled(question, bell)
        # Asked behind the last await: an ending that came meanwhile must not be settled with the answer before it.
        if self._ending is not None and self._ending.done():
            return self._ending.result()
        return self._overdue(limit) if question.cancelled() else question.result()

    def _was_cut_short(self, finding: Finding, limit: float) -> bool:
        """The deadline cut this attempt: its time-out says less than the answer before it."""
        failure = finding.failure
        if failure is None or failure.is_permanent or self._ended():
            return False
        return limit < self._patience.attempt and finding.latency >= limit * 0.9

    def _is_settled(self, finding: Finding) -> bool:
        match finding.outcome:
            case Passed():
                return self._has_lasted()
            case Failed() as failure:
                self._passing_since = None
                return failure.is_permanent or self._remaining() <= 0 or self._ended()
            case _:
                return True

    def _has_lasted(self) -> bool:
        now = self._clock.monotonic()
        self._passing_since = now if self._passing_since is None else self._passing_since
        return now - self._passing_since >= self._patience.lasting

    def _ended(self) -> bool:
        return self._ending is not None and self._ending.done()

    def _remaining(self) -> float:
        return self._started + self._patience.total - self._clock.monotonic()

    async def _pause(self) -> None:
        if self._attempts == 1:
            self._tell()
        pause = self._soonest(self._patience.pause(self._attempts))
        if self._passing_since is not None:
            left = self._passing_since + self._patience.lasting - self._clock.monotonic()
            pause = min(pause, max(left, 0.001))
        else:
            pause = min(pause, max(self._remaining(), 0.001))
        bell = asyncio.ensure_future(self._clock.sleep(pause))
        try:
            await self._first(bell)
        finally:
            await _cancelled(bell)

    def _soonest(self, pause: float) -> float:
        """What is cheap to ask is asked sooner, where the answer says so."""
        failure = self._last.failure if self._last is not None else None
        return pause if failure is None or failure.retry_after is None else min(pause, failure.retry_after)

    async def _first(self, *tasks: asyncio.Future[Any]) -> None:
        """Returns when one of the tasks, or the ending, is done; says meanwhile, every 5 s, why it waits."""
        awaited = {*tasks, self._ending} if self._ending is not None else {*tasks}
        while not any(task.done() for task in awaited):
            due = self._told + WHY_EVERY - self._clock.monotonic()
            why = asyncio.ensure_future(self._clock.sleep(max(due, 0.0)))
            try:
                await asyncio.wait({*awaited, why}, return_when=asyncio.FIRST_COMPLETED)
                if why.done():
                    self._tell()
            finally:
                await _cancelled(why)

    def _tell(self) -> None:
        now = self._told = self._clock.monotonic()
        last = self._last.outcome if self._last is not None else None
        remaining = max(self._remaining(), 0.0)
        self._on_wait(Waiting(self._check.id, self._check.claim, now - self._started, remaining, last))

    def _overdue(self, limit: float) -> Failed:
        return Failed(
            Reason.DEPLOY_CHECK_HUNG,
            f"the check {self._check.id} did not answer within its own limit",
            (f"limit {limit:.1f} s, ended after {limit + GRACE:.1f} s",),
            ("this is a fault of Flawless: report it with the deploy report",),
        )

    def _with_wait(self, finding: Finding) -> Finding:
        waited = self._clock.monotonic() - self._started
        if finding.failure is None or self._attempts == 1:
            return finding
        noted = finding.failure.because(
            f"asked {self._attempts} times in {waited:.1f} s (limit {self._patience.total:.1f} s)"
        )
        return replace(finding, outcome=noted)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Ends what is still running and waits for its end, so that nothing outlives the attempt."""
    running = {task for task in tasks if not task.done()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
