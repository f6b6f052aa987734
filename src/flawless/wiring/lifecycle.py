"""start, stop and restart, put together for one stack. The caller holds the deploy lock."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flawless.adapters import desired
from flawless.core import ids
from flawless.core.errors import CommandFailed, UsageError
from flawless.core.event import Effected, Intended, Reader
from flawless.core.reason import Reason
from flawless.core.service import TUNNEL, Change, Keeper, Running
from flawless.deploy.lifecycle import bring_up, restarts, starts, take_down, with_dependencies
from flawless.deploy.run import Run
from flawless.wiring import given_up
from flawless.wiring.services import Services

if TYPE_CHECKING:
    from flawless.wiring.stack import Stack


@dataclass(frozen=True)
class Lifecycle:
    """The orders of a person to one stack."""

    stack: Stack
    readers: Sequence[Reader]

    async def start(self, names: Sequence[str]) -> list[Change]:
        """Starts the named services, or all, and what they wait for; what was done with each."""
        chosen = await self._ours(self._chosen(names), names)
        changes = starts(chosen, await self._running(chosen))
        return await self._bring_up(changes, "flawless start")

    async def restart(self, names: Sequence[str]) -> list[Change]:
        """Stops and starts the named services, or all."""
        chosen = await self._ours(self._chosen(names), names)
        changes = restarts(chosen, names or chosen, await self._running(chosen))
        return await self._bring_up(changes, "flawless restart")

    async def stop(self, names: Sequence[str], *, everything: bool) -> list[str]:
        """Stops the named services, or all; with `everything` also the embedded database. Who had been up."""
        self._known(names)
        keepers: dict[str, Keeper] = {
            name: keeper for name, keeper in self.stack.keepers.items() if not names or name in names
        }
        if not names:
            keepers |= self.stack.leaving()
        after = {name: service.after for name, service in self.stack.manifest.services.items()}
        run = self._run()
        stopped = await take_down(run, keepers, after)
        desired.change(self.stack.state, stop=list(keepers))
        return stopped + await self._stop_database(run) if everything else stopped

    async def _stop_database(self, run: Run) -> list[str]:
        if self.stack.embedded is None or not self.stack.embedded.status().running:
            return []
        run.tell(Intended("stop", "embedded database"))
        await self.stack.embedded.stop()
        run.tell(Effected("stop", "embedded database"))
        return ["embedded database"]

    async def _bring_up(self, changes: Sequence[Change], order: str) -> list[Change]:
        run = self._run()
        self.stack.prepare([one.name for one in changes])
        if self.stack.embedded is not None:
            await self.stack.embedded.ensure_running()
            self.stack.learn_database_password()
        services = Services(self.stack)
        group = await services.group(run, changes, services.leaving())
        names = [one.name for one in changes]
        await bring_up(run, group, names)
        desired.change(self.stack.state, start=names)
        given_up.end(self.stack, names, by=order)
        return list(changes)

    async def _running(self, names: Sequence[str]) -> dict[str, Running | None]:
        found = await asyncio.gather(*(self.stack.keepers[name].look() for name in names))
        return dict(zip(names, found, strict=True))

    def _chosen(self, names: Sequence[str]) -> list[str]:
        self._known(names)
        services = Services(self.stack)
        everything = [*services.early(), *services.late(), *services.tunnel()]
        after = {name: service.after for name, service in self.stack.manifest.services.items()}
        wanted = with_dependencies(names or everything, after)
        return [name for name in everything if name in wanted]

    async def _ours(self, chosen: list[str], names: Sequence[str]) -> list[str]:
        """Without a tunnel that somebody else runs. Raises CommandFailed when just that is asked for."""
        if TUNNEL not in chosen:
            return chosen
        from flawless.wiring.tunnel import TunnelOf

        foreign = await TunnelOf(self.stack).foreign()
        if foreign is None:
            return chosen
        if TUNNEL in names:
            raise CommandFailed(
                f"{foreign}; a second one would take a part of its requests",
                code=Reason.SERVICE_OWNED_ELSEWHERE,
                next_steps=["look at it: flawless tunnel status", "restart it: flawless tunnel restart"],
            )
        return [name for name in chosen if name != TUNNEL]

    def _known(self, names: Sequence[str]) -> None:
        declared = list(self.stack.manifest.services)
        unknown = [name for name in names if name not in declared]
        if not unknown:
            return
        meant = difflib.get_close_matches(unknown[0], declared, n=1)
        raise UsageError(
            f"there is no service {unknown[0]}" + (f"; did you mean {meant[0]}?" if meant else ""),
            evidence=[f"the manifest has {', '.join(declared) or 'none'}"],
            next_steps=["see them: flawless status"],
        )

    def _run(self) -> Run:
        return Run(ids.deploy_id(self.stack.clock.now()), self.stack.clock, self.stack.stream(*self.readers))
