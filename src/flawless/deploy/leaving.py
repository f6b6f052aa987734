"""Services that still run and that the manifest no longer names: they go, and come back when the deploy fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from flawless.core.event import Effected, Intended
from flawless.core.service import Keeper
from flawless.deploy.run import Run


@dataclass(frozen=True, slots=True)
class Leaver:
    """One of them, and the port it holds."""

    keeper: Keeper
    port: int | None


@dataclass
class Leaving:
    """They are held until the verdict: stopped, with how they were started kept in their keeper."""

    services: Mapping[str, Leaver]
    _held: set[str] = field(default_factory=set)

    async def hold(self, run: Run) -> None:
        """Stops all that still run."""
        for name in self.services:
            await self._hold(run, name, "the manifest no longer names it")

    async def make_room(self, run: Run, port: int | None) -> None:
        """Stops the one that holds a port that is wanted: a service was renamed."""
        for name, one in self.services.items():
            if port is not None and one.port == port:
                await self._hold(run, name, "it holds the port of a service that takes its place")

    async def stop(self) -> None:
        """The verdict is yes: their keepers end too."""
        for one in self.services.values():
            await one.keeper.stop()

    async def _hold(self, run: Run, name: str, why: str) -> None:
        if name in self._held:
            return
        self._held.add(name)
        keeper = self.services[name].keeper
        run.tell(Intended("stop", name, {"why": [why]}))
        run.undo.push(f"{name} runs again, as before this deploy", partial(_resumed, keeper))
        await keeper.hold()
        run.tell(Effected("stop", name))


async def _resumed(keeper: Keeper) -> None:
    await keeper.resume()
