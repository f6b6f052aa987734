"""A service that falls again and again: while it is judged, and after the verdict. FAILURES 31, 32."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from flawless.adapters.keeper.client import told_by_keeper
from support.mutants import edited, failing_with
from support.stacks import Stack, lives, until
from support.verdicts import assert_failed, assert_gone

IMPATIENT: Final = {"delays": ["0.05s", "0.1s"], "limit": 3, "within": "60s", "forget": "60s"}


def test_one_that_is_up_and_away_by_turns_flaps(stack: Stack) -> None:
    """Two falls inside the stability window are flapping, one failure and one incident, and its falls are told."""
    stack.timeouts(stable="3s")
    stack.backend("flap=0.7:0.6", recover=None)

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_FLAPPING", "backend", "fell 2 times", "connection storm")
    assert report["incident_id"]
    incidents = stack.incidents()
    assert len(incidents) == 1, incidents
    assert_gone(stack, "backend")


def test_without_memory_of_its_falls_flapping_would_be_named_otherwise(stack: Stack) -> None:
    """The second fall is what makes it flapping: a product that forgets the first never says so."""
    stack.timeouts(stable="3s")
    stack.backend("flap=0.7:0.6", recover=None)

    stack.deploy(mutation=_FORGETFUL)

    assert stack.failure()["code"] != "SERVICE_FLAPPING"


def test_a_crash_loop_backs_off_gives_up_and_one_command_clears_it(stack: Stack) -> None:
    """After the verdict a crash is answered, later each time, and after `limit` restarts no more; `start` clears it."""
    stack.service("backend", "exit-where=broken", restart=IMPATIENT)
    assert stack.deploy().exit_code == 0
    first = stack.pid("backend")

    broken = stack.folder / "backend/broken"
    broken.touch()
    assert first is not None
    psutil.Process(first).kill()
    until(lambda: _state(stack) == "gave_up", "it gave up")

    record = stack.record("backend")
    assert record is not None
    assert record["restarts"] == 3
    assert "3 restarts" in record["reason"]
    assert not stack.is_served("backend")
    status = stack.run("status", "--json")
    [told] = json.loads(status.stdout)["services"]
    assert (told["state"], told["restarts"]) == ("gave_up", 3)
    assert status.exit_code in {2, 3}
    said = stack.run("status").stdout
    assert "SERVICE_GAVE_UP" in said
    assert "flawless start backend" in said

    assert json.loads(stack.run("status", "--json").stdout)["incidents"]["open"] == 0, "status only reads"

    broken.unlink()
    started = stack.run("start", "backend")

    assert started.exit_code == 0, started.output
    assert stack.ask("backend")["status"] == "alive"
    again = stack.pid("backend")
    psutil.Process(again).kill()
    until(
        lambda: stack.pid("backend") not in {None, again} and stack.is_served("backend"), "a new crash is answered anew"
    )


def test_one_that_had_been_ready_comes_back_at_once_and_alone(stack: Stack) -> None:
    """`kill -9` of a proven service: exactly one new copy, at the same port, and nobody had to do anything."""
    stack.backend()
    assert stack.deploy().exit_code == 0
    before = stack.pid("backend")

    psutil.Process(before).kill()
    until(lambda: stack.pid("backend") not in {None, before} and stack.is_served("backend"), "it came back")

    assert stack.ask("backend")["pid"] == stack.pid("backend")
    assert len([one for one in stack.processes() if "faulty_service" in " ".join(one.cmdline())]) == 1


ITS_CHILD_OR_NOT = pytest.mark.parametrize("adopted", [False, True], ids=["its own child", "adopted"])


@ITS_CHILD_OR_NOT
def test_a_death_is_heard_and_not_looked_for(stack: Stack, *, adopted: bool) -> None:
    """A keeper with nothing to do waits without a limit; it answers a death all the same, as an event wakes it."""
    waits = stack.folder / "waits"
    with edited(stack, "adapters/keeper/loop.py", *_tells_its_waits(waits)):
        stack.backend()
        assert stack.deploy().exit_code == 0
        if adopted:
            _keep_anew(stack)
        until(lambda: waits.read_text().split()[-1] == "None", "the keeper waits without a limit")
        before = stack.pid("backend")

        psutil.Process(before).kill()
        until(lambda: stack.pid("backend") not in {None, before} and stack.is_served("backend"), "it came back")


@ITS_CHILD_OR_NOT
def test_no_answer_of_a_keeper_is_older_than_the_question(stack: Stack, *, adopted: bool) -> None:
    """One that nothing tells of a death sees it when it is asked: nobody is told that a dead process lives."""
    with (
        edited(stack, "adapters/keeper/orders.py", ("signal.SIGCHLD: self.service.bury, ", "")),
        edited(stack, "adapters/keeper/child.py", ("self._loop.watch(pidfd, ", "0 and self._loop.watch(pidfd, ")),
    ):
        stack.backend()
        assert stack.deploy().exit_code == 0
        if adopted:
            _keep_anew(stack)
        before = stack.pid("backend")

        psutil.Process(before).kill()
        until(lambda: not lives(before), "it is dead")

        told = told_by_keeper(stack.folder / ".flawless/run/backend")
        assert told is not None
        assert (told.state, told.child) == ("backoff", None)
        until(lambda: stack.pid("backend") not in {None, before}, "it is started again")


def test_a_keeper_that_believes_itself_speaks_of_the_dead(stack: Stack) -> None:
    """It answers what it knew before the question."""
    sure = ("        self.service.bury()\n", "")
    with failing_with(stack, "adapters/keeper/orders.py", sure, told="ready"):
        test_no_answer_of_a_keeper_is_older_than_the_question(stack, adopted=False)


def _keep_anew(stack: Stack) -> None:
    """By a keeper that has adopted it."""
    keeper = stack.keeper("backend")
    psutil.Process(keeper).kill()
    until(lambda: not lives(keeper), "the keeper is dead")
    assert stack.deploy().exit_code == 0


def _tells_its_waits(file: Path) -> tuple[tuple[str, str], ...]:
    """A keeper's loop that writes down, before each wait, for how many milliseconds at most."""
    told = f"""    def _told(self) -> int | None:
        wait = self._until_next()
        with open({str(file)!r}, "a") as waits:
            waits.write(f"{{wait}}\\n")
        return wait

"""
    waiting, counting = "self._poll.poll(self._until_next())", "    def _until_next(self)"
    return (waiting, "self._poll.poll(self._told())"), (counting, told + counting)


def test_a_keeper_that_looks_again_and_again_is_told_from_one_that_hears(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that looked every 20 ms would answer a death too: what it never does is wait without a limit."""
    monkeypatch.setattr(sys.modules[__name__], "until", partial(until, limit=3.0))
    looking = ("if pending else None", "if pending else 20")
    with failing_with(stack, "adapters/keeper/loop.py", looking, told="waits without a limit"):
        test_a_death_is_heard_and_not_looked_for(stack, adopted=False)


def test_a_giving_up_is_one_incident_with_its_evidence(stack: Stack) -> None:
    """The next command opens it, CRITICAL, and no other command again; an order that starts it ends it, and says so."""
    _give_up(stack)

    for words in ("plan", "logs", "incidents list", "check"):
        stack.run(*words.split())
    [told] = _incidents(stack)
    assert (told["severity"], told["details"]["code"], told["occurrences"]) == ("CRITICAL", "SERVICE_GAVE_UP", 1)
    assert "backend" in told["summary"]
    evidence = "\n".join(told["details"]["evidence"])
    for seen in ("2 restarts", "exit status 5", "it printed: my last words"):
        assert seen in evidence
    steps = [step.partition(": ")[2] for step in told["next_steps"]]
    assert steps == ["flawless logs backend -n 50", "flawless start backend"]
    assert json.loads(stack.run("status", "--json").stdout)["incidents"] == {"open": 1, "critical": 1}

    (stack.folder / "backend/broken").unlink()
    assert stack.run("start", "backend").exit_code == 0

    [ended] = _incidents(stack)
    story = json.loads(stack.run("incidents", "show", ended["id"], "--json").stdout)["incident"]
    assert [one["event_type"] for one in story["events"]] == ["DETECTED", "RESOLVED"]
    assert story["events"][-1]["metadata"]["by"] == "flawless start"
    assert json.loads(stack.run("status", "--json").stdout)["incidents"] == {"open": 0, "critical": 0}


def test_one_that_a_person_has_resolved_is_not_told_again_and_the_next_giving_up_is(stack: Stack) -> None:
    """Resolved by hand while it is still down: no command opens it anew. Started, and given up once more: a new one."""
    _give_up(stack)
    [first] = _incidents(stack)
    assert stack.run("incidents", "resolve", first["id"], "--notes", "we know").exit_code == 0

    stack.run("plan")

    assert not _open_incidents(stack)
    (stack.folder / "backend/broken").unlink()
    assert stack.deploy().exit_code == 0
    _crash(stack)
    [second] = _open_incidents(stack)
    assert second["id"] != first["id"]
    assert second["fingerprint"] == first["fingerprint"]
    (stack.folder / "backend/broken").unlink()
    assert stack.deploy().exit_code == 0, "a deploy is an order too"
    assert not _open_incidents(stack)


def test_one_told_by_a_command_that_was_killed_then_is_counted_once(stack: Stack) -> None:
    """Killed between the incident and the note of it: the same is written again, under the same id."""
    _give_up(stack)
    stack.run("plan", mutation=_DIES_BEFORE_THE_NOTE)
    assert not (stack.folder / ".flawless/run/backend/gave_up.json").exists()

    [told] = _open_incidents(stack)

    assert told["occurrences"] == 1


def test_without_the_look_at_the_records_nobody_hears_of_it(stack: Stack) -> None:
    """The records are how it is found: a product that does not read them opens nothing."""
    _give_up(stack)

    stack.run("plan", mutation=_UNSEEING)
    listed = stack.run("incidents", "list", "--json", mutation=_UNSEEING)

    assert not json.loads(listed.stdout)["incidents"]


def test_without_the_note_a_giving_up_would_be_told_again(stack: Stack) -> None:
    """The note is what keeps one that was resolved from coming back: without it, it counts as open."""
    _give_up(stack)
    [first] = _incidents(stack)
    assert stack.run("incidents", "resolve", first["id"], "--notes", "we know", mutation=_UNNOTED).exit_code == 0

    stack.run("plan", mutation=_UNNOTED)

    assert json.loads(stack.run("status", "--json").stdout)["incidents"]["open"] == 1


def _give_up(stack: Stack) -> None:
    restart = IMPATIENT | {"limit": 2}
    stack.service("backend", "print=my last words", "exit-where=broken", restart=restart)
    assert stack.deploy().exit_code == 0
    _crash(stack)


def _crash(stack: Stack) -> None:
    (stack.folder / "backend/broken").touch()
    psutil.Process(stack.pid("backend")).kill()
    until(lambda: _state(stack) == "gave_up", "it gave up")


def _incidents(stack: Stack) -> Any:
    return stack.incidents("--all")


def _open_incidents(stack: Stack) -> Any:
    return stack.incidents()


def _state(stack: Stack) -> Any:
    return (stack.record("backend") or {}).get("state")


_FORGETFUL: Final = """
from flawless.deploy import services
services.SETTLING = 0.0
remembered = services.Stays._fell
def fell(self, failed):
    self._falls.clear()
    return remembered(self, failed)
services.Stays._fell = fell
"""


@pytest.mark.parametrize(
    ("file", "line", "broken", "told"),
    [
        ("policy.py", "    if len(recent) >= rule.limit:\n", "    if False:\n", "it gave up"),
        ("policy.py", "    if len(recent) >= rule.limit:\n", "    if True:\n", "0 == 3"),
        ("service.py", "            self._budget.set(())\n", "            pass\n", "a new crash is answered anew"),
    ],
    ids=["no end", "no respawn", "not cleared"],
)
def test_without_its_rule_a_keeper_would_not_end_a_crash_loop_or_never_begin_anew(
    stack: Stack, file: str, line: str, broken: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not come is not waited for as long as what does."""
    monkeypatch.setattr(sys.modules[__name__], "until", partial(until, limit=8.0))
    with failing_with(stack, f"adapters/keeper/{file}", (line, broken), told=told):
        test_a_crash_loop_backs_off_gives_up_and_one_command_clears_it(stack)


_UNSEEING: Final = "from flawless.adapters import given_up\ngiven_up.untold = lambda state: []"
_UNNOTED: Final = "from flawless.adapters import given_up\ngiven_up.told = lambda state, service: None"
_DIES_BEFORE_THE_NOTE: Final = """
import os, signal
from flawless.adapters import given_up
given_up.note = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
