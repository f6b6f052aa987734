"""A service that ends: at once, later, well or badly, before or after it was ready. FAILURES 25, 30, 33."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from support.memory_group import entering
from support.mutants import failing, failing_with
from support.stacks import LIMIT, Stack
from support.verdicts import assert_failed, assert_gone, assert_never_started


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("print=cannot find module express", "exit=3"), ("exit status 3", "cannot find module express")),
        (("print=bye", "exit=0"), ("exit status 0", "bye")),
        (("print=out of luck", "signal=6"), ("signal 6", "out of luck")),
        (("wait=1.2", "print=gave up on redis", "exit=1"), ("exit status 1 after 1.", "gave up on redis")),
    ],
    ids=["status", "zero", "signal", "later"],
)
def test_a_service_that_ends_ends_the_gate_now(stack: Stack, words: tuple[str, ...], named: tuple[str, ...]) -> None:
    """SERVICE_EXITED with the status, the time it lived and its last lines; what needs it was never started."""
    stack.timeouts(backend_ready="30s")
    stack.backend(*words)
    stack.frontend()

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "backend", *named)
    assert report["failure"]["phase"] == "BACKEND_READY_GATE"
    assert done.seconds < 20, "the gate waited for its deadline"
    assert report["log_tail"]["backend"], "the last lines are in the report"
    assert_gone(stack, "backend")
    assert_never_started(stack, "frontend")


def test_from_another_folder_what_to_do_names_the_manifest(stack: Stack) -> None:
    """Each command that is told works where the deploy was called, pasted as it stands."""
    elsewhere = stack.folder / "else where"
    elsewhere.mkdir()
    stack.service("backend", command=["sh", "-c", "echo my last words; exit 3"])
    stack.write()

    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            stack.argv(*arguments), cwd=elsewhere, env=stack.clean_environment(), capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip

    deploy = said("-c", "../flawless.toml", "deploy")

    assert deploy.returncode == 1, deploy.stderr
    commands = re.findall(r"flawless (-c \S+ (?:logs|incidents) .*)", deploy.stdout)
    assert len(commands) == 2, deploy.stdout
    for command in commands:
        assert said(*shlex.split(command)).returncode == 0, command


def test_ready_and_dead_within_its_first_seconds_is_not_a_success(stack: Stack) -> None:
    """The first good answer does not win: what dies inside the stability window fails the deploy."""
    stack.timeouts(stable="3s")
    stack.backend("exit-after=1.8:7")
    stack.frontend()

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "backend", "exit status 7")
    ready = next(phase for phase in report["phases"] if phase["name"] == "BACKEND_READY_GATE")
    assert ready["status"] == "passed", "it had been ready"
    assert_gone(stack, "backend")
    assert_gone(stack, "frontend")


def test_a_worker_that_ends_and_leaves_something_behind_has_ended_with_its_status(stack: Stack) -> None:
    """Its keeper ends what is left, so its question finds no process; how it ended is known all the same."""
    stack.service("jobs", role="worker", command=["sh", "-c", "sleep 900 & exit 0"], port=None, ready=None)

    done = stack.deploy(mutation=_HEARS_LATE)

    report = assert_failed(stack, done, "SERVICE_EXITED", "jobs ended with exit status 0 after ")
    assert "run it in the foreground" in report["failure"]["next_steps"][0]


_HEARS_LATE: Final = """
import asyncio
from flawless.adapters.services import KeptService
heard = KeptService.exited
async def exited(self):
    found = await heard(self)
    await asyncio.sleep(0.3)
    return found
KeptService.exited = exited
"""


def test_signal_9_from_nobody_names_memory_as_a_possible_cause(stack: Stack) -> None:
    """Where the kernel does not say that memory ran out, the code is SERVICE_EXITED and memory a guess, said as one."""
    stack.backend("signal=9")

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_EXITED", "signal 9", "possibly memory")
    assert_gone(stack, "backend")


def test_killed_by_the_kernel_for_memory_is_named_so(memory_group: Path, stack: Stack) -> None:
    """SERVICE_OOM, because the control group says so: the signal alone could be anybody's."""
    stack.service("backend", command=[sys.executable, "-I", "-S", "-u", "-c", _GREEDY])

    done = stack.deploy(mutation=entering(memory_group))

    report = assert_failed(stack, done, "SERVICE_OOM", "backend", "signal 9", "killed by the kernel for memory")
    assert report["log_tail"]["backend"] == ["loading everything"]
    assert_gone(stack, "backend")


def test_without_the_word_of_the_kernel_it_would_be_a_signal_like_any_other(memory_group: Path, stack: Stack) -> None:
    unread = ('        return int(counts["oom_kill"])\n', "        return None\n")
    with failing_with(stack, "adapters/keeper/memory.py", unread, told="'SERVICE_EXITED'"):
        test_killed_by_the_kernel_for_memory_is_named_so(memory_group, stack)


def test_what_the_kernel_did_to_another_is_not_said_of_a_service(memory_group: Path, stack: Stack) -> None:
    """A neighbour in the same group was killed for memory before this release was started: that was not its end."""
    stack.service("backend")
    assert stack.deploy(mutation=entering(memory_group)).exit_code == 0
    greedy = f"{entering(memory_group)}\n{_GREEDY}"
    killed = subprocess.run([sys.executable, "-I", "-S", "-c", greedy], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL

    stack.service("backend", "signal=9")

    assert_failed(stack, stack.deploy(), "SERVICE_EXITED", "signal 9", "possibly memory")


_GREEDY: Final = """
print("loading everything")
everything = []
while True:
    everything.append(bytearray(1 << 20))
"""


def test_without_the_stability_window_a_dying_service_would_be_called_live(stack: Stack) -> None:
    """The window is what finds a service that was ready and dies: a product without it says yes."""
    stack.timeouts(stable="8s")
    stack.backend("exit-after=6:7")

    assert stack.deploy(mutation=_NO_WINDOW).exit_code == 0


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_one_that_ends_while_it_answers_has_ended(stack: Stack, answers: int) -> None:
    """What is seen first is a connection that closes; the code is that of the end, with its status."""
    stack.service("backend", f"mortal={answers}")

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_EXITED", "backend", "exit status 0")
    assert_gone(stack, "backend")


_NO_WINDOW: Final = """
from flawless.deploy.services import Group
async def watch(self, plan, running): return None
Group._watch_stable = watch
"""


def test_one_that_puts_itself_in_the_background_is_told_to_stay(stack: Stack) -> None:
    """Its own descendant on the port is no thief; nothing of it is left."""
    stack.service("backend", "background")

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "backend", "exit status 0")
    assert "it seems to put itself in the background: run it in the foreground" in report["failure"]["next_steps"][0]
    assert_gone(stack, "backend")


_UNHEARD: Final = """
import asyncio
from flawless.deploy.services import Group
async def ending(self, name): await asyncio.Event().wait()
Group._ending = ending
"""
_NO_TAIL: Final = """
from flawless.adapters.services import KeptService
async def tail(self, lines): return ()
KeptService.tail = tail
"""
_NO_GUESS: Final = "from flawless.core.service import Exit\nExit.__str__ = lambda self: f'signal {self.signal}'"


def test_without_hearing_of_the_end_the_gate_would_go_on_asking(stack: Stack) -> None:
    """Until its deadline, and then say that nobody listens."""
    stack.environment["FLAWLESS_TIMEOUT_BACKEND_READY"] = "1s"
    with failing(stack, _UNHEARD, told="SERVICE_NOT_LISTENING"):
        test_a_service_that_ends_ends_the_gate_now(stack, ("exit=3",), ("exit status 3",))


def test_without_its_tail_the_last_lines_would_not_be_told(stack: Stack) -> None:
    with failing(stack, _NO_TAIL, told="'bye'.* not named"):
        test_a_service_that_ends_ends_the_gate_now(stack, ("print=bye", "exit=0"), ("bye",))


def test_without_the_guess_nobody_would_think_of_memory(stack: Stack) -> None:
    with failing(stack, _NO_GUESS, told="'possibly memory'.* not named"):
        test_signal_9_from_nobody_names_memory_as_a_possible_cause(stack)
