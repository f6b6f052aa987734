"""After a crash: start again, when, or give up. Pure: the budget it counts against is read by the caller."""

from __future__ import annotations

from collections.abc import Sequence

from flawless.adapters.keeper.spec import RestartRule
from flawless.adapters.keeper.value import Value

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Final

PROVEN_AFTER: Final = 10.0
"""A process that lived so many seconds since a committed start counts as one that had been ready."""


class Crash(Value):
    """What is known when a process has ended unasked."""

    now: float
    """Wall time, seconds since the epoch."""
    restarts: Sequence[float]
    """Wall times of the restarts made so far."""
    up: float
    """Seconds the process lived since it was started, or since the verdict when that came later."""
    was_ready: bool
    unproven: int
    """Processes in a row, before this one, that never became ready."""


class Respawn(Value):
    """Start again after `delay` seconds."""

    delay: float
    restarts: tuple[float, ...]
    """What is still remembered, this restart not included."""
    unproven: int


class GiveUp(Value):
    """The budget is used up."""

    reason: str


def decide(rule: RestartRule, crash: Crash) -> Respawn | GiveUp:
    """A process that had been ready comes back at once, another after a growing delay, both within the budget."""
    recent = _remembered(rule, crash)
    if len(recent) >= rule.limit:
        return GiveUp(f"crashed again after {len(recent)} restarts within {rule.within:g} s")
    if crash.was_ready or crash.up >= PROVEN_AFTER:
        return Respawn(0.0, recent, 0)
    delay = rule.delays[min(crash.unproven, len(rule.delays) - 1)]
    return Respawn(delay, recent, crash.unproven + 1)


def _remembered(rule: RestartRule, crash: Crash) -> tuple[float, ...]:
    if crash.up >= rule.forget:
        return ()
    # A stamp from the future is from before the clock was set back: its age is unknown.
    return tuple(at for at in crash.restarts if 0 <= crash.now - at < rule.within)
