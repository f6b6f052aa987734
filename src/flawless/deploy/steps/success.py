"""SUCCESS: the end state is looked at again. The verdict is what is true now, not the path taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from flawless.core.check import Check, Failed, Finding, Outcome, Passed
from flawless.core.gate import Ending, Patience
from flawless.deploy.leaving import Leaving
from flawless.deploy.run import Run, required_failure
from flawless.deploy.services import Group
from flawless.deploy.steps.services import GroupOf

LAST_LOOK = Patience(10.0, attempt=10.0, interval=0.1)
"""A moment's failure is not the end state, and a slow probe is given its time; what still fails after this is."""


@dataclass(frozen=True, slots=True)
class ConfirmEndState:
    """Judges the stability windows, stops what the manifest no longer names, looks again, and commits."""

    group: GroupOf
    leaving: Leaving
    database: Callable[[], Sequence[Check]]

    async def run(self, run: Run) -> Outcome:
        group = await self.group(run)
        try:
            stable = await group.stable()
            if isinstance(stable, Failed):
                return stable
            await self.leaving.hold(run)
            looked = await self._look_again(run, group)
            return looked if isinstance(looked, Failed) else await self._commit(run, group)
        finally:
            await group.aclose()

    async def _commit(self, run: Run, group: Group) -> Outcome:
        """From here on there is no way back: what ran before is forgotten, so an interruption is no longer heard."""
        if self.leaving.services:
            run.note("stopped", list(self.leaving.services))
        run.is_committed = True
        await _all_of(group.commit(name) for name in group.started)
        await self.leaving.stop()
        return Passed()

    async def _look_again(self, run: Run, group: Group) -> Outcome:
        found = await asyncio.gather(
            *(_looked(run, group, *look) for look in group.last_look()),
            *(run.wait_for(check, LAST_LOOK) for check in self.database()),
        )
        # What has ended is the cause of whatever else fails, and it may have passed before the slowest of the others.
        return group.ended() or required_failure(found) or Passed()


async def _looked(run: Run, group: Group, name: str, check: Check, ending: Ending | None) -> Finding:
    finding = await run.wait_for(check, LAST_LOOK, ending=ending)
    return finding if finding.failure is None else replace(finding, outcome=await group.judged(name, finding.failure))


async def _all_of(orders: Iterable[Awaitable[None]]) -> None:
    """Every order is carried out, whichever fails; then the first error is raised."""
    done = await asyncio.gather(*orders, return_exceptions=True)
    errors = [one for one in done if one is not None]
    if errors:
        raise errors[0]
