"""start, stop and restart: who is touched, in which order, and what happens when one does not come up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.check import Passed
from flawless.core.errors import CommandFailed
from flawless.core.service import ChangeAction
from flawless.deploy.lifecycle import bring_up, restarts, starts, take_down, with_dependencies
from support.kept import Stage, unhealthy, up


def test_start_leaves_what_runs() -> None:
    """Changed or not: taking over changes is what a deploy does."""
    found = starts(["api", "web"], {"api": up("api"), "web": None})
    assert [one.action for one in found] == [ChangeAction.KEEP, ChangeAction.START]


def test_restart_replaces_the_wanted_and_makes_sure_of_the_rest() -> None:
    """What it waits for is started where it does not run, and left alone where it does."""
    found = restarts(["db", "api", "web"], ["web"], {"db": None, "api": up("api"), "web": up("web")})
    assert [one.action for one in found] == [ChangeAction.START, ChangeAction.KEEP, ChangeAction.REPLACE]


def test_everything_a_service_waits_for_comes_with_it() -> None:
    """However far away."""
    after = {"web": ("api",), "api": ("cache", "mail"), "mail": ("cache",)}
    assert with_dependencies(["web"], after) == {"web", "api", "cache", "mail"}
    assert with_dependencies(["mail", "cache"], after) == {"mail", "cache"}


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20), st.integers(0, 8))
def test_dependencies_are_closed(pairs: list[tuple[int, int]], first: int) -> None:
    """Nothing found waits for something that is not found, also in a circle."""
    after: dict[str, list[str]] = {}
    for one, other in pairs:
        after.setdefault(str(one), []).append(str(other))
    found = with_dependencies([str(first)], after)
    assert all(set(after.get(name, ())) <= found for name in found)


@pytest.mark.anyio
async def test_what_is_ready_is_committed_and_its_watch_ends() -> None:
    """From then on a crash is answered."""
    stage = Stage()
    stage.add("api")
    stage.add("web", after=("api",))
    await bring_up(stage.run, stage.group, ["api", "web"])
    assert stage.orders == ["start api", "start web", "commit api", "commit web"]
    assert all(task.done() for task in [*stage.group._endings.values(), *stage.group._stable.values()])


@pytest.mark.anyio
async def test_what_does_not_come_up_is_taken_back_and_told() -> None:
    """The cause first; what became of each undo stands in the evidence."""
    stage = Stage()
    stage.add("api")
    stage.add("web", answer=unhealthy, limit=2.0, after=("api",))
    with pytest.raises(CommandFailed) as failed:
        await bring_up(stage.run, stage.group, ["api", "web"])
    assert (failed.value.cause, failed.value.code) == ("it is not ready", "SERVICE_UNHEALTHY")
    assert failed.value.evidence[-2:] == (
        "web is stopped, as before this deploy",
        "api is stopped, as before this deploy",
    )
    assert stage.orders[-2:] == ["revert web", "revert api"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [CommandFailed("no keeper"), ZeroDivisionError()])
async def test_whatever_goes_wrong_what_was_started_is_taken_back(error: Exception) -> None:
    """A refusal or a fault of ours leaves nothing half up."""
    stage = Stage()
    stage.add("api")
    stage.add("web").refusal = error
    with pytest.raises(type(error)):
        await bring_up(stage.run, stage.group, ["api", "web"])
    assert {"revert api", "revert web"} <= set(stage.orders)
    assert stage.run.undo.pending() == []


@pytest.mark.anyio
async def test_an_interruption_takes_back_what_was_started() -> None:
    """Ctrl-C in the middle of a start."""
    stage = Stage()
    stage.add("api", answer=unhealthy)
    task = asyncio.ensure_future(bring_up(stage.run, stage.group, ["api"]))
    await stage.clock.sleep(3.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.orders == ["start api", "revert api"]


@pytest.mark.anyio
async def test_each_is_stopped_before_what_it_waits_for() -> None:
    """Independent ones side by side; who had been up is named."""
    stage = Stage()
    for name in ("cache", "api", "web", "mail"):
        keeper = stage.add(name)
        keeper.now, keeper.boot = up(name), 1.0
    stage.keepers["mail"].now = None
    stopped = await take_down(stage.run, stage.keepers, {"web": ("api",), "api": ("cache",)})
    assert stage.orders == ["stop web", "stop api", "stop cache"]
    assert stopped == ["cache", "api", "web"]
    assert stage.clock.monotonic() == 1003.0


@pytest.mark.anyio
async def test_one_that_cannot_be_stopped_keeps_none_of_the_others_up() -> None:
    """Then the error is raised."""
    stage = Stage()
    for name in ("api", "web"):
        stage.add(name).now = up(name)
    stage.keepers["web"].refusal = CommandFailed("its keeper does not answer")
    with pytest.raises(CommandFailed, match="does not answer"):
        await take_down(stage.run, stage.keepers, {"web": ("api",)})
    assert stage.keepers["api"].now is None


@pytest.mark.anyio
async def test_stopping_what_is_stopped_costs_nothing() -> None:
    """Twice is safe."""
    stage = Stage()
    stage.add("api", answer=Passed)
    assert await take_down(stage.run, stage.keepers, {}) == []
    assert (stage.orders, stage.told) == ([], [])
