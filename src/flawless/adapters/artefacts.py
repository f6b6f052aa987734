"""A generated file with the command that makes it (deploy.steps.precheck.Artefact)."""

from __future__ import annotations

from dataclasses import dataclass

from flawless.adapters.commands import Command, Completed, run
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor

_TAIL = 20
"""Lines of the tool that are shown when it fails."""


@dataclass(frozen=True, slots=True)
class BuildableArtefact:
    """`command` makes what `check` asks for, within `limit` seconds; None where the manifest names none."""

    name: str
    check: Check
    command: Command | None
    limit: float
    redactor: Redactor

    @property
    def can_be_built(self) -> bool:
        return self.command is not None

    async def build(self) -> Outcome:
        """Runs the command and asks again: that it ended well does not prove that the file is there."""
        if self.command is None:
            raise ValueError(f"{self.name} has no build command")
        try:
            done = await run(self.command, limit=self.limit, redactor=self.redactor)
        except CommandFailed as error:
            return Failed(Reason(error.code), f"{self.name}: {error.cause}", error.evidence, error.next_steps)
        if not done.succeeded:
            return self._failed(self.command, done)
        again = await self.check.ask(self.limit)
        return self._without_effect(self.command, again, done) if isinstance(again, Failed) else Passed(_last(done))

    def _failed(self, command: Command, done: Completed) -> Failed:
        if done.timed_out:
            ended = f"did not end within {self.limit:g} s (timeouts.build)"
        else:
            ended = f"ended with exit code {done.status}" if done.status >= 0 else f"ended by signal {-done.status}"
        cause = f"{self.name}: `{' '.join(command.argv)}` {ended}"
        return Failed(Reason.ARTEFACT_BUILD_FAILED, cause, _last(done), (f"run it by hand: {command}",))

    def _without_effect(self, command: Command, again: Failed, done: Completed) -> Failed:
        cause = f"{self.name}: `{' '.join(command.argv)}` ended well, and still: {again.cause}"
        evidence = (again.evidence[0], *_last(done))
        return Failed(again.reason, cause, evidence, (f"mend artefacts.{self.name} in flawless.toml: path or build",))


def _last(done: Completed) -> tuple[str, ...]:
    return tuple(f"| {line}" for line in done.output_tail[-_TAIL:]) or ("it printed nothing",)
