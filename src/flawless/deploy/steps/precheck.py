"""PRECHECK: everything at once, every problem listed; what can be built is built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flawless.core.check import Check, Failed, Finding, Outcome, Passed
from flawless.core.event import Effected, Intended
from flawless.deploy.run import Run, required_failure, together


class Artefact(Protocol):
    """A generated file: the check that it is there and fresh, and the command that makes it."""

    @property
    def name(self) -> str: ...

    @property
    def check(self) -> Check: ...

    @property
    def can_be_built(self) -> bool: ...

    async def build(self) -> Outcome:
        """Runs the build command; a failure carries its last lines."""


async def _nobody(_findings: Sequence[Finding]) -> None:
    """There may be nothing yet that runs."""


@dataclass(frozen=True, slots=True)
class Precheck:
    """Asks all preflight checks, in catalog order, then looks after the artefacts and makes missing folders."""

    checks: Sequence[Check]
    artefacts: Sequence[Artefact]
    folders: Sequence[Path] = ()
    tell: Callable[[Sequence[Finding]], Awaitable[None]] = _nobody
    """Hears what was found, whatever becomes of the run: some of it is true of what runs."""

    async def run(self, run: Run) -> Outcome:
        findings = await run.ask_all([*self.checks, *(artefact.check for artefact in self.artefacts)])
        await self.tell(findings)
        asked = len(self.checks)
        failed = required_failure(findings[:asked])
        built = [
            await self._ensure(run, *pair, blocked=failed)
            for pair in zip(self.artefacts, findings[asked:], strict=True)
        ]
        outcome = together(findings, failed or next((one for one in built if isinstance(one, Failed)), None))
        if isinstance(outcome, Passed):
            self._ensure_folders(run)
        return outcome

    def _ensure_folders(self, run: Run) -> None:
        for folder in self.folders:
            if not folder.is_dir():
                run.tell(Intended("make", str(folder)))
                folder.mkdir(parents=True)
                run.tell(Effected("make", str(folder)))

    async def _ensure(self, run: Run, artefact: Artefact, finding: Finding, *, blocked: Failed | None) -> Outcome:
        """An artefact that is missing or stale is built, unless the deploy has failed already."""
        if finding.failure is None or not artefact.can_be_built or blocked is not None:
            return finding.outcome
        run.tell(Intended("build", artefact.name, {"why": finding.failure.cause}))
        outcome = await artefact.build()
        if isinstance(outcome, Failed):
            return outcome
        run.tell(Effected("build", artefact.name))
        [again] = await run.ask_all([artefact.check])
        return again.outcome
