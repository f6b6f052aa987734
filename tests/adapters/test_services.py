"""A service as the use cases see it, on real keepers: start, replace, revert, commit, and keepers that were killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flawless.adapters.keeper.tree import children, read_stat
from flawless.adapters.services import KeptService
from flawless.core.errors import CommandFailed
from flawless.core.secret import Secret
from flawless.core.service import Exit, Launch, Running, ServiceState
from support.eventually import eventually
from support.keepers import PATIENCE, nursery_in

pytestmark = pytest.mark.anyio
LIVES = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with nursery_in(tmp_path):
        yield tmp_path


@pytest.fixture
def service(folder: Path) -> KeptService:
    return KeptService("web", folder / "run" / "web", folder / "logs")


def launch(folder: Path, code: str = LIVES, *, version: str = "1", deploy_id: str = "first") -> Launch:
    command = (sys.executable, "-I", "-S", "-u", "-c", code)
    environment = {"PATH": os.environ["PATH"]}
    secrets = (Secret("correct-horse-battery"),)
    return Launch(
        "web", command, folder, environment, secrets, None, deploy_id, {"code": version}, 2.0, (0.0,), 5, 300.0, 600.0,
        10**6, 7,
    )  # fmt: skip


def pid_of(running: Running | None) -> int:
    assert running is not None
    assert running.pid is not None
    return running.pid


def lives(pid: int) -> bool:
    """An orphan that has ended stays in the table until whoever inherited it looks."""
    stat = read_stat(pid)
    return stat is not None and not stat.dead


async def gone(pid: int) -> None:
    async def is_gone() -> bool:
        return not lives(pid)

    await eventually(is_gone)


async def test_what_was_never_started_is_not_there(service: KeptService) -> None:
    """Nothing to look at, to stop or to revert; an order that needs a keeper is refused with a next step."""
    assert await service.look() is None
    assert await service.revert() is None
    assert await service.pids() == frozenset()
    assert list(await service.tail(5)) == []
    await service.stop()
    assert await service.exited() == Exit(None, None, 0.0, "")
    ended = await service.exited()
    assert (ended.sentence, f"last exit: {ended}") == ("ended, and nobody saw how", "last exit: an end that nobody saw")
    with pytest.raises(CommandFailed) as refused:
        await service.commit()
    assert refused.value.code == "SERVICE_KEEPER_FAILED"
    assert refused.value.next_steps


async def test_a_started_service_runs_and_is_not_ready(service: KeptService, folder: Path) -> None:
    """Running is not ready: that is said by a gate."""
    running = await service.start(launch(folder))
    assert (running.state, running.ready, running.deploy_id) == (ServiceState.STARTING, False, "first")
    assert (running.is_alive, running.fingerprint) == (True, {"code": "1"})
    assert pid_of(running) in await service.pids()
    await service.mark(ready=True)
    looked = await service.look()
    assert looked is not None
    assert (looked.state, looked.ready) == (ServiceState.READY, True)
    assert (pid_of(looked), looked.keeper_pid) == (pid_of(running), running.keeper_pid)
    await service.stop()
    assert not lives(pid_of(running))


async def test_a_replacement_is_reverted_to_what_ran_before(service: KeptService, folder: Path) -> None:
    """With its fingerprint and the deploy id it had."""
    old = await service.start(launch(folder))
    await service.commit()
    new = await service.start(launch(folder, version="2", deploy_id="second"))
    assert (new.deploy_id, new.fingerprint) == ("second", {"code": "2"})
    assert not lives(pid_of(old))
    again = await service.revert()
    assert again is not None
    assert (again.deploy_id, again.fingerprint, again.is_alive) == ("first", {"code": "1"}, True)
    assert not lives(pid_of(new))
    await service.stop()


async def test_a_first_start_is_reverted_to_nothing(service: KeptService, folder: Path) -> None:
    """Neither process nor keeper is left."""
    running = await service.start(launch(folder))
    assert await service.revert() is None
    assert not lives(pid_of(running))
    assert running.keeper_pid is not None
    await gone(running.keeper_pid)


@pytest.mark.parametrize(
    ("code", "status", "number"),
    [("raise SystemExit(3)", 3, None), ("import os; os.kill(os.getpid(), 9)", None, 9), ("", 0, None)],
)
async def test_the_end_of_a_process_is_told_once_it_came(
    service: KeptService, folder: Path, code: str, status: int | None, number: int | None
) -> None:
    """Also one that came before it was asked for; until the verdict nothing is started anew."""
    await service.start(launch(folder, code))
    async with asyncio.timeout(10):
        ended = await service.exited()
    assert (ended.status, ended.signal, ended.requested) == (status, number, False)
    looked = await service.look()
    assert looked is not None
    assert (looked.is_alive, looked.restarts) == (False, 0)
    await service.stop()


async def test_the_end_of_a_long_life_is_waited_for(service: KeptService, folder: Path) -> None:
    """However long that takes."""
    running = await service.start(launch(folder))
    waiting = asyncio.ensure_future(service.exited())
    await service.mark(ready=True)
    assert not waiting.done()
    os.kill(pid_of(running), signal.SIGTERM)
    async with asyncio.timeout(10):
        assert (await waiting).signal == signal.SIGTERM
    await service.stop()


async def test_what_it_printed_is_redacted(service: KeptService, folder: Path) -> None:
    """Its secrets are known to its keeper."""
    await service.start(launch(folder, "print('a correct-horse-battery b', flush=True); " + LIVES))

    async def has_printed() -> bool:
        return len(await service.tail(5)) >= 2

    await eventually(has_printed)
    assert list(await service.tail(5)) == ["a **** b", "up"]
    await service.stop()


async def test_a_service_whose_keeper_was_killed_lives_and_is_adopted(service: KeptService, folder: Path) -> None:
    """Exactly one copy: the same pid, a new keeper, the deploy id it was started with; it can be committed."""
    running = await service.start(launch(folder))
    await service.commit()
    assert running.keeper_pid is not None
    os.kill(running.keeper_pid, signal.SIGKILL)
    await gone(running.keeper_pid)
    orphan = await service.look()
    assert orphan is not None
    assert (orphan.is_alive, orphan.keeper_pid, orphan.pid) == (True, None, running.pid)
    assert pid_of(running) in await service.pids()
    adopted = await service.adopt(launch(folder, deploy_id="second"))
    assert adopted is not None
    assert (adopted.pid, adopted.deploy_id) == (running.pid, "first")
    assert adopted.keeper_pid not in {None, running.keeper_pid}
    await service.commit()
    await service.stop()
    assert not lives(pid_of(running))


async def test_a_start_is_a_new_process_whether_its_keeper_was_killed_or_not(
    service: KeptService, folder: Path
) -> None:
    """Of the same code too, and it is the only one; the one before it is gone."""
    before = await service.start(launch(folder))
    for killed in (True, False, True):
        if killed:
            assert before.keeper_pid is not None
            os.kill(before.keeper_pid, signal.SIGKILL)
            await gone(before.keeper_pid)
        after = await service.start(launch(folder, deploy_id="second"))
        assert (after.is_alive, after.deploy_id) == (True, "second")
        assert not lives(pid_of(before))
        await service.commit()
        before = after
    await service.stop()


async def test_nothing_is_adopted_where_nothing_runs(service: KeptService, folder: Path) -> None:
    """No keeper is left behind either."""
    assert await service.adopt(launch(folder)) is None
    left = service.recorded()
    if left is not None and left.keeper_pid is not None:
        await gone(left.keeper_pid)
    assert await service.pids() == frozenset()


async def test_an_orphan_of_other_code_is_replaced(service: KeptService, folder: Path) -> None:
    """Still one copy."""
    running = await service.start(launch(folder))
    assert running.keeper_pid is not None
    os.kill(running.keeper_pid, signal.SIGKILL)
    await gone(running.keeper_pid)
    replaced = await service.start(launch(folder, version="2"))
    assert replaced.fingerprint == {"code": "2"}
    assert not lives(pid_of(running))
    await service.stop()


async def test_stopping_ends_what_a_killed_keeper_left_behind(service: KeptService, folder: Path) -> None:
    """Nobody is left without an owner."""
    running = await service.start(launch(folder))
    assert running.keeper_pid is not None
    os.kill(running.keeper_pid, signal.SIGKILL)
    await gone(running.keeper_pid)
    await service.stop()
    await gone(pid_of(running))


async def test_what_is_held_comes_back_as_it_was(service: KeptService, folder: Path) -> None:
    """Its keeper remembers how it was started."""
    running = await service.start(launch(folder))
    await service.commit()
    await service.hold()
    held = await service.look()
    assert held is not None
    assert (held.state, held.is_alive) == (ServiceState.HELD, False)
    assert not lives(pid_of(running))
    resumed = await service.resume()
    assert (resumed.is_alive, resumed.fingerprint) == (True, {"code": "1"})
    await service.stop()


async def test_a_program_that_is_not_there_is_no_running_service(service: KeptService, folder: Path) -> None:
    """Its exit says so, and nothing hangs."""
    broken = launch(folder)
    started = await service.start(
        Launch(**{name: getattr(broken, name) for name in broken.__slots__} | {"command": ("/no/such/program",)})
    )
    assert not started.is_alive
    async with asyncio.timeout(10):
        assert (await service.exited()).status in {126, 127}
    await service.stop()


async def test_a_keeper_started_ahead_takes_the_first_order(service: KeptService, folder: Path) -> None:
    """However often it is prepared there is one; the service that is started then is in its hands."""
    before = children()
    service.prepare()
    service.prepare()
    [ahead] = set(children()) - set(before)
    running = await service.start(launch(folder))
    assert running.keeper_pid is not None
    assert os.getsid(running.keeper_pid) == ahead
    assert children() == before
    service.dismiss()
    assert lives(pid_of(running))


async def test_no_keeper_is_started_ahead_where_one_lives(service: KeptService, folder: Path) -> None:
    """It is the one that gets the order."""
    running = await service.start(launch(folder))
    before = children()
    service.prepare()
    assert children() == before
    assert (await service.start(launch(folder, version="2"))).keeper_pid == running.keeper_pid


async def test_a_keeper_that_is_not_needed_is_dismissed(service: KeptService) -> None:
    """Nothing is left of it; that there never was one is fine as well."""
    before = children()
    service.prepare()
    service.dismiss()
    service.dismiss()
    assert children() == before
    assert await service.look() is None


async def test_a_crash_that_is_answered_soon_is_waited_for(service: KeptService, folder: Path) -> None:
    """What is there is the next process; of a longer pause, and where no keeper lives, it is told as it is."""
    assert await service.settled(1.0) is None
    before = pid_of(await service.start(replace(launch(folder), delays=(1.0,))))
    await service.commit()
    os.kill(before, signal.SIGKILL)
    await gone(before)
    after = await service.settled(PATIENCE)
    assert pid_of(after) != before

    await service.stop()
    slow = replace(launch(folder), delays=(60.0,))
    before = pid_of(await service.start(slow))
    await service.commit()
    os.kill(before, signal.SIGKILL)
    await gone(before)
    pausing = await service.settled(0.05)
    assert pausing is not None
    assert (pausing.state, pausing.pid) == (ServiceState.BACKOFF, None)
