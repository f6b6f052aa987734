"""The one place that orders a restart: lock, look again, budget, restart once, ask again.

Several who see the same thing die at once (two deploys, the command line, a monitor) make one restart of it. The lock
is the operating system's and dies with its holder; the budget is on disk and counts a keeper's own restarts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from flawless.core.budget import Spent
from flawless.core.check import Failed, Outcome
from flawless.core.clock import Clock, to_stamp
from flawless.core.reason import Reason

PATIENCE: Final = 30.0
"""Seconds for which the lock is waited for: a restart that stops something first may take half of that."""


class Subject(Protocol):
    """What may be restarted."""

    @property
    def name(self) -> str: ...

    async def incarnation(self) -> str | None:
        """Which process it is now, told apart from every other one there was; None when none runs."""

    async def restart(self) -> None:
        """Ends it where it runs, and starts it. Returns when the new process is there, ready or not.

        Raises CommandFailed when it could not be done.
        """

    async def ask(self) -> Outcome:
        """Whether it does its work; waits as long as that may take."""


class Ledger(Protocol):
    """The lock and the budget of one thing that may be restarted, shared by every process of this machine."""

    def held(self, limit: float) -> AbstractAsyncContextManager[None]:
        """Holds the lock for the time of the block. Raises TimeoutError when it is not free within `limit` seconds."""

    def spent(self) -> Spent:
        """What was charged so far."""

    def charge(self, restarts: Sequence[float]) -> None:
        """Writes down all that counts now. Raises OSError where that cannot be kept."""


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `limit` restarts within so many seconds. `refused`: the code of a refusal; `command`: how a person does
    it all the same.
    """

    limit: int
    within: float
    refused: Reason
    command: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """We did it, and this is what it answered then."""

    said: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AlreadyRestarted:
    """Somebody else had done it since it was looked at: nothing was done, and the new one was asked."""

    said: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done."""

    failed: Failed

    @property
    def said(self) -> str:
        return self.failed.cause


Recovered = Restarted | AlreadyRestarted | Refused


@dataclass(frozen=True, slots=True)
class Recovery:
    """Restarts one subject, whoever asks for it."""

    subject: Subject
    ledger: Ledger
    rule: Rule
    clock: Clock
    patience: float = PATIENCE

    async def restart(self, seen: str | None) -> Recovered:
        """Restarts it unless it is another by now than the one that was `seen` to fail (None: none ran).

        The lock is given back before the new one is asked: who waited for it sees a new process, and asks it too.
        Raises CommandFailed when the restart itself did not work; it is charged all the same.
        """
        try:
            async with self.ledger.held(self.patience):
                done = await self._restarted(seen)
        except TimeoutError:
            return Refused(self._busy())
        if isinstance(done, Refused):
            return done
        outcome = await self.subject.ask()
        made, said = done
        return made(said, outcome)

    async def _restarted(self, seen: str | None) -> tuple[type[Restarted | AlreadyRestarted], str] | Refused:
        """There is a new process, by us or by somebody else, and what is said of that."""
        now = await self.subject.incarnation()
        if now is not None and now != seen:
            what = "restarted" if seen else "started"
            return AlreadyRestarted, f"{self.subject.name} had been {what} meanwhile: nothing was done"
        spent = self.ledger.spent()
        recent = self._recent(spent)
        if len(recent) >= self.rule.limit:
            return Refused(self._used_up(recent, spent))
        try:
            self.ledger.charge((*recent, self.clock.now().timestamp()))
        except OSError as error:
            return Refused(self._unwritable(error))
        await self.subject.restart()
        return Restarted, self._sentence(seen, len(recent) + 1, spent)

    def _recent(self, spent: Spent) -> tuple[float, ...]:
        """A stamp from the future is from before the clock was set back: its age is unknown."""
        now = self.clock.now().timestamp()
        return tuple(at for at in spent.restarts if 0 <= now - at < self.rule.within)

    def _sentence(self, seen: str | None, number: int, spent: Spent) -> str:
        what = f"restarted {self.subject.name}" if seen else f"started {self.subject.name}"
        allowed = f"{number} of {self.rule.limit} within {self.rule.within:g} s"
        return f"{what} ({allowed}{f'; {spent.damage}' if spent.damage else ''})"

    def _used_up(self, recent: Sequence[float], spent: Spent) -> Failed:
        times = ", ".join(to_stamp(datetime.fromtimestamp(at, UTC)) for at in recent)
        cause = (
            f"{self.subject.name} was not restarted: {len(recent)} restarts within {self.rule.within:g} s are enough"
        )
        told = (f"restarted at {times}", f"budget: {self.rule.limit} within {self.rule.within:g} s")
        return self._refusal(cause, *told, *([spent.damage] if spent.damage else []))

    def _unwritable(self, error: OSError) -> Failed:
        cause = (
            f"{self.subject.name} was not restarted: the restart could not be written down, so nobody would count it"
        )
        return self._refusal(cause, f"{error.filename or 'its budget'}: {error.strerror or error}")

    def _busy(self) -> Failed:
        cause = f"{self.subject.name} was not restarted: somebody else is at it"
        return self._refusal(cause, f"its lock was not free within {self.patience:g} s")

    def _refusal(self, cause: str, *evidence: str) -> Failed:
        steps = (f"restart it yourself: {self.rule.command}", "see what it printed: flawless logs -n 50")
        return Failed(self.rule.refused, cause, evidence, steps, permanent=True)
