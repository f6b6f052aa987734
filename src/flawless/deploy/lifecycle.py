"""start, stop and restart: the orders of a person, through the same gates as a deploy, without its phases."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from flawless.core.check import Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.event import Effected, Intended
from flawless.core.service import Change, ChangeAction, Keeper, Running
from flawless.deploy.run import Run
from flawless.deploy.services import Group


def starts(names: Sequence[str], running: Mapping[str, Running | None]) -> list[Change]:
    """What runs is left as it is, changed or not: taking over changes is what a deploy does."""
    return [Change(name, _start_action(running[name]), ("asked for",)) for name in names]


def restarts(names: Sequence[str], wanted: Sequence[str], running: Mapping[str, Running | None]) -> list[Change]:
    """The wanted ones are stopped and started; those they wait for are only made sure of."""
    return [
        Change(name, ChangeAction.REPLACE if name in wanted else _start_action(running[name]), ("asked for",))
        for name in names
    ]


def with_dependencies(names: Sequence[str], after: Mapping[str, Sequence[str]]) -> set[str]:
    """The names and everything they wait for."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += after.get(name, ())
    return found


async def bring_up(run: Run, group: Group, names: Sequence[str]) -> None:
    """Starts the services and waits until they are ready.

    Raises CommandFailed when one is not; then what this started is stopped again, and what it replaced runs as before.
    """
    try:
        outcome = await _ready(group, names)
    except BaseException:
        await run.undo.unwind()
        raise
    finally:
        await group.aclose()
    if isinstance(outcome, Failed):
        raise await _taken_back(run, outcome)
    await asyncio.gather(*(group.keepers[name].commit() for name in names))


async def take_down(run: Run, keepers: Mapping[str, Keeper], after: Mapping[str, Sequence[str]]) -> list[str]:
    """Stops the services, each before what it waits for; those that are stopped already cost nothing. Who was up."""
    gone = {name: asyncio.Event() for name in keepers}

    async def stop(name: str) -> str | None:
        for other in keepers:
            if name in after.get(other, ()):
                await gone[other].wait()
        try:
            return await _stop(run, name, keepers[name])
        finally:
            gone[name].set()

    stopped = await asyncio.gather(*(stop(name) for name in keepers), return_exceptions=True)
    errors = [one for one in stopped if isinstance(one, BaseException)]
    if errors:
        raise errors[0]
    return [one for one in stopped if isinstance(one, str)]


async def _stop(run: Run, name: str, keeper: Keeper) -> str | None:
    running = await keeper.look()
    if (running is None or running.keeper_pid is None) and not await keeper.pids():
        return None
    run.tell(Intended("stop", name))
    await keeper.stop()
    run.tell(Effected("stop", name))
    return name


async def _ready(group: Group, names: Sequence[str]) -> Outcome:
    spawned = await group.spawn(names)
    return await group.ready(names) if isinstance(spawned, Passed) else spawned


async def _taken_back(run: Run, failed: Failed) -> CommandFailed:
    unwound = await run.undo.unwind()
    evidence = [*failed.evidence, *(str(one) for one in unwound)]
    return CommandFailed(failed.cause, code=failed.reason, evidence=evidence, next_steps=failed.next_steps)


def _start_action(running: Running | None) -> ChangeAction:
    return ChangeAction.KEEP if running is not None and running.is_alive else ChangeAction.START
