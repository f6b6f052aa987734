"""A keeper that is started ahead: what it holds, what becomes of it, and when it is of no use any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Keeper, Newcomer
from flawless.adapters.keeper.tree import ProcessId
from support.keepers import Nursery, child_of, dead

pytestmark = pytest.mark.anyio

PREPARES = """import sys
from pathlib import Path
from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Newcomer
newcomer = Newcomer(Path(sys.argv[1]))
print(*tree.children(), flush=True)
sys.stdin.read()
"""


def born(before: list[int]) -> ProcessId:
    """The one child we have that we had not then."""
    [pid] = set(tree.children()) - set(before)
    found = tree.identity(pid)
    assert found
    return found


async def test_it_becomes_the_keeper(nursery: Nursery) -> None:
    """The order goes to the one that waits: the keeper is in the session that was made for that."""
    before = tree.children()
    newcomer = Newcomer(nursery.run_folder())
    process = born(before)
    keeper = await Keeper.spawn(nursery.spec(), newcomer)
    assert tree.is_alive(child_of(keeper.record))
    assert os.getsid(keeper.record.keeper.pid) == process.pid
    assert tree.children() == before


async def test_it_holds_nothing_until_it_is_told(nursery: Nursery) -> None:
    """No folder, no lock, no socket: another keeper may have the service meanwhile, and it then goes as it came."""
    newcomer = Newcomer(nursery.run_folder())
    assert not nursery.run_folder().exists()
    keeper = await Keeper.spawn(nursery.spec())
    newcomer.dismiss()
    assert (await keeper.status()).child == keeper.record.child


async def test_it_is_gone_when_it_was_dismissed(nursery: Nursery) -> None:
    """Nothing of it is left on return, not even a dead entry."""
    before = tree.children()
    newcomer = Newcomer(nursery.run_folder())
    process = born(before)
    newcomer.dismiss()
    assert tree.read_stat(process.pid) is None
    assert not nursery.run_folder().exists()


async def test_it_ends_when_who_started_it_was_killed(nursery: Nursery) -> None:
    """After `kill -9` there is nobody to give it an order: it ends by itself, and has touched nothing."""
    command = [sys.executable, "-c", PREPARES, str(nursery.run_folder())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as giver:
        assert giver.stdout
        process = tree.identity(int(giver.stdout.readline()))
        assert process
        assert tree.is_alive(process)
        giver.kill()
    await dead(process)
    assert not nursery.run_folder().exists()


async def test_another_is_started_when_it_has_died(nursery: Nursery) -> None:
    """One that was killed while it waited is no reason not to start the service."""
    before = tree.children()
    newcomer = Newcomer(nursery.run_folder())
    process = born(before)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    keeper = await Keeper.spawn(nursery.spec(), newcomer)
    assert tree.is_alive(child_of(keeper.record))
    assert os.getsid(keeper.record.keeper.pid) != process.pid
