"""The embedded database of a stack, for a person: where it is, how to talk to it."""

from __future__ import annotations

from flawless.adapters.postgres import EmbeddedPostgres, PsqlCommand, ServerStatus, psql_command
from flawless.core.errors import CommandFailed, UsageError
from flawless.core.secret import Secret
from flawless.wiring.stack import Stack

__all__ = ["PsqlCommand", "ServerStatus", "embedded", "psql", "running_url", "users"]


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


def users(stack: Stack) -> list[str]:
    """The services that run now, and would lose the database."""
    known = {name: keeper.recorded() for name, keeper in stack.keepers.items()}
    return [name for name, running in known.items() if running is not None and running.is_alive]
