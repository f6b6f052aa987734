"""Ctrl-C, SIGTERM and a closed terminal, in every phase of a deploy (FAILURES 62)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.mutants import NO_WAY_BACK, failing, failing_with
from support.stacks import Stack, until

HOOK = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
"""A program that says that it has begun, and takes for ever."""


def wait_in(stack: Stack, begun: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", HOOK, str(begun)]


def in_precheck(stack: Stack, begun: Path) -> None:
    """An artefact that takes for ever to build."""
    stack.backend()
    stack.manifest["artefacts"] = {"client": {"path": "client.js", "build": wait_in(stack, begun)}}


def in_migrations(stack: Stack, begun: Path) -> None:
    """A migration tool that takes for ever."""
    stack.backend()
    migrate = {"tool": "command", "directory": ".", "apply": wait_in(stack, begun), "pending": ["echo", "001_users"]}
    stack.manifest["database"] = {"url": stack.environment["DATABASE"], "migrate": migrate}


def in_backend_gate(stack: Stack, begun: Path) -> None:
    """A backend that never becomes ready."""
    stack.backend("answer=unready", "control=../never", recover=None)
    stack.timeouts(backend_ready="60s")


def in_frontend(stack: Stack, begun: Path) -> None:
    """A frontend that never becomes ready, behind a backend that is."""
    stack.backend()
    stack.frontend("silent")
    stack.timeouts(frontend_ready="60s")


def in_stability(stack: Stack, begun: Path) -> None:
    """All is ready and has to stay so for a while."""
    stack.backend()
    stack.timeouts(stable="60s")


PHASES: dict[str, tuple[Callable[[Stack, Path], None], str]] = {
    "PRECHECK": (in_precheck, ""),
    "MIGRATE_VERIFY": (in_migrations, ""),
    "BACKEND_READY_GATE": (in_backend_gate, "backend"),
    "FRONTEND_START": (in_frontend, "frontend"),
    "SUCCESS": (in_stability, "backend"),
}


@pytest.mark.parametrize("phase", list(PHASES))
def test_ctrl_c_in_any_phase_ends_in_order(stack: Stack, phase: str, request: pytest.FixtureRequest) -> None:
    """130, a report that says so, and what the run had started is gone again."""
    if phase == "MIGRATE_VERIFY":
        stack.environment["DATABASE"] = request.getfixturevalue("database_url")
    exit_code = interrupted(stack, phase, signal.SIGINT)
    assert exit_code == 130
    report = stack.report()
    assert report["exit_code"] == 130
    assert report["failure"]["code"] == "DEPLOY_INTERRUPTED"
    assert report["failure"]["phase"] == phase
    assert "SIGINT" in report["failure"]["cause"]
    assert report["rollback"]["status"] == ("done" if PHASES[phase][1] else "not needed")
    assert stack.processes() == []


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_have_exit_codes_of_their_own(stack: Stack, number: signal.Signals, exit_code: int) -> None:
    """SIGTERM is 143 and a hang-up 129, both after the same orderly rollback."""
    assert interrupted(stack, "BACKEND_READY_GATE", number) == exit_code
    report = stack.report()
    assert report["exit_code"] == exit_code
    assert report["failure"]["code"] == "DEPLOY_INTERRUPTED"
    assert number.name in report["failure"]["cause"]
    assert stack.processes() == []


def test_a_signal_before_the_first_step_is_heard_too(stack: Stack) -> None:
    """While the deploy is still being put together: nothing has been changed, and there is a report that says so."""
    stack.backend()

    done = stack.deploy(mutation=HANGS_UP_EARLY)

    assert done.exit_code == 129, done.output
    report = stack.report()
    assert report["failure"]["code"] == "DEPLOY_INTERRUPTED"
    assert report["rollback"]["status"] == "not needed"
    assert stack.processes() == []


def test_an_interrupted_redeploy_puts_the_release_back_that_ran_before(stack: Stack) -> None:
    """The old one serves again, with its old words; what follows is an ordinary deploy."""
    stack.backend("print=first")
    assert stack.deploy("-q").exit_code == 0
    stack.backend("print=second", "answer=unready", recover=None)
    stack.timeouts(backend_ready="60s")
    with stack.deploying() as deploy:
        until(lambda: "print=second" in words(stack, "backend"), "the new one runs")
        deploy.send_signal(signal.SIGINT)
        assert deploy.wait(20) == 130
    assert "print=first" in words(stack, "backend")
    assert stack.ask("backend")["status"] == "alive"
    assert stack.report()["rollback"]["status"] == "done"
    stack.backend("print=second")
    assert stack.deploy("-q").exit_code == 0
    assert "print=second" in words(stack, "backend")


def test_a_second_ctrl_c_abandons_the_rollback_and_says_what_is_left(stack: Stack) -> None:
    """The service that will not end is named, in the report and on the terminal; the next deploy converges."""
    stack.backend("ignore-term", "answer=unready", recover=None, stop_timeout="5s")
    stack.timeouts(backend_ready="60s")
    with background(stack) as deploy:
        until(lambda: stack.is_served("backend"), "the backend serves")
        deploy.send_signal(signal.SIGINT)
        until(lambda: state(stack, "backend") == "stopping", "the rollback has begun")
        deploy.send_signal(signal.SIGINT)
        said, progress = deploy.communicate(timeout=10)
    assert deploy.returncode == 130
    report = stack.report()
    assert report["exit_code"] == 130
    assert report["rollback"]["status"] == "failed"
    assert any("NOT DONE" in action and "backend" in action for action in report["rollback"]["actions"])
    assert "NOT DONE" in said
    assert "Traceback" not in said + progress
    stack.backend()
    done = stack.deploy("-q")
    assert done.exit_code == 0, done.output
    assert stack.ask("backend")["status"] == "alive"


def test_a_migration_tool_ends_with_the_deploy_that_was_interrupted(stack: Stack, database_url: str) -> None:
    """The tool and all below it; the services are as they were."""
    stack.environment["DATABASE"] = database_url
    assert interrupted(stack, "MIGRATE_VERIFY", signal.SIGINT) == 130
    assert stack.processes() == []


def test_a_terminal_that_closes_leaves_a_report_and_no_orphan(stack: Stack) -> None:
    """The hang-up is heard, writing to the terminal that is gone harms nothing, and the rollback is done."""
    stack.backend("answer=unready", recover=None)
    stack.timeouts(backend_ready="60s")
    stack.write()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(stack.folder)
        os.execve(sys.executable, stack.argv("deploy"), terminal_environment(stack))  # noqa: S606 - argv, no shell
    try:
        until(lambda: stack.is_served("backend"), "the backend serves")
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert stack.failure()["code"] == "DEPLOY_INTERRUPTED"
    assert stack.report()["rollback"]["status"] == "done"
    assert stack.processes() == []


def test_an_interruption_behind_the_verdict_changes_nothing(stack: Stack) -> None:
    """Once it is committed there is no way back: it is live, and the exit code says so."""
    stack.backend()
    late = (
        "import os, signal\n"
        "from flawless.adapters.archive import Archive\n"
        "write = Archive.write_report\n"
        "def interrupted(*given):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return write(*given)\n"
        "Archive.write_report = interrupted\n"
    )
    assert stack.run("deploy", "-q", mutation=late).exit_code == 0
    assert stack.report()["result"] == "success"
    assert stack.is_served("backend")


@pytest.mark.parametrize("order", ["start", "restart"])
def test_an_interrupted_order_is_taken_back(stack: Stack, order: str) -> None:
    """Orders end in order too: 130, and nothing half-started is left."""
    stack.backend("answer=unready", recover=None)
    stack.timeouts(backend_ready="60s")
    with background(stack, order) as command:
        until(lambda: stack.is_served("backend"), "the backend serves")
        command.send_signal(signal.SIGINT)
        said, progress = command.communicate(timeout=20)
    assert command.returncode == 130
    assert "Traceback" not in said + progress
    assert f"run the command again: flawless {order}\n" in progress
    assert not stack.is_served("backend")


# --- without what hears them ---

HANGS_UP_EARLY = """
import os, signal
from flawless.wiring.deploying import Deploying
settle = Deploying.settle
def hung_up(self):
    os.kill(os.getpid(), signal.SIGHUP)
    return settle(self)
Deploying.settle = hung_up
"""

DEAF = """
import contextlib
from flawless.cli import interruption
interruption.interruptions = lambda interrupt: contextlib.nullcontext()
"""
DEAF_TO_THE_TERMINAL = "from flawless.cli import interruption\ninterruption._SIGNALS = ('SIGINT', 'SIGTERM')"
HEARS_ONCE = """
from flawless.deploy.orchestrator import Orchestrator
interrupt = Orchestrator.interrupt
Orchestrator.interrupt = lambda self, told: self._interrupted or interrupt(self, told)
"""


@pytest.mark.parametrize(("mutation", "told"), [(DEAF, "'SIGINT' in"), (NO_WAY_BACK, r"assert \[psutil")])
@pytest.mark.parametrize("phase", ["BACKEND_READY_GATE", "SUCCESS"])
def test_without_ears_or_a_way_back_ctrl_c_would_leave_what_was_started(
    stack: Stack, phase: str, mutation: str, told: str, request: pytest.FixtureRequest
) -> None:
    with failing(stack, mutation, told=told):
        test_ctrl_c_in_any_phase_ends_in_order(stack, phase, request)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_without_ears_other_signals_would_kill(stack: Stack, number: signal.Signals, exit_code: int) -> None:
    with failing(stack, DEAF, told=f"'{number.name}' in"):
        test_other_signals_have_exit_codes_of_their_own(stack, number, exit_code)


def test_deaf_to_the_terminal_a_closed_one_would_kill(stack: Stack) -> None:
    with failing(stack, DEAF_TO_THE_TERMINAL, told="-1 == 129"):
        test_a_terminal_that_closes_leaves_a_report_and_no_orphan(stack)


def test_without_a_way_back_the_new_release_would_stay(stack: Stack) -> None:
    with failing(stack, NO_WAY_BACK, told="'print=first' in"):
        test_an_interrupted_redeploy_puts_the_release_back_that_ran_before(stack)


def test_hearing_only_once_it_would_not_be_abandoned(stack: Stack) -> None:
    with failing(stack, HEARS_ONCE, told="'done' == 'failed'"):
        test_a_second_ctrl_c_abandons_the_rollback_and_says_what_is_left(stack)


def test_without_its_guard_the_migration_tool_would_go_on(stack: Stack, database_url: str) -> None:
    """It is held twice: the guard ends it, and the kernel does when the guard has ended."""
    ends = '        left = [] if self._status is not None and self._order["leaves"] else self._end_all()\n'
    alone = ((ends, "        left = []\n"), ("        _die_with_parent()\n", ""))
    with failing_with(stack, "adapters/guard.py", *alone, told=r"assert \[psutil"):
        test_a_migration_tool_ends_with_the_deploy_that_was_interrupted(stack, database_url)


def test_without_ears_an_interruption_behind_the_verdict_would_change_the_exit_code(stack: Stack) -> None:
    with failing(stack, DEAF, told="130 == 0"):
        test_an_interruption_behind_the_verdict_changes_nothing(stack)


@pytest.mark.parametrize("order", ["start", "restart"])
def test_without_a_way_back_an_interrupted_order_would_stand(stack: Stack, order: str) -> None:
    with failing(stack, NO_WAY_BACK, told="assert not True"):
        test_an_interrupted_order_is_taken_back(stack, order)


# --- how it is made ---


def interrupted(stack: Stack, phase: str, number: signal.Signals) -> int:
    """The exit code of a deploy that got this signal in that phase."""
    prepare, service = PHASES[phase]
    begun = stack.folder / "begun"
    prepare(stack, begun)
    with background(stack) as deploy:
        until(lambda: has_begun(stack, phase) and (begun.exists() or bool(service)), f"{phase} has begun")
        if service:
            until(lambda: stack.pid(service) is not None, f"{service} runs")
        deploy.send_signal(number)
        said, progress = deploy.communicate(timeout=20)
    assert "Traceback" not in said + progress
    assert number.name in said
    return deploy.returncode


@contextmanager
def background(stack: Stack, verb: str = "deploy") -> Iterator[subprocess.Popen[str]]:
    stack.write()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        stack.argv(verb),
        cwd=stack.folder,
        env=stack.clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def has_begun(stack: Stack, phase: str) -> bool:
    if not list((stack.folder / ".flawless/journal").glob("*.jsonl")):
        return False
    *lines, _torn = max((stack.folder / ".flawless/journal").glob("*.jsonl")).read_text().split("\n")
    return any(f'"event":"phase.started","phase":"{phase}"' in line for line in lines)


def words(stack: Stack, service: str) -> list[str]:
    pid = stack.pid(service)
    try:
        return psutil.Process(pid).cmdline() if pid else []
    except psutil.NoSuchProcess:
        return []


def state(stack: Stack, service: str) -> str:
    record: dict[str, Any] = stack.record(service) or {}
    return str(record.get("state"))


def terminal_environment(stack: Stack) -> dict[str, str]:
    return {**stack.clean_environment(), "TERM": "xterm-256color"}
