"""Who holds the port: a stranger, our own earlier release, or what a killed wrapper left behind. FAILURES 9-13, 64."""

from __future__ import annotations

import sys
from typing import Final

import psutil
import pytest

from support.mutants import failing, failing_with
from support.stacks import FAULTY, Stack, can_connect, lives, until
from support.strangers import stranger
from support.verdicts import assert_failed, assert_never_started


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_stranger_on_the_port_stops_the_deploy_before_anything_starts(stack: Stack, host: str) -> None:
    """PORT_HELD_FOREIGN names its pid, command and address, and the line to paste; the stranger goes on."""
    stranger = stack.stranger(f"host={host}", port=stack.port("backend"))
    stack.backend()
    stack.frontend()

    done = stack.deploy()

    report = assert_failed(
        stack, done, "PORT_HELD_FOREIGN", str(stranger.pid), "faulty_service.py", host, rollback="not needed"
    )
    assert f"kill {stranger.pid}" in str(report["failure"]["next_steps"])
    assert report["failure"]["phase"] == "PRECHECK"
    assert stranger.is_running()
    assert_never_started(stack, "backend")


def test_a_service_that_runs_and_has_lost_its_port_is_not_called_ready_any_more(stack: Stack) -> None:
    """Whoever has the port now is named, and the service that runs without it is known to do so."""
    stack.service("backend", command=[sys.executable, "-I", "-S", "-c", _LEAVES_ITS_PORT], ready=[{"tcp": True}])
    assert stack.deploy().exit_code == 0
    (stack.folder / "backend/leave").touch()
    until(lambda: not stack.is_served("backend"), "it has left its port")
    stranger = stack.stranger(port=stack.port("backend"))

    report = assert_failed(stack, stack.deploy(), "PORT_HELD_FOREIGN", str(stranger.pid), rollback="not needed")

    assert report["failure"]["next_steps"][-1].endswith("flawless restart backend")
    status = stack.run("status")
    assert (status.exit_code, "PORT_HELD_FOREIGN" in status.stdout) == (2, True), status.output


_LEAVES_ITS_PORT: Final = """
import os, socket, time
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))):
    while not os.path.exists("leave"):
        time.sleep(0.01)
time.sleep(600)
"""


@pytest.mark.parametrize("first", [None, "staging"])
def test_the_port_of_another_environment_of_this_project_is_named_as_that(stack: Stack, first: str | None) -> None:
    """Its service is as good as this one: it is not to be killed, each needs a port of its own."""
    (stack.folder / "flawless.staging.toml").write_text("")
    (stack.folder / "flawless.review.toml").write_text("")
    stack.backend()
    flags = ["-e", first] if first else []
    assert stack.deploy(*flags).exit_code == 0
    try:
        done = stack.deploy("-e", "review")
        report = assert_failed(
            stack, done, "PORT_HELD_FOREIGN", f"backend of the {_said(first)}", rollback="not needed"
        )
        move, stop = report["failure"]["next_steps"]
        assert move == "give each its own: services.backend.port in flawless.review.toml"
        assert "kill" not in stop
        words = stop.partition("flawless ")[2].split()
        assert words == ["-c", "flawless.toml", *flags, "stop", "backend"]
        assert stack.run(*words).exit_code == 0
        assert stack.deploy("-e", "review").exit_code == 0
    finally:
        for name in ("staging", "review"):
            stack.run("stop", "--all", "-e", name)


def _said(environment: str | None) -> str:
    return f"environment {environment}" if environment else "default environment"


def test_what_another_supervisor_looks_after_is_left_to_it(stack: Stack) -> None:
    """SERVICE_OWNED_ELSEWHERE: killed, it would be started again; so PM2's own word is told, and nothing is touched."""
    stack.backend()
    pm2 = ("bash", "-c", 'exec -a "PM2 v6.0.5: God Daemon (/root/.pm2)" bash -c \'"$@"; true\' pm2 "$@"', "pm2")
    charge = {"name": "shop-api", "pm_id": "0"}
    with stranger("127.0.0.1", stack.port("backend"), prefix=pm2, environment=charge) as daemon:
        report = assert_failed(
            stack, stack.deploy(), "SERVICE_OWNED_ELSEWHERE", "PM2", "shop-api", str(daemon), rollback="not needed"
        )
        assert lives(daemon)
        assert can_connect(stack.port("backend"))
    assert "pm2 delete shop-api" in str(report["failure"]["next_steps"])
    assert_never_started(stack, "backend")


def test_our_own_earlier_release_is_taken_over(stack: Stack) -> None:
    """The port is held by the very service that is replaced: no "already in use", and no moment with two of them."""
    stack.service("backend", "name=backend")
    assert stack.deploy().exit_code == 0
    old = stack.pid("backend")

    stack.service("backend", "name=backend", "print=second")
    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.ask("backend")["pid"] == stack.pid("backend") != old
    assert not lives(old)


def test_the_grandchild_of_a_killed_wrapper_goes_with_it(stack: Stack) -> None:
    """`sh -c` is killed, its grandchild keeps the port: the tree is ours, it goes, and a new one serves."""
    stack.service("backend", command=["sh", "-c", f"{' '.join(FAULTY)} ; exit $?"])
    assert stack.deploy().exit_code == 0
    before = stack.pids("backend")
    assert len(before) == 2
    wrapper = stack.pid("backend")

    psutil.Process(wrapper).kill()
    until(lambda: stack.pid("backend") not in {None, wrapper} and stack.is_served("backend"), "it came back")

    assert not [pid for pid in before if lives(pid)]
    assert stack.ask("backend")["pid"] in stack.pids("backend")


def test_a_deaf_grandchild_in_a_session_of_its_own_goes_when_the_service_is_replaced(stack: Stack) -> None:
    """What left the session and ignores SIGTERM keeps the port from nobody."""
    stack.timeouts(stop="0.5s")
    stack.service("backend", "heir", stop_timeout="0.5s")
    assert stack.deploy().exit_code == 0
    before = stack.pids("backend")
    assert len(before) == 2

    stack.service("backend", "print=second")
    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert not [pid for pid in before if lives(pid)]
    assert stack.ask("backend")["pid"] == stack.pid("backend")


def test_what_a_killed_keeper_and_a_killed_wrapper_left_behind_is_ours(stack: Stack) -> None:
    """Keeper and wrapper are killed at once; the orphan on the port is of this stack, and the deploy converges."""
    stack.service("backend", command=["sh", "-c", f"{' '.join(FAULTY)} ; exit $?"])
    assert stack.deploy().exit_code == 0
    wrapper, keeper = stack.pid("backend"), stack.keeper("backend")
    [orphan] = stack.pids("backend") - {wrapper}
    for pid in (keeper, wrapper):
        psutil.Process(pid).kill()
    assert can_connect(stack.port("backend"))

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert not lives(orphan)
    assert stack.ask("backend")["pid"] in stack.pids("backend")


@pytest.mark.parametrize("killed", ["keeper", "keeper and wrapper"])
def test_stop_ends_what_a_killed_keeper_left_behind(stack: Stack, killed: str) -> None:
    """An orphan of this stack is stopped by `flawless stop` like everything else."""
    stack.service("backend", command=["sh", "-c", f"{' '.join(FAULTY)} ; exit $?"])
    assert stack.deploy().exit_code == 0
    before = stack.pids("backend")
    psutil.Process(stack.keeper("backend")).kill()
    if "wrapper" in killed:
        psutil.Process(stack.pid("backend")).kill()

    done = stack.run("stop")

    assert done.exit_code == 0, done.output
    assert "backend: stopped" in done.stdout
    assert not [pid for pid in before if lives(pid)]


def test_a_wrapper_whose_keeper_was_killed_is_adopted_with_its_grandchild(stack: Stack) -> None:
    """The grandchild that listens is of the adopted tree: nothing is restarted, and its answers count."""
    stack.service("backend", command=["sh", "-c", f"{' '.join(FAULTY)} ; exit $?"])
    assert stack.deploy().exit_code == 0
    before = stack.pids("backend")
    psutil.Process(stack.keeper("backend")).kill()

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.pids("backend") == before


def test_a_service_that_left_the_manifest_goes_even_when_its_keeper_was_killed(stack: Stack) -> None:
    """A success leaves nothing of it, kept or orphaned."""
    stack.service("backend")
    stack.service("old")
    assert stack.deploy().exit_code == 0
    psutil.Process(stack.keeper("old")).kill()
    del stack.manifest["services"]["old"]

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert not stack.is_served("old")


def test_without_the_question_about_the_port_a_stranger_is_found_too_late(stack: Stack) -> None:
    """The preflight check is what stops it before anything starts; behind it the gate still refuses the stranger."""
    stranger = stack.stranger("name=backend", port=stack.port("backend"))
    stack.service("backend")

    done = stack.deploy(mutation=_NO_PORT_CHECK)

    assert done.exit_code == 1
    failure = stack.failure()
    assert (failure["code"], failure["phase"]) == ("PORT_STOLEN", "BACKEND_READY_GATE")
    assert str(stranger.pid) in str(failure["evidence"])
    assert stranger.is_running()


_NO_PORT_CHECK: Final = """
from flawless.checks import ports
from flawless.core.check import Passed
async def ask(self, limit): return Passed()
ports.PortFree.ask = ask
"""


_ONE_ADDRESS: Final = """
from flawless.checks import ports
ports.PortFree._is_in_the_way = lambda self, listener: listener.address == self.host
"""
_NOTHING_IS_OURS: Final = """
from flawless.checks import ports
async def own(self): return {}
ports.PortTable.own = own
"""
_NOBODY_LOOKS_AFTER_IT: Final = (
    "from flawless.adapters import supervision\nsupervision._by_ancestors = lambda pid: None"
)
_NO_ORPHANS: Final = "from flawless.adapters.services import KeptService\nKeptService._printing = lambda self: []"


@pytest.mark.parametrize("host", ["0.0.0.0", "::1"])
def test_looking_at_one_address_alone_would_not_find_who_holds_the_others(stack: Stack, host: str) -> None:
    """The port can still not be bound, but by whom it is held is not known."""
    with failing(stack, _ONE_ADDRESS, told="not named in"):
        test_a_stranger_on_the_port_stops_the_deploy_before_anything_starts(stack, host)


def test_without_knowing_our_own_processes_the_earlier_release_would_be_a_stranger(stack: Stack) -> None:
    with failing(stack, _NOTHING_IS_OURS, told="PORT_HELD_FOREIGN"):
        test_our_own_earlier_release_is_taken_over(stack)


def test_without_knowing_who_prints_to_us_an_orphan_would_be_a_stranger(stack: Stack) -> None:
    with failing(stack, _NO_ORPHANS, told="PORT_HELD_FOREIGN"):
        test_what_a_killed_keeper_and_a_killed_wrapper_left_behind_is_ours(stack)


def test_a_keeper_that_sees_its_child_alone_would_leave_the_grandchild(stack: Stack) -> None:
    """The old grandchild keeps the port, and what is started anew cannot have it."""
    blind = ("        if _has_children():\n", "        if False:\n")
    with failing_with(stack, "adapters/keeper/child.py", blind, told=r"assert not \[\d+\]"):
        test_the_grandchild_of_a_killed_wrapper_goes_with_it(stack)


def test_without_its_ancestors_what_pm2_looks_after_would_be_to_be_killed(stack: Stack) -> None:
    """In vain: PM2 would start it again."""
    with failing(stack, _NOBODY_LOOKS_AFTER_IT, told="PORT_HELD_FOREIGN"):
        test_what_another_supervisor_looks_after_is_left_to_it(stack)
