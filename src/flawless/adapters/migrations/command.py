"""Any other migration tool, by two commands of the manifest.

`pending`: exit code 0 and no output says that nothing is pending; exit code 0 with output names what is, a line each;
any other exit code says that the question could not be answered. Without `pending`, `apply` is run at every deploy and
its exit code is all the proof there is.
"""

from __future__ import annotations

from dataclasses import dataclass

from flawless.adapters.migrations.refusal import refusal
from flawless.adapters.migrations.session import Session
from flawless.adapters.migrations.tool import Runner, question_failed
from flawless.core.check import Failed
from flawless.core.migration import Pending


@dataclass(frozen=True, slots=True)
class MigrationCommand:
    """`apply` applies all that is pending; `ask` lists what is."""

    apply: tuple[str, ...]
    ask: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.apply[0]

    @property
    def knows_pending(self) -> bool:
        return bool(self.ask)

    async def look(
        self,
        session: Session,  # noqa: ARG002 - `Tool` offers it; only the tool's own words count here
        runner: Runner,
        *,
        limit: float,
    ) -> Pending | Failed:
        if not self.ask:
            return Pending((), (), "not known: [database.migrate] has no `pending`")
        refused = refusal(self.ask)
        if refused is not None:
            return refused
        completed = await runner.ask(self.ask, limit=limit)
        if not completed.succeeded:
            return question_failed(runner.command(self.ask), completed)
        lines = tuple(line.strip() for line in completed.output_tail if line.strip())
        return Pending((), lines, f"asked `{' '.join(self.ask)}`")
