"""The application's migrations, as a deploy sees them: are they applied, and if not, apply them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flawless.core.check import Failed
from flawless.core.gate import Waiting
from flawless.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Target:
    """The database to migrate. `url` leads past any pooler; `deploy_id` is the run that asks."""

    url: Secret
    deploy_id: str


@dataclass(frozen=True, slots=True)
class Pending:
    """What is applied and what is not, in the order of application. `source` says how this is known."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Applied:
    """Nothing is pending any more, asked again after the tool had ended. `applied`: by this run, none if none was.

    `attempts`: how often the tool was run (again when a lock was in its way); `duration` is seconds.
    """

    applied: tuple[str, ...]
    attempts: int
    duration: float
    output_tail: tuple[str, ...] = ()


class Migrations(Protocol):
    """One migration tool in one directory. Both questions take at most `limit` seconds and raise nothing."""

    async def pending(self, target: Target, *, limit: float) -> Pending | Failed:
        """Looks; changes nothing."""

    async def apply(
        self, target: Target, *, limit: float, on_wait: Callable[[Waiting], None] = lambda _: None
    ) -> Applied | Failed:
        """Applies what is pending, under our own lock; the tool is not run when nothing is."""
