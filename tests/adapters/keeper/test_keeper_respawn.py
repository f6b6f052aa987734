"""What happens after a crash."""

from __future__ import annotations

import json
import signal
import statistics
import time

import pytest

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.record import Record, State
from flawless.adapters.keeper.spec import RestartRule
from support.keepers import Nursery, child_of, until

pytestmark = pytest.mark.anyio


def kill(record: Record) -> None:
    assert tree.send(child_of(record), signal.SIGKILL)


async def test_no_respawn_before_the_verdict(nursery: Nursery) -> None:
    """Until commit a process that dies stays dead, and how it died is told with its last lines."""
    keeper = await Keeper.spawn(nursery.spec("print('no database', end=''); raise SystemExit(3)"))
    ended = await until(keeper, lambda seen: seen.last_exit is not None)
    assert (ended.state, ended.restarts) == (State.STOPPED, 0)
    assert ended.last_exit
    assert (ended.last_exit.kind, ended.last_exit.value, ended.last_exit.requested) == ("exit", 3, False)
    assert await keeper.tail() == ["no database"]


async def test_respawn_is_quick(nursery: Nursery) -> None:
    """One that had been ready is back at once, with a new pid, and the death by signal is on record."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((60.0,), 100, 300.0, 600.0)))
    await keeper.commit()
    record, took = keeper.record, []
    for count in range(1, 11):
        await keeper.ready(value=True)
        began = time.perf_counter()
        kill(record)
        record = await until(keeper, lambda seen, count=count: seen.restarts == count and seen.child is not None)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        took.append((time.perf_counter() - began) * 1000)
        assert record.last_exit
        assert (record.last_exit.kind, record.last_exit.value) == ("signal", signal.SIGKILL)
        assert (record.state, record.ready) == (State.RUNNING, False)
    print(f"killed -> new pid: median {statistics.median(took):.1f} ms, worst {max(took):.1f} ms")
    assert statistics.median(took) <= 250


async def test_a_crash_loop_ends(nursery: Nursery) -> None:
    """Delays, then the cap, then nothing more: gave_up. One command clears it."""
    rule = RestartRule((0.0, 0.02, 0.03), 3, 300.0, 600.0)
    code = "import os, time\nif os.path.exists('broken'): raise SystemExit(0)\ntime.sleep(60)"
    keeper = await Keeper.spawn(nursery.spec(code, restart=rule))
    await keeper.commit()
    (nursery.folder / "broken").touch()
    kill(keeper.record)
    given_up = await until(keeper, lambda seen: seen.state is State.GAVE_UP)
    assert given_up.restarts == 3
    assert given_up.last_exit
    assert (given_up.last_exit.kind, given_up.last_exit.value) == ("exit", 0)
    assert given_up.reason == "crashed again after 3 restarts within 300 s"
    stamps = json.loads((nursery.folder / "budget" / "web.json").read_bytes())["restarts"]
    assert len(stamps) == 3
    (nursery.folder / "broken").unlink()
    kill(await keeper.restart())
    assert (await until(keeper, lambda seen: seen.restarts == 4)).state is not State.GAVE_UP


async def test_a_new_keeper_goes_on_counting(nursery: Nursery) -> None:
    """The budget is on disk: what another keeper, or an order to recover, has used up is used up."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((0.0,), 2, 300.0, 600.0)))
    await keeper.commit()
    (nursery.folder / "budget").mkdir()
    (nursery.folder / "budget" / "web.json").write_text(json.dumps({"restarts": [time.time() - 2, time.time() - 1]}))
    kill(keeper.record)
    assert (await until(keeper, lambda seen: seen.child is None)).state is State.GAVE_UP


async def test_what_others_charge_before_it_starts_again_counts(nursery: Nursery) -> None:
    """An order to recover is charged in the moment in which the keeper starts it by itself: that makes two."""
    budget = nursery.folder / "budget" / "web.json"
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((1.0,), 5, 300.0, 600.0)))
    await keeper.commit()
    kill(keeper.record)
    await until(keeper, lambda seen: seen.state is State.BACKOFF)
    charged = time.time()
    budget.parent.mkdir()
    budget.write_text(json.dumps({"restarts": [charged]}))
    await until(keeper, lambda seen: seen.restarts == 1)
    await keeper.status()  # answered after the turn in which it was written down
    stamps = json.loads(budget.read_bytes())["restarts"]
    assert len(stamps) == 2
    assert stamps[0] == charged


async def test_disarm(nursery: Nursery) -> None:
    """A disarmed keeper respawns nothing, also what was to start in a moment."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((60.0,), 5, 300.0, 600.0)))
    await keeper.commit()
    kill(keeper.record)
    waiting = await until(keeper, lambda seen: seen.state is State.BACKOFF)
    assert waiting.reason == "crashed, starts again in 60 s"
    assert (await keeper.disarm()).state is State.STOPPED
    kill(await keeper.restart())
    assert (await until(keeper, lambda seen: seen.child is None)).state is State.STOPPED


async def test_an_order_ends_the_waiting(nursery: Nursery) -> None:
    """Whoever starts a service in backoff does not wait for the delay."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((60.0,), 5, 300.0, 600.0)))
    await keeper.commit()
    kill(keeper.record)
    await until(keeper, lambda seen: seen.state is State.BACKOFF)
    assert child_of(await keeper.resume())


async def test_a_program_that_vanished(nursery: Nursery) -> None:
    """A respawn that cannot be executed counts like a crash and ends the same way."""
    program = nursery.folder / "service"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    keeper = await Keeper.spawn(
        nursery.spec(command=(str(program),), restart=RestartRule((0.0, 0.01), 2, 300.0, 600.0))
    )
    await keeper.commit()
    program.unlink()
    kill(keeper.record)
    given_up = await until(keeper, lambda seen: seen.state is State.GAVE_UP)
    assert given_up.last_exit
    assert given_up.last_exit.value == 127
