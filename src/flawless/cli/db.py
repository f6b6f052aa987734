"""flawless db: the embedded database."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from flawless.cli import document
from flawless.cli.ago import for_long
from flawless.cli.options import Common, common
from flawless.cli.page import Span, result
from flawless.core.errors import UsageError

if TYPE_CHECKING:
    from flawless.wiring.database import ServerStatus
    from flawless.wiring.stack import Stack

_HELP: Final = """The embedded PostgreSQL of this project (flawless.toml: [database] url = "embedded").

It is a real server of the project's own, on 127.0.0.1 with a password of its own, and goes on when Flawless ends.
"""
_REMOVE: Final = """Removes it for good: its data, and what is kept of it. Nothing brings it back.

It asks before, and refuses while anything of the stack runs. With --orphans it removes those databases of root's whose
project folder is gone; they are shown first.
"""


@click.group(name="db", invoke_without_command=True, help=_HELP)
@common
@click.pass_context
def command(context: click.Context, flags: Common) -> int | None:
    return _status(flags) if context.invoked_subcommand is None else None


@command.command(name="status", help="Whether it runs. Exit code 0 when it does, 3 when it does not.")
@common
def status(flags: Common) -> int:
    return _status(flags)


@command.command(name="url", help="Its address, password included, on standard output.")
@common
def url(flags: Common) -> None:
    from flawless.wiring.database import running_url

    # Asked for by name, and of no use without the password.
    address = running_url(_own(flags)).reveal()
    if flags.json:
        document.write({"url": address})
    else:
        sys.stdout.write(address + "\n")


class PassedOn(click.Command):
    """Every word behind the verb is for the program it starts, -c and -h too; our own flags stand before the verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args == ["--help"] else ["--", *args])


@command.command(name="psql", cls=PassedOn, help="PostgreSQL's own terminal on it; ARGS are psql's (-c 'select 1').")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@common
def psql(flags: Common, *, arguments: tuple[str, ...]) -> None:
    from flawless.wiring.database import psql as psql_of

    found = psql_of(_own(flags))
    sys.stdout.flush()
    # The terminal becomes psql: its signals and its exit code are psql's own.
    os.execve(found.argv[0], [*found.argv, *arguments], found.environment())  # noqa: S606 - argv only, no shell


@command.command(name="start", help="Starts it unless it runs.")
@common
def start(flags: Common) -> int:
    from flawless.wiring.database import embedded

    asyncio.run(embedded(_own(flags)).ensure_running())
    return _status(flags)


@command.command(name="stop", help="Stops it. Refused while services run that would lose it, unless -y.")
@common
def stop(flags: Common) -> None:
    from flawless.wiring.database import embedded, users

    stack = _own(flags)
    server = embedded(stack)
    needing = users(stack)
    if needing and not flags.yes:
        raise UsageError(
            f"{', '.join(needing)} would lose the database",
            evidence=["they run now"],
            next_steps=["stop them and the database: flawless stop --all", "stop it all the same: flawless db stop -y"],
        )
    was_running = asyncio.run(server.stop())
    if flags.json:
        document.write({"stopped": was_running})
    else:
        result(flags).say("stopped" if was_running else "it was not running")


@command.command(name="remove", help=_REMOVE)
@click.option("--orphans", is_flag=True, help="Those whose project is gone, in place of this project's.")
@common
def remove(flags: Common, *, orphans: bool) -> int:
    from flawless.cli.db_removal import remove_orphans, remove_own

    return remove_orphans(flags) if orphans else remove_own(_own(flags), flags)


def _own(flags: Common) -> Stack:
    """Raises CommandFailed where it is another user's: who may not write there has no business with its password."""
    stack = _stack(flags)
    stack.ensure_ours()
    return stack


def _stack(flags: Common) -> Stack:
    from flawless.wiring.stack import Stack

    return Stack.load(flags.config, flags.environment)


def _status(flags: Common) -> int:
    from flawless.wiring.database import embedded

    server = embedded(_stack(flags)).status()
    if flags.json:
        document.write(
            {
                "running": server.running,
                "pid": server.pid,
                "port": server.port,
                "version": server.version,
                "data_directory": str(server.data_directory) if server.data_directory else None,
                "since": server.since.isoformat() if server.since else None,
            }
        )
    else:
        result(flags).say(*_said(server))
    return 0 if server.running else 3


def _said(server: ServerStatus) -> tuple[Span, ...]:
    if not server.running:
        never = "" if server.data_directory else " (it was never started)"
        return (Span("stopped", "dim"), Span(f"{never}; start it: flawless db start"))
    since = f", for {for_long(server.since.isoformat(), datetime.now(UTC))}" if server.since else ""
    told = f": PostgreSQL {server.version}, 127.0.0.1:{server.port}, pid {server.pid}{since}"
    return (Span("running", "green"), Span(told))
