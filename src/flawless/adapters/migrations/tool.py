"""What differs between the migration tools: how to look, and what to run. All else is the migrator's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flawless.adapters.commands import Command, Completed, run
from flawless.adapters.migrations.session import Session
from flawless.core.check import Failed
from flawless.core.migration import Pending
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor


class Runner:
    """Runs commands with the tool's environment and our redactor."""

    def __init__(self, directory: Path, environment: Mapping[str, str], redactor: Redactor) -> None:
        self.directory = directory
        self.environment = environment
        self.redactor = redactor

    def command(self, argv: tuple[str, ...]) -> Command:
        return Command(argv, self.directory, self.environment)

    async def ask(self, argv: tuple[str, ...], *, limit: float, keep_lines: int = 1000) -> Completed:
        """Runs a question. Raises CommandFailed."""
        return await run(self.command(argv), limit=limit, redactor=self.redactor, keep_lines=keep_lines)


class Tool(Protocol):
    """One migration tool. `apply`: the argv that applies all that is pending."""

    @property
    def name(self) -> str: ...

    @property
    def apply(self) -> tuple[str, ...]: ...

    @property
    def knows_pending(self) -> bool:
        """Whether `look` can tell what is pending; without, the tool is run at every deploy."""

    async def look(self, session: Session, runner: Runner, *, limit: float) -> Pending | Failed:
        """What is applied and what is not. Raises CommandFailed and what asyncpg raises."""


def question_failed(command: Command, completed: Completed) -> Failed:
    """The tool could not say what is pending."""
    how = "did not answer in time" if completed.timed_out else f"ended with exit code {completed.status}"
    return Failed(
        Reason.MIGRATE_TIMEOUT if completed.timed_out else Reason.MIGRATE_FAILED,
        f"`{' '.join(command.argv)}` {how}, so what is pending is not known",
        completed.output_tail[-20:] or ("it printed nothing",),
        (f"run it by hand, with DATABASE_URL set: {command}",),
    )
