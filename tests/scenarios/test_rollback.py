"""What a failed deploy puts back: what ran before runs again, what was left alone was never touched."""

from __future__ import annotations

from typing import Any, Final

import psutil
import pytest

from support.mutants import NO_WAY_BACK
from support.stacks import Stack, until
from support.verdicts import assert_failed, assert_gone, assert_never_started


def test_the_first_service_runs_again_as_before_when_the_second_fails(stack: Stack) -> None:
    """The old command and environment come back, from the keeper's memory; the unchanged keep their process."""
    stack.service("steady")
    stack.service("api", "name=api-old", ready=_alive(), env={"RELEASE": "one"})
    assert stack.deploy().exit_code == 0
    steady, old = stack.pid("steady"), stack.pid("api")
    good = stack.report()["deploy_id"]

    stack.service("api", "name=api-new", ready=_alive(), env={"RELEASE": "two"})
    stack.service("web", "print=no such module", "exit=1", role="frontend")
    stack.service("late", role="frontend", after=["web"])
    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "web", "no such module")
    assert any(action.startswith("api runs again") for action in report["rollback"]["actions"])
    assert stack.pid("steady") == steady
    assert stack.ask("api")["service"] == "api-old"
    assert stack.pid("api") not in {None, old}
    assert psutil.Process(stack.pid("api")).environ()["RELEASE"] == "one"
    assert stack.ask("api")["deployId"] == good
    assert_gone(stack, "web")
    assert_never_started(stack, "late")


def test_after_a_rollback_the_old_manifest_restarts_nothing(stack: Stack) -> None:
    """What runs after the way back is what ran before it, to the fingerprint."""
    stack.service("api", "name=api-old", ready=_alive())
    assert stack.deploy().exit_code == 0
    stack.service("api", "exit=1", ready=_alive())
    assert stack.deploy().exit_code == 1
    back = stack.pid("api")

    stack.service("api", "name=api-old", ready=_alive())

    assert stack.deploy().exit_code == 0
    assert stack.pid("api") == back


def test_a_replaced_service_answers_a_crash_again_after_the_rollback(stack: Stack) -> None:
    """The way back ends in the same state: kept, and answered when it crashes."""
    stack.service("api", "name=api-old", ready=_alive())
    assert stack.deploy().exit_code == 0
    stack.service("api", "exit=1", ready=_alive())
    assert stack.deploy().exit_code == 1

    record = stack.record("api")

    assert record is not None
    assert record["armed"] is True
    assert record["state"] == "ready"


def test_a_service_that_left_the_manifest_is_stopped_only_by_a_success(stack: Stack) -> None:
    """It goes on while a deploy fails, and goes with one that succeeds."""
    stack.service("api")
    stack.service("old")
    assert stack.deploy().exit_code == 0
    before = stack.pid("old")
    del stack.manifest["services"]["old"]
    stack.service("web", "exit=1", role="frontend")

    assert_failed(stack, stack.deploy(), "SERVICE_EXITED", "web")
    assert stack.pid("old") == before
    assert stack.ask("old")["status"] == "alive"

    assert stack.report()["stopped"] == []

    stack.service("web", role="frontend")
    done = stack.deploy()
    assert done.exit_code == 0
    assert_gone(stack, "old")
    assert "stopped   old: the manifest no longer names it" in done.stdout, "who removed it by mistake is to see it"
    assert stack.report()["stopped"] == ["old"]
    text = max((stack.folder / "logs").glob("deploy-report-*.txt")).read_text()
    assert "stopped, as the manifest no longer names them\n  old\n" in text


def test_what_had_left_comes_back_when_the_last_look_fails(stack: Stack) -> None:
    """It is stopped before the end state is looked at; when that look fails it runs again as it did."""
    stack.service("api")
    stack.service("old", env={"RELEASE": "one"})
    assert stack.deploy().exit_code == 0
    del stack.manifest["services"]["old"]

    done = stack.deploy(mutation=_LAST_LOOK_FAILS)

    report = assert_failed(stack, done, "SERVICE_UNHEALTHY", "the end state is wrong")
    assert report["failure"]["phase"] == "SUCCESS"
    until(lambda: stack.is_served("old"), "what was resumed, which no gate waits for, listens")
    assert stack.ask("old")["status"] == "alive"
    assert psutil.Process(stack.pid("old")).environ()["RELEASE"] == "one"


def test_a_rollback_that_cannot_bring_the_old_release_back_says_so(stack: Stack) -> None:
    """The old command no longer works: exit code 1, rollback failed, and which service is down now."""
    stack.service("api", "exit-where=broken", ready=_alive())
    assert stack.deploy().exit_code == 0
    (stack.folder / "api/broken").touch()
    stack.service("api", "exit=1", ready=_alive())

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "api", rollback="failed")
    [action] = [one for one in report["rollback"]["actions"] if one.startswith("NOT DONE")]
    assert "api" in action
    assert "exit status 5" in action
    assert "NOT DONE" in done.stdout
    assert "api is DOWN now" in done.stdout, "the reader must not take the way back for made"
    assert "flawless status" in done.stdout


def test_without_the_memory_of_the_keeper_the_new_command_would_stay(stack: Stack) -> None:
    """The way back is the keeper's `revert`: a product that only starts again runs the new release after a failure."""
    stack.service("api", "name=api-old", ready=_alive())
    assert stack.deploy().exit_code == 0
    stack.service("api", "name=api-new", ready=_alive())
    stack.service("web", "exit=1", role="frontend")

    stack.deploy(mutation=NO_WAY_BACK)

    assert stack.ask("api")["service"] == "api-new"


@pytest.mark.parametrize("role", ["backend", "frontend"])
def test_a_first_deploy_that_fails_leaves_nothing_behind(stack: Stack, role: str) -> None:
    """Nothing ran before, so nothing runs after, whichever service failed."""
    stack.service("api", *(("exit=2",) if role == "backend" else ()))
    stack.service("web", *(("exit=2",) if role == "frontend" else ()), role="frontend")

    assert_failed(stack, stack.deploy(), "SERVICE_EXITED", "exit status 2")

    assert_gone(stack, "api")
    assert_gone(stack, "web")


def _alive() -> list[dict[str, Any]]:
    return [{"http": "/health/live", "json": {"status": "alive"}}]


_LAST_LOOK_FAILS: Final = """
from flawless.core.check import Failed
from flawless.core.reason import Reason
from flawless.deploy.steps.success import ConfirmEndState
async def look(self, run, group):
    return Failed(Reason.SERVICE_UNHEALTHY, "the end state is wrong", ("seen",), ("flawless status",))
ConfirmEndState._look_again = look
"""
