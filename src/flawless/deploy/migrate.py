"""The application's migrations in a deploy: looked at first, and applied only when something is pending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flawless.core.check import Failed, Outcome, Passed
from flawless.core.migration import Migrations, Target
from flawless.core.secret import Secret


@dataclass(frozen=True, slots=True)
class ApplicationMigrations:
    """One migration tool and the database it is for; `url` is asked when the phase begins. Seconds."""

    name: str
    tool: Migrations
    url: Callable[[], Secret]
    limit: float

    async def ensure_applied(self, run_id: str, tell: Callable[[str], None]) -> Outcome:
        target = Target(self.url(), run_id)
        found = await self.tool.pending(target, limit=self.limit)
        if isinstance(found, Failed):
            return found
        if not found.pending:
            return Passed((f"{len(found.applied)} applied, none pending; {found.source}",), facts=_facts((), ()))
        tell(", ".join(found.pending))
        done = await self.tool.apply(target, limit=self.limit)
        if isinstance(done, Failed):
            return Failed(
                done.reason, done.cause, done.evidence, done.next_steps, done.permanent, _facts((), found.pending)
            )
        return Passed((f"applied: {', '.join(done.applied)}",), facts=_facts(done.applied, ()))


def _facts(applied: Sequence[str], pending: Sequence[str]) -> dict[str, Any]:
    return {"database": {"migrations": {"applied": list(applied), "pending": list(pending)}}}
