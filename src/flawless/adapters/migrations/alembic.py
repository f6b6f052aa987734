"""Alembic: what is pending is read from its files and its table, in milliseconds; the tool runs only to apply.

Which Python: `.venv/bin/python` of the directory where that environment has Alembic, else the one Flawless runs on.
Where the files or the table cannot be read for certain (see `revisions`), `alembic current` is asked instead.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawless.adapters.migrations.revisions import Revisions, Unreadable, read_revisions
from flawless.adapters.migrations.session import Session
from flawless.adapters.migrations.tool import Runner, question_failed
from flawless.core.check import Failed
from flawless.core.migration import Pending
from flawless.core.reason import Reason

_CURRENT = re.compile(r"([^\s()]+)(?: \(([a-z, ]*)\))?")
_UNKNOWN = re.compile(r"Can't locate revision identified by '([^']+)'")


@dataclass(frozen=True, slots=True)
class Alembic:
    """The Alembic project in `directory`."""

    directory: Path
    name: str = "alembic"
    knows_pending: bool = True

    @property
    def python(self) -> str:
        own = self.directory / ".venv" / "bin"
        return str(own / "python") if (own / "alembic").is_file() else sys.executable

    @property
    def apply(self) -> tuple[str, ...]:
        return (self.python, "-m", "alembic", "upgrade", "head")

    async def look(self, session: Session, runner: Runner, *, limit: float) -> Pending | Failed:
        try:
            revisions = read_revisions(self.directory)
        except Unreadable as unreadable:
            return await self._ask(runner, str(unreadable), limit=limit)
        versions = await session.alembic_versions()
        if versions is None and await session.objects():
            return await self._ask(runner, "no table alembic_version on the search path", limit=limit)
        return self._judged(revisions, versions or ())

    def _judged(self, revisions: Revisions, versions: Sequence[str]) -> Pending | Failed:
        unknown = revisions.unknown(versions)
        if unknown:
            return self._drifted(unknown, ", ".join(map(str, revisions.folders)))
        pending = revisions.pending(versions)
        if pending and len(revisions.heads) > 1:
            return self._branched(revisions)
        return Pending(revisions.applied(versions), pending, "read from the files and the table alembic_version")

    async def _ask(self, runner: Runner, because: str, *, limit: float) -> Pending | Failed:
        """`alembic current` prints each revision the database is at; `(head)` behind one is the positive proof."""
        argv = (self.python, "-m", "alembic", "current")
        completed = await runner.ask(argv, limit=limit)
        unknown = [match[1] for line in completed.output_tail if (match := _UNKNOWN.search(line))]
        if unknown:
            return self._drifted(unknown, str(self.directory))
        if not completed.succeeded:
            return question_failed(runner.command(argv), completed)
        current = current_revisions(completed.output_tail)
        pending = () if current and all(current.values()) else ("head",)
        return Pending(tuple(current), pending, f"asked `alembic current`, because {because}")

    def _drifted(self, unknown: Sequence[str], where: str) -> Failed:
        names = ", ".join(unknown)
        return Failed(
            Reason.MIGRATE_DRIFT,
            f"the database is at {names}, which no file in {where} has: newer code was deployed here, or this branch"
            " is missing it",
            (f"alembic_version: {names}", f"searched: {where}"),
            (
                f"find the branch that has it: git log --all --oneline -S {unknown[0]}",
                "merge that branch, or deploy the code the database was migrated for",
            ),
        )

    def _branched(self, revisions: Revisions) -> Failed:
        heads = " ".join(revisions.heads)
        return Failed(
            Reason.MIGRATE_FAILED,
            f"the migrations have {len(revisions.heads)} heads ({', '.join(revisions.heads)}),"
            " so `alembic upgrade head` does not know which to take; nothing was run",
            tuple(str(revision.file) for revision in revisions.all if revision.id in revisions.heads),
            (f'cd {self.directory} && {self.python} -m alembic merge -m "merge" {heads}',),
        )


def current_revisions(lines: Sequence[str]) -> dict[str, bool]:
    """The revisions in the words of `alembic current`, and whether each is a head. Log lines are passed over."""
    matches = [match for line in lines if (match := _CURRENT.fullmatch(line.strip()))]
    return {match[1]: "head" in (match[2] or "") for match in matches}
