"""The embedded database of a stack, for a person: where it is, how to talk to it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from flawless.adapters.postgres import (
    EmbeddedPostgres,
    Outside,
    PsqlCommand,
    ServerStatus,
    last_used,
    orphans,
    place,
    psql_command,
    size_of,
)
from flawless.core.errors import CommandFailed, UsageError
from flawless.core.secret import Secret
from flawless.wiring.stack import Stack

if TYPE_CHECKING:
    from flawless.adapters.services import KeptService

__all__ = [
    "Outside",
    "PsqlCommand",
    "ServerStatus",
    "abandoned",
    "embedded",
    "last_used",
    "ours",
    "psql",
    "remove",
    "remove_abandoned",
    "running_url",
    "size_of",
    "users",
    "what_runs",
]


def embedded(stack: Stack) -> EmbeddedPostgres:
    """Raises UsageError for a stack with a database of its own, or with none."""
    if stack.embedded is not None:
        return stack.embedded
    database = stack.manifest.settings.database
    found = "[database] url leads to a server of your own" if database else "the manifest has no [database]"
    raise UsageError(
        "this stack has no embedded database",
        evidence=[found],
        next_steps=['for an embedded one write in flawless.toml, [database]: url = "embedded"'],
    )


def running_url(stack: Stack) -> Secret:
    """Where the server answers, password included. Raises CommandFailed when it does not run."""
    server = embedded(stack)
    url = server.url()
    if url is None or not server.status().running:
        raise CommandFailed(
            "the embedded database does not run",
            code="DB_REFUSED",
            evidence=[f"its state is kept in {stack.state / 'postgres'}"],
            next_steps=["flawless db start"],
        )
    return url


def psql(stack: Stack) -> PsqlCommand:
    """What to run. Raises CommandFailed where there is no psql, or no server."""
    found = psql_command(running_url(stack))
    if found is None:
        raise CommandFailed(
            "psql is not installed",
            code="TOOL_MISSING",
            evidence=["looked for beside the embedded server, then on the PATH"],
            next_steps=["install PostgreSQL's client programs", "or use another client: flawless db url"],
        )
    return found


def ours(stack: Stack) -> EmbeddedPostgres:
    """The embedded database that this stack has, or had before its manifest named a server of its own."""
    return stack.embedded or EmbeddedPostgres(stack.state / "postgres", database=stack.name)


async def what_runs(stack: Stack) -> list[str]:
    """Everything of this stack that has a process, its pids beside it."""
    keepers = {**stack.keepers, **stack.leaving()}
    found = {name: sorted(await _pids(keeper)) for name, keeper in keepers.items()}
    server = ours(stack).status()
    found["the embedded database"] = [server.pid] if server.pid is not None else []
    return [f"{name} (pid {', '.join(map(str, pids))})" for name, pids in found.items() if pids]


async def _pids(keeper: KeptService) -> set[int]:
    known = keeper.recorded()
    return {*await keeper.pids(), *([known.keeper_pid] if known and known.keeper_pid else [])}


async def remove(stack: Stack) -> None:
    """Removes the clusters of this stack and what is remembered of them. The caller holds the deploy lock.

    What waits in the outbox stays; what only that database had is gone, and is not counted as open any more.
    """
    from flawless.adapters.migrations.record import Record

    await ours(stack).remove()
    stack.incidents.forget_database()
    Record(stack.state).end()


def abandoned() -> list[Outside]:
    """Clusters outside of a project that is gone, and those of which it cannot be told. Raises UsageError but for root,
    whose they are.
    """
    if os.geteuid() != 0:
        raise UsageError(
            "only root's databases lie outside of their projects, and only root may remove them",
            evidence=["those of other users are deleted together with the project's folder"],
            next_steps=["sudo flawless db remove --orphans"],
        )
    return orphans(place.SYSTEM_FOLDER)


def remove_abandoned(one: Outside) -> bool:
    """Removes it, unless something has come between since it was found."""
    if not one.is_orphan() or one.obstacle() is not None:
        return False
    shutil.rmtree(one.home)
    return True


def users(stack: Stack) -> list[str]:
    """The services that run now, and would lose the database."""
    known = {name: keeper.recorded() for name, keeper in stack.keepers.items()}
    return [name for name, running in known.items() if running is not None and running.is_alive]
