"""A check asks once and answers with a value. It does not know who asks, how often, or what failure costs.

Preflight asks all checks once; a gate asks one until it passes, its deadline comes, or waiting cannot help; the doctor
asks all and advises.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from flawless.core.reason import Reason


class Status(StrEnum):
    """How an outcome is written in reports. WARN is a pass with a warning."""

    PASS = "PASS"  # noqa: S105 - the word of the report, no password
    FAIL = "FAIL"
    SKIP = "SKIP"
    WARN = "WARN"


@dataclass(frozen=True, slots=True)
class Concern:
    """What a passed check found worth saying: a reason code and what to do about it."""

    reason: Reason
    next_step: str


@dataclass(frozen=True, slots=True)
class Passed:
    """The claim holds. `facts` are for the report and for other steps; they are JSON."""

    evidence: tuple[str, ...] = ()
    concern: Concern | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The claim does not hold. Cannot be built without a reason, a cause, evidence and a next step.

    `permanent` says that asking again cannot help (401, the process has ended); left out, the reason decides.
    `retry_after`: seconds after which asking again is worth while and cheap, where that is sooner than a gate would.
    """

    reason: Reason
    cause: str
    evidence: tuple[str, ...]
    next_steps: tuple[str, ...]
    permanent: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if not self.cause or not self.evidence or not self.next_steps:
            raise ValueError(f"{self.reason}: a failure needs a cause, evidence and a next step")

    @property
    def is_permanent(self) -> bool:
        return self.reason.permanent if self.permanent is None else self.permanent

    def because(self, *evidence: str) -> Failed:
        """The same failure with more evidence."""
        return replace(self, evidence=(*self.evidence, *evidence))


@dataclass(frozen=True, slots=True)
class Skipped:
    """The question was not asked. Never shown as a pass.

    `declared` parts from the manifest that are not asked make a deploy partial (exit code 2); what the manifest does
    not declare, or disables by policy, does not.
    """

    because: str
    declared: bool = False

    def __post_init__(self) -> None:
        if not self.because:
            raise ValueError("a skipped check says why")


Outcome = Passed | Failed | Skipped


class Check(Protocol):
    """One question to the world.

    `id` is `subject.claim` or `subject.claim:target`; `claim` is the sentence that holds when it passes.
    """

    @property
    def id(self) -> str: ...

    @property
    def claim(self) -> str: ...

    @property
    def optional(self) -> bool:
        """Marked so in the manifest: its failure makes a deploy partial, not failed."""

    async def ask(self, limit: float) -> Outcome:
        """Asks once, for at most `limit` seconds. Raises nothing that it can name with a reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An outcome with the check it came from and how long the answer took.

    `tolerated`: its failure makes a deploy partial although the manifest does not call it optional: the outage of an
    interface of others is no reason to take back a good release.
    """

    id: str
    claim: str
    outcome: Outcome
    latency: float
    optional: bool = False
    tolerated: bool = False

    @property
    def status(self) -> Status:
        match self.outcome:
            case Passed(concern=None):
                return Status.PASS
            case Passed():
                return Status.WARN
            case Failed():
                return Status.FAIL
            case Skipped():
                return Status.SKIP

    @property
    def failure(self) -> Failed | None:
        return self.outcome if isinstance(self.outcome, Failed) else None

    @property
    def makes_partial(self) -> bool:
        """An optional or tolerated check that failed, or a declared one that was not asked."""
        match self.outcome:
            case Failed():
                return self.optional or self.tolerated
            case Skipped(declared=declared):
                return declared
            case Passed():
                return False

    def to_json(self) -> dict[str, Any]:
        """The outcome of CONTRACTS 5."""
        code, evidence, next_step = _said(self.outcome)
        return {
            "id": self.id,
            "status": str(self.status),
            "code": code,
            "latency_ms": round(self.latency * 1000, 1),
            "evidence": list(evidence),
            "next_step": next_step,
            "optional": self.optional,
            "makes_partial": self.makes_partial,
            "claim": self.claim,
        }


def _said(outcome: Outcome) -> tuple[str | None, Sequence[str], str | None]:
    match outcome:
        case Passed(evidence=evidence, concern=concern):
            return (concern.reason, evidence, concern.next_step) if concern else (None, evidence, None)
        case Failed(reason=reason, cause=cause, evidence=evidence, next_steps=steps):
            return reason, (cause, *evidence), steps[0]
        case Skipped(because=because):
            return None, (because,), None


async def ask(check: Check, limit: float) -> Finding:
    """Asks once and notes how long the answer took."""
    before = time.perf_counter()
    outcome = await check.ask(limit)
    return Finding(check.id, check.claim, outcome, time.perf_counter() - before, check.optional)
