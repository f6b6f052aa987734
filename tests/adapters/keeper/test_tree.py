"""Processes and their identity, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.tree import ProcessId

SLEEP = "import time; time.sleep(60)"


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)


def known(pid: int) -> ProcessId:
    found = tree.identity(pid)
    assert found
    return found


def test_a_zombie_is_dead() -> None:
    """A process that ended and was not reaped is not alive."""
    with start("pass") as process:
        mine = known(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not tree.is_alive(mine)


def test_a_reused_pid_is_dead_and_not_signalled() -> None:
    """The same pid with another start time, or from another boot, is another process: it lives on."""
    with start(SLEEP) as process:
        try:
            mine = known(process.pid)
            for other in (mine._replace(start_time=mine.start_time - 1), mine._replace(boot_id="another")):
                assert not tree.is_alive(other)
                assert not tree.send(other, signal.SIGKILL)
            assert tree.is_alive(mine)
            assert process.poll() is None
            assert tree.send(mine, signal.SIGKILL)
        finally:
            process.kill()
    assert not tree.send(mine, signal.SIGKILL)


def test_descendants() -> None:
    """Children and their children are found, the process itself is not among them."""
    child = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    with start(f"{child}; print(p.pid, flush=True); p.wait()") as process:
        try:
            assert process.stdout
            grandchild = int(process.stdout.readline())
            assert [grandchild] == [found.pid for found in tree.descendants(process.pid)]
            assert known(grandchild) in tree.descendants(os.getpid())
        finally:
            for found in tree.descendants(process.pid):
                tree.send(found, signal.SIGKILL)
            process.kill()


def test_no_such_process() -> None:
    """What does not exist has no identity."""
    with start("pass") as process:
        process.wait()
        assert tree.identity(process.pid) is None
