"""BACKEND_START, BACKEND_READY_GATE and FRONTEND_START: services by role, through their gates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from flawless.core.check import Outcome, Passed, Skipped
from flawless.deploy.run import Run
from flawless.deploy.services import Group

GroupOf = Callable[[Run], Awaitable[Group]]
"""The services of a run: planned once, when the database's address is known."""


@dataclass(frozen=True, slots=True)
class StartBackends:
    """Starts backends and workers; those that wait for none of the others are running when this passes."""

    group: GroupOf
    names: Sequence[str]

    async def run(self, run: Run) -> Outcome:
        if not self.names:
            return Skipped("not declared")
        return await (await self.group(run)).spawn(self.names)


@dataclass(frozen=True, slots=True)
class ReadyBackends:
    """Waits until every backend and worker is ready: live, then database, then status."""

    group: GroupOf
    names: Sequence[str]

    async def run(self, run: Run) -> Outcome:
        if not self.names:
            return Skipped("not declared")
        return await (await self.group(run)).ready(self.names)


@dataclass(frozen=True, slots=True)
class StartFrontends:
    """Starts frontends and proxies and waits until they are ready."""

    group: GroupOf
    names: Sequence[str]

    async def run(self, run: Run) -> Outcome:
        if not self.names:
            return Skipped("not declared")
        group = await self.group(run)
        spawned = await group.spawn(self.names)
        return await group.ready(self.names) if isinstance(spawned, Passed) else spawned
