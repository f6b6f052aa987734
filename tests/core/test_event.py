"""The one stream of events: told once, clean, to every reader, and read back from the journal as it was."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest

from flawless.core import event as events
from flawless.core.check import Failed, Finding
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
    RunEnded,
    RunStarted,
    Stamped,
    Stream,
    Verdict,
    WaitingFor,
    from_json,
)
from flawless.core.phase import DeployResult, Phase
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor
from support.clock import ManualClock

SECRET = "correct-horse-battery-staple"
FINDING = Finding("a.b", "a is b", Failed(Reason.DB_REFUSED, "cause", ("seen",), ("do",)), 0.5, optional=True)
EVERY: list[Event] = [
    RunStarted(
        "20261123T141502Z-3f9c2a", "shop", None, {"flawless": "1", "node": None}, 7, embedded=True, last_good="x"
    ),
    PhaseStarted(Phase.PRECHECK),
    PhaseEnded(Phase.PRECHECK, "failed", 1.5, "cause"),
    Asked.of(Phase.PRECHECK, FINDING),
    WaitingFor(Phase.BACKEND_READY_GATE, "a.b", "a is b", 1.0, 59.0, "refused"),
    Intended("start", "web", {"why": ["its code changed"]}),
    Effected("start", "web", {"pid": 7, "port": 3000}),
    Noted("services", {"name": "web", "pid": 7, "port": None, "restarted": True}),
    Failure(Phase.PRECHECK, Reason.DB_REFUSED, "cause", ("seen",), ("do",)),
    RolledBack("done", ("web is stopped",)),
    Verdict(DeployResult.ABORTED, None),
    RunEnded("logs/x.json", None, None),
]


def told(*wanted: Event, redact: Any = lambda tree: tree) -> list[Stamped]:
    seen: list[Stamped] = []
    stream = Stream(ManualClock(), redact, seen.append)
    for one in wanted:
        stream.tell(one)
    return seen


def test_every_event_is_in_the_list_below() -> None:
    """A new event cannot be forgotten by the test of round trips."""
    assert {type(one) for one in EVERY} == set(events._BY_NAME.values())
    assert len({one.name for one in EVERY}) == len(EVERY)


@pytest.mark.parametrize("event", EVERY, ids=lambda event: event.name)
def test_every_event_is_read_back_from_json_as_it_was_told(event: Event) -> None:
    """The report of a killed run is built from the same events as any other."""
    [stamped] = told(event)
    again = from_json(json.loads(json.dumps(stamped.to_json())))
    assert again == stamped
    assert type(again.event) is type(event)
    assert stamped.at == "2026-11-23T14:15:02.123Z"
    assert stamped.to_json()["event"] == event.name


@pytest.mark.parametrize(
    "record", [{}, {"at": "x", "elapsed": 0, "event": "run.ended"}, {"event": "no.such"}, {"at": 7}]
)
def test_what_is_no_event_is_refused(record: dict[str, Any]) -> None:
    """A record that lacks a field, or has another's, is none."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json(record)


def test_what_is_about_to_be_changed_is_on_disk_before_it_is() -> None:
    """Intents, effects and the end of a run are synced; all that a report needs is durable."""
    assert all(one.durable for one in EVERY)
    synced = {one.name for one in EVERY if one.synced}
    assert synced == {
        "run.started",
        "action.intended",
        "action.effected",
        "run.failed",
        "run.rolled_back",
        "run.verdict",
        "run.ended",
    }


@pytest.mark.parametrize(
    "event",
    [
        Failure(Phase.PRECHECK, "DB_AUTH", f"a {SECRET}", (f"b {SECRET}",), (f"c {SECRET}",)),
        RolledBack("failed", (f"NOT DONE: {SECRET}",)),
        Noted("log_tail", {"web": (f"| {SECRET}",), "deep": [{"er": ({"x": SECRET},)}]}),
        Asked("PRECHECK", {"evidence": (SECRET,)}),
        PhaseEnded("PRECHECK", "failed", 1.0, SECRET),
        WaitingFor("PRECHECK", "a.b", "a is b", 1.0, 2.0, SECRET),
    ],
    ids=lambda event: event.name,
)
def test_no_reader_sees_a_secret_however_deep_it_stands(event: Event) -> None:
    """In tuples as in lists: whatever JSON would write is looked into before anybody reads."""
    [stamped] = told(event, redact=Redactor([SECRET]).tree)
    assert SECRET not in repr(stamped)
    assert "****" in repr(stamped)


def test_one_reader_that_breaks_keeps_none_of_the_others_from_reading() -> None:
    """Its error is raised when all have read."""
    seen: list[str] = []

    def broken(stamped: Stamped) -> None:
        raise ZeroDivisionError

    stream = Stream(ManualClock(), lambda tree: tree, broken)
    stream.add(lambda stamped: seen.append(stamped.event.name))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            stream.tell(PhaseStarted(Phase.PRECHECK))
    assert seen == ["phase.started"] * 2


def test_a_reader_that_has_lost_its_terminal_is_not_told_any_more() -> None:
    """A pipe that was closed is no reason to end a deploy."""
    calls: list[str] = []

    def closed(stamped: Stamped) -> None:
        calls.append(stamped.event.name)
        raise BrokenPipeError

    stream = Stream(ManualClock(), lambda tree: tree, closed)
    stream.tell(PhaseStarted(Phase.PRECHECK))
    stream.tell(PhaseStarted(Phase.PRECHECK))
    assert calls == ["phase.started"]


@pytest.mark.anyio
async def test_the_elapsed_time_is_not_the_wall_clocks() -> None:
    """The clock may be set in the middle of a run."""
    clock = ManualClock()
    seen: list[Stamped] = []
    stream = Stream(clock, lambda tree: tree, seen.append)
    await clock.sleep(2.0)
    clock.jump_wall(-3600.0)
    stream.tell(PhaseStarted(Phase.PRECHECK))
    assert seen[0].elapsed == 2.0
    assert seen[0].at == "2026-11-23T13:15:04.123Z"


def test_events_carry_nothing_that_json_has_not() -> None:
    """Every field's type is one that comes back."""
    for kind in events._BY_NAME.values():
        hints = get_type_hints(kind, vars(events))
        assert not [name for name, hint in hints.items() if "tuple" in str(hint) or "bytes" in str(hint)], kind
