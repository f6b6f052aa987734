"""What a deploy would do: asked, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flawless.core.check import Failed, Finding, ask
from flawless.core.errors import FlawlessError
from flawless.core.migration import Target
from flawless.core.service import Change, ChangeAction
from flawless.deploy.migrate import ApplicationMigrations
from flawless.deploy.run import ATTEMPT
from flawless.wiring import preflight
from flawless.wiring.deploying import migration_tool
from flawless.wiring.services import Services
from flawless.wiring.tunnel import left_to_others

if TYPE_CHECKING:
    from flawless.wiring.stack import Stack

ASKING = 2.0
"""Seconds the database is given to say which migrations are pending."""


@dataclass(frozen=True, slots=True)
class PendingMigrations:
    """What would be applied. `unknown` says why that cannot be told now, None where it can."""

    pending: Sequence[str]
    unknown: str | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a deploy would do, and what it would find in its way."""

    changes: Sequence[Change]
    migrations: PendingMigrations
    problems: Sequence[Finding]
    starts_database: bool


async def plan(stack: Stack) -> Planned:
    """Looks at everything side by side. Raises CommandFailed when a service's program is not there."""
    try:
        changes, migrations, problems = await asyncio.gather(_changes(stack), _migrations(stack), _problems(stack))
    finally:
        await stack.aclose()
    return Planned(changes, migrations, problems, stack.embedded is not None and not stack.embedded.status().running)


async def _changes(stack: Stack) -> list[Change]:
    leaving = [Change(name, ChangeAction.STOP, ("the manifest no longer names it",)) for name in stack.leaving()]
    return [*await left_to_others(stack, await Services(stack).changes()), *leaving]


async def _problems(stack: Stack) -> list[Finding]:
    checks = preflight.everything(stack)
    findings = await asyncio.gather(*(ask(check, ATTEMPT) for check in checks))
    return [finding for finding in findings if finding.failure is not None]


async def _migrations(stack: Stack) -> PendingMigrations:
    migrations = migration_tool(stack)
    if migrations is None:
        return PendingMigrations((), None)
    if not isinstance(migrations, ApplicationMigrations):
        return PendingMigrations((), f"{migrations.name} cannot be asked by this version")
    if stack.embedded is not None and not stack.embedded.status().running:
        return PendingMigrations((), "the embedded database does not run")
    try:
        async with asyncio.timeout(ASKING):
            found = await migrations.tool.pending(Target(stack.direct_url(), "plan"), limit=ASKING)
    except TimeoutError:
        return PendingMigrations((), f"no answer within {ASKING:g} s")
    except FlawlessError as error:
        return PendingMigrations((), error.cause)
    if isinstance(found, Failed):
        return PendingMigrations((), found.cause)
    # A tool that cannot say what is pending says so in its source.
    unknown = found.source if not found.applied and not found.pending and found.source.startswith("not known") else None
    return PendingMigrations(found.pending, unknown)
