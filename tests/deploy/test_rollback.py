"""The way back: newest first, each undo on its own."""

from __future__ import annotations

import asyncio

import pytest

from flawless.core.errors import CommandFailed
from flawless.deploy.rollback import UndoStack, Unwound

pytestmark = pytest.mark.anyio


class World:
    """Keeps what was undone, in order; some undos fail."""

    def __init__(self) -> None:
        self.undone: list[str] = []
        self.stack = UndoStack()

    def push(self, name: str, error: Exception | None = None) -> None:
        async def undo() -> None:
            await asyncio.sleep(0)
            if error is not None:
                raise error
            self.undone.append(name)

        self.stack.push(f"{name} is stopped", undo)


async def test_the_newest_change_is_undone_first() -> None:
    """What came up last depends on what came up before it."""
    world = World()
    for name in ("backend", "worker", "frontend"):
        world.push(name)
    assert world.stack.pending() == ["frontend is stopped", "worker is stopped", "backend is stopped"]
    unwound = await world.stack.unwind()
    assert world.undone == ["frontend", "worker", "backend"]
    assert [str(one) for one in unwound] == ["frontend is stopped", "worker is stopped", "backend is stopped"]
    assert world.stack.pending() == []


async def test_an_undo_that_fails_does_not_stop_the_older_ones() -> None:
    """It is said, with its reason; a refusal with what was seen, a fault with its type."""
    world = World()
    world.push("backend")
    world.push("worker", CommandFailed("the keeper is gone", evidence=["nobody answers"]))
    world.push("frontend", ZeroDivisionError("oops"))
    unwound = await world.stack.unwind()
    assert world.undone == ["backend"]
    assert unwound == [
        Unwound("frontend is stopped", "ZeroDivisionError: oops"),
        Unwound("worker is stopped", "the keeper is gone; nobody answers"),
        Unwound("backend is stopped", None),
    ]
    assert str(unwound[1]) == "NOT DONE: the keeper is gone; nobody answers (what was meant: worker is stopped)"


async def test_what_is_cut_short_is_still_named_as_left() -> None:
    """Who abandons a rollback must hear what is left, and what was done before."""
    world = World()
    reached, never = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        reached.set()
        await never.wait()

    world.push("backend")
    world.stack.push("worker is stopped", hangs)
    world.push("frontend", ZeroDivisionError("oops"))
    task = asyncio.ensure_future(world.stack.unwind())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.stack.pending() == ["worker is stopped", "backend is stopped"]
    assert [one.sentence for one in world.stack.unwound()] == ["frontend is stopped"]
    assert world.undone == []


async def test_nothing_is_undone_twice() -> None:
    """A second unwinding finds nothing, and still knows what was done."""
    world = World()
    world.push("backend")
    await world.stack.unwind()
    assert await world.stack.unwind() == [Unwound("backend is stopped", None)]
    assert world.undone == ["backend"]
