"""Histories of crashes, and what is decided after each."""

from __future__ import annotations

import pytest

from flawless.adapters.keeper.policy import Crash, GiveUp, Respawn, decide
from flawless.adapters.keeper.spec import RestartRule

RULE = RestartRule(delays=(0.0, 0.5, 1.0), limit=3, within=300.0, forget=600.0)
NOW = 1_000_000.0
GAVE_UP = GiveUp("crashed again after 3 restarts within 300 s")


def crash(*, up: float = 0.1, was_ready: bool = False, unproven: int = 0, ages: tuple[float, ...] = ()) -> Crash:
    return Crash(NOW, [NOW - age for age in ages], up, was_ready, unproven)


HISTORIES = {
    "the first crash of one that never was ready": (crash(), Respawn(0.0, (), 1)),
    "the second": (crash(unproven=1, ages=(1,)), Respawn(0.5, (NOW - 1,), 2)),
    "the last delay is repeated": (crash(unproven=9), Respawn(1.0, (), 10)),
    "one that was ready comes back at once": (crash(was_ready=True, unproven=2), Respawn(0.0, (), 0)),
    "one that lived 10 s counts as ready": (crash(up=10.0, unproven=2), Respawn(0.0, (), 0)),
    "one that lived almost so long does not": (crash(up=9.9, unproven=1), Respawn(0.5, (), 2)),
    "the budget is used up": (crash(ages=(3, 2, 1)), GAVE_UP),
    "also for one that was ready": (
        crash(was_ready=True, ages=(3, 2, 1)),
        GAVE_UP,
    ),
    "older restarts do not count": (crash(ages=(301, 300, 1)), Respawn(0.0, (NOW - 1,), 1)),
    "a good time forgets all": (crash(up=600.0, was_ready=True, ages=(299, 298, 297)), Respawn(0.0, (), 0)),
    "the clock was set back": (crash(ages=(-3600, -3601, 1)), Respawn(0.0, (NOW - 1,), 1)),
}


@pytest.mark.parametrize(("happened", "expected"), HISTORIES.values(), ids=HISTORIES.keys())
def test_history(happened: Crash, expected: Respawn | GiveUp) -> None:
    """Each history of crashes has one answer."""
    assert decide(RULE, happened) == expected


def test_no_restart_at_all() -> None:
    """A limit of none gives up at the first crash."""
    assert isinstance(decide(RULE._replace(limit=0), crash()), GiveUp)
