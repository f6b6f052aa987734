"""The whole tree goes, and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from flawless.adapters.keeper import record, tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.record import State
from flawless.adapters.keeper.spec import RestartRule
from flawless.core.errors import CommandFailed
from support.keepers import LIVES, Nursery, child_of, eventually, free_port, is_listening, until

pytestmark = pytest.mark.anyio

LISTENS_FOR_EVER = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{session}
listening = socket.create_server(('127.0.0.1', {port}))
{output}
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, '-I', '-S', '-c', {code!r}], start_new_session={apart})
{then}
"""
SILENT = "null = os.open(os.devnull, os.O_RDWR); os.dup2(null, 1); os.dup2(null, 2)"
TWICE = "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0)"


def grandchild(port: int, *, session: str = "", output: str = "", apart: bool = False, then: str) -> str:
    code = LISTENS_FOR_EVER.format(session=session, port=port, output=output)
    return PARENT.format(code=code, apart=apart, then=then)


@pytest.mark.parametrize(
    ("session", "apart"), [("", False), ("", True), (TWICE, False)], ids=["in the group", "setsid", "double fork"]
)
async def test_a_grandchild_that_ignores_sigterm(nursery: Nursery, *, session: str, apart: bool) -> None:
    """It is gone once stop has answered, soon after the deadline, and its port is free."""
    port = free_port()
    code = grandchild(port, session=session, output=SILENT, apart=apart, then="time.sleep(60)")
    keeper = await Keeper.spawn(nursery.spec(code, stop_timeout=0.2))
    await eventually(lambda: is_listening(port))
    began = time.monotonic()
    await keeper.stop()
    assert not is_listening(port)
    assert time.monotonic() - began < 0.2 + 0.5


async def test_what_a_crashed_wrapper_leaves_is_ended_before_the_respawn(nursery: Nursery) -> None:
    """A wrapper is killed, its child keeps the port: it goes, and the new one gets the port."""
    port = free_port()
    code = grandchild(port, apart=True, then="print('wrapper up'); time.sleep(60)")
    keeper = await Keeper.spawn(nursery.spec(code, stop_timeout=0.2))
    await eventually(lambda: is_listening(port))
    await keeper.commit()
    wrapper = child_of(keeper.record)
    tree.send(wrapper, signal.SIGKILL)
    again = await until(keeper, lambda seen: seen.restarts == 1 and seen.child is not None)
    assert child_of(again) != wrapper
    assert again.last_exit
    assert not again.last_exit.requested
    await eventually(lambda: is_listening(port))
    below = tree.descendants(keeper.record.keeper.pid)
    assert len(below) == 2


async def test_a_stopped_process_hears_of_its_end(nursery: Nursery) -> None:
    """A process under SIGSTOP is continued, so that it can end in order."""
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up'); time.sleep(60)"
    keeper = await Keeper.spawn(nursery.spec(code))
    await eventually(lambda: nursery.log() == b"up\n")
    tree.send(child_of(keeper.record), signal.SIGSTOP)
    last_exit = (await keeper.stop()).last_exit
    assert last_exit
    assert last_exit.value == 7


def start_stranger() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", LIVES], stdout=subprocess.DEVNULL)


async def test_a_foreign_process_is_never_signalled(nursery: Nursery) -> None:
    """A record whose pid now belongs to another process, or of another boot: neither adopted nor harmed."""
    keeper = await Keeper.spawn(nursery.spec())
    genuine = await keeper.stop()
    with start_stranger() as stranger:
        try:
            theirs = tree.identity(stranger.pid)
            assert theirs
            for claimed in (theirs._replace(start_time=theirs.start_time - 5), theirs._replace(boot_id="the last one")):
                stale = genuine._replace(state=State.READY, ready=True, child=claimed, pgid=stranger.pid)
                record.write(str(nursery.run_folder()), stale)
                os.mkfifo(nursery.run_folder() / "output")
                with pytest.raises(CommandFailed, match="nothing is left to adopt"):
                    await Keeper.adopt(nursery.run_folder(), nursery.spec())
                assert nursery.record().state is State.STOPPED
                assert stranger.poll() is None
            await (await Keeper.spawn(nursery.spec())).stop()
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_a_storm_of_forks_ends(nursery: Nursery) -> None:
    """Processes that go on forking while they are being killed do not escape."""
    code = """
import fcntl, os, signal, time
signal.signal(15, signal.SIG_IGN)
held = open('held', 'w')
fcntl.flock(held, fcntl.LOCK_EX)
print('up')
until = time.monotonic() + 8
while time.monotonic() < until:
    if os.fork():
        time.sleep(0.001)
        os._exit(0)
    os.setsid()
"""
    keeper = await Keeper.spawn(nursery.spec(code, stop_timeout=0.2))
    await eventually(lambda: nursery.log() == b"up\n")
    began = time.monotonic()
    await keeper.stop()
    assert time.monotonic() - began < 0.2 + 0.5
    with (nursery.folder / "held").open() as held:  # every process of the storm has inherited the lock
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_the_tree_is_the_budgets_business(nursery: Nursery) -> None:
    """Orders of a person are not charged: many restarts by hand leave the budget whole."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((0.0,), 1, 300.0, 600.0)))
    await keeper.commit()
    for _ in range(3):
        await keeper.restart()
    assert not (nursery.folder / "budget").exists()
