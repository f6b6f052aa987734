"""One command at a time changes a stack, and nobody has to tidy up behind one that died (FAILURES 61)."""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.killed_deploy import check_lock_is_free
from support.mutants import failing
from support.stacks import Stack, until

CONTENDERS = 20


def test_a_second_deploy_is_refused_and_told_who_holds_the_lock(stack: Stack) -> None:
    """Exit 75, with pid, user and since when; nothing is touched and no report written. The first one goes on."""
    with holding(stack) as first:
        second = stack.deploy()
        assert second.exit_code == 75
        assert "LOCK_HELD" in second.stderr
        assert f"pid {first.pid}, user {getpass.getuser()}, since 20" in second.stderr
        assert f"kill -INT {first.pid}" in second.stderr
        assert "Traceback" not in second.output
        assert first.poll() is None
    assert len(list((stack.folder / ".flawless/journal").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("order", ["start", "stop", "restart"])
def test_orders_take_the_lock_too(stack: Stack, order: str) -> None:
    """A person's start, stop or restart does not come between the steps of a deploy."""
    with holding(stack):
        refused = stack.run(order)
    assert refused.exit_code == 75
    assert "LOCK_HELD" in refused.stderr


def test_who_only_reads_needs_no_lock(stack: Stack) -> None:
    """While a deploy runs, the reading commands answer, and write no report for it: it is not dead."""
    with holding(stack) as deploy:
        for words in (
            ["status"],
            ["reports"],
            ["logs"],
            ["check"],
            ["lock"],
            ["plan"],
            ["incidents"],
            ["config", "show"],
        ):
            done = stack.run(*words)
            assert done.exit_code not in {75, 64}, (words, done.output)
            assert "Traceback" not in done.output
        assert str(deploy.pid) in stack.run("lock", "status").stdout
        assert list((stack.folder / "logs").glob("deploy-report-*")) == []


def test_a_holder_that_is_killed_frees_the_lock_at_once(stack: Stack) -> None:
    """No command, no file to remove, no time to wait: the next deploy takes it, whatever note is left behind."""
    with holding(stack) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        check_lock_is_free(stack)
        assert (stack.folder / ".flawless/lock/deploy.json").exists()
    stack.backend()
    assert stack.deploy("-q").exit_code == 0


def test_of_many_contenders_one_wins(stack: Stack) -> None:
    """Twenty at the same moment: one deploys, and each of the others is told whose turn it is."""
    stack.backend("answer=unready", recover=None)
    stack.timeouts(backend_ready="60s")
    stack.write()
    contenders = [spawn(stack) for _ in range(CONTENDERS)]
    try:
        until(lambda: len(alive(contenders)) == 1, "all but one have ended", 60)
        [winner] = alive(contenders)
        losers = [(one.wait(), one.stderr.read()) for one in contenders if one is not winner and one.stderr]
        assert [code for code, _ in losers] == [75] * (CONTENDERS - 1)
        assert all(f"pid {winner.pid}" in said for _, said in losers), losers
    finally:
        for one in alive(contenders):
            one.send_signal(signal.SIGINT)
        for one in contenders:
            one.wait(20)
            if one.stderr:
                one.stderr.close()


def test_looking_at_the_lock_keeps_no_deploy_out(stack: Stack) -> None:
    """Who looks takes the lock for a moment; a deploy that begins in that moment waits for it instead of giving up."""
    stack.backend()
    assert stack.deploy("-q").exit_code == 0
    (stack.folder / ".flawless/lock/deploy.json").write_text(
        f'{{"pid": {unused_pid()}, "user": "x", "since": "2026-01-01T00:00:00.000Z", "command": "x", "nonce": "0"}}'
    )
    look = (
        "from pathlib import Path\n"
        "from flawless.adapters.locks import DeployLock\n"
        "while True: DeployLock(Path('.flawless/lock')).holder()"
    )
    environment = stack.clean_environment()
    with subprocess.Popen([sys.executable, "-c", look], cwd=stack.folder, env=environment) as looker:
        try:
            codes = [stack.run("stop", "nobody").exit_code for _ in range(2)]
            codes += [stack.deploy("-q").exit_code for _ in range(4)]
        finally:
            looker.kill()
    assert codes == [64, 64, 0, 0, 0, 0]


# --- without the lock ---

UNLOCKED = """
from contextlib import nullcontext
from flawless.adapters import locks
locks.DeployLock.held = lambda self, command, now: nullcontext()
"""
A_FILE = """
from flawless.adapters import locks
class FileThatStays:
    def __init__(self, path): path.touch(); self.path = path.with_suffix(".taken")
    def acquire(self, **how):
        try: self.path.touch(exist_ok=False)
        except FileExistsError: raise locks.Timeout(str(self.path)) from None
    def release(self): self.path.unlink()
locks.DeployLock._lock = lambda self: FileThatStays(self._folder / locks._FILE)
"""
NAMELESS = "from flawless.adapters import locks\nlocks.DeployLock._read = lambda self: None"


def test_without_the_lock_an_order_would_come_between_the_steps_of_a_deploy(stack: Stack) -> None:
    """The service is stopped, and the deploy does not end as one that is interrupted."""
    with failing(stack, UNLOCKED, told="== (130|75)"):
        test_orders_take_the_lock_too(stack, "stop")


def test_without_its_note_the_holder_would_have_no_name(stack: Stack) -> None:
    with failing(stack, NAMELESS, told="a process that has only just taken it"):
        test_a_second_deploy_is_refused_and_told_who_holds_the_lock(stack)


def test_a_lock_that_is_a_file_would_outlive_its_holder(stack: Stack) -> None:
    """What frees it is that it is the system's own lock."""
    with failing(stack, A_FILE, told="75 == 0"):
        test_a_holder_that_is_killed_frees_the_lock_at_once(stack)


# --- how it is made ---


@contextmanager
def holding(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """A deploy that waits for a backend that never becomes ready; taken back at the end when it still runs."""
    stack.backend("answer=unready", recover=None)
    stack.timeouts(backend_ready="60s")
    with stack.deploying("-q") as deploy:
        until(lambda: stack.is_served("backend"), "the backend serves")
        try:
            yield deploy
        finally:
            if deploy.poll() is None:
                deploy.send_signal(signal.SIGINT)
                assert deploy.wait(20) == 130


def spawn(stack: Stack) -> subprocess.Popen[str]:
    return subprocess.Popen(
        stack.argv("deploy", "-q"),
        cwd=stack.folder,
        env=stack.clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(contenders: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    return [one for one in contenders if one.poll() is None]


def unused_pid() -> int:
    """One that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    return gone.pid
