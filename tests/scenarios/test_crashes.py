"""A service that falls again and again: while it is judged, and after the verdict. FAILURES 31, 32."""

from __future__ import annotations

import json
from typing import Any, Final

import psutil

from support.stacks import Stack, until
from support.verdicts import assert_failed, assert_gone

IMPATIENT: Final = {"delays": ["0.05s", "0.1s"], "limit": 3, "within": "60s", "forget": "60s"}


def test_one_that_is_up_and_away_by_turns_flaps(stack: Stack) -> None:
    """Two falls inside the stability window are flapping, one failure and one incident, and its falls are told."""
    stack.timeouts(stable="3s")
    stack.backend("flap=0.7:0.6", recover=None)

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_FLAPPING", "backend", "fell 2 times", "connection storm")
    assert report["incident_id"]
    incidents = json.loads(stack.run("incidents", "list", "--json").stdout)["incidents"]
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

    broken.unlink()
    started = stack.run("start", "backend")

    assert started.exit_code == 0, started.output
    assert stack.ask("backend")["status"] == "alive"
    psutil.Process(stack.pid("backend")).kill()
    until(lambda: _state(stack) in {"running", "ready"} and stack.is_served("backend"), "a new crash is answered anew")


def test_one_that_had_been_ready_comes_back_at_once_and_alone(stack: Stack) -> None:
    """`kill -9` of a proven service: exactly one new copy, at the same port, and nobody had to do anything."""
    stack.backend()
    assert stack.deploy().exit_code == 0
    before = stack.pid("backend")

    psutil.Process(before).kill()
    until(lambda: stack.pid("backend") not in {None, before} and stack.is_served("backend"), "it came back")

    assert stack.ask("backend")["pid"] == stack.pid("backend")
    assert len([one for one in stack.processes() if "faulty_service" in " ".join(one.cmdline())]) == 1


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
