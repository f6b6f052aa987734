"""The command line: finds the verb, runs it, and turns what it says into an exit code."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn

import click

from flawless import __version__
from flawless.cli.options import before_the_verb
from flawless.cli.streams import ensure_open
from flawless.core.errors import FlawlessError, UsageError

USAGE: Final = 64
"""EX_USAGE of sysexits.h: wrong use of the command line. Never 2, which is a deploy that is partly live."""

VERBS: Final = {
    "check": "Ask the preflight checks; nothing is changed.",
    "config": "Show, validate or describe the manifest.",
    "db": "The embedded database: url, psql, start, stop, remove.",
    "deploy": "Bring the stack up, verified.",
    "explain": "A reason code: what it means, how it is found, what to do.",
    "incidents": "What went wrong: list, show, note, resolve, export.",
    "init": "Write flawless.toml and .env.example for the stack found here.",
    "lock": "Who holds the deploy lock; release it.",
    "logs": "What the services printed.",
    "plan": "What deploy would do and why; nothing is changed.",
    "reports": "The reports of earlier deploys.",
    "restart": "Stop and start services, through their gates.",
    "start": "Start services, through their gates.",
    "status": "What runs, since when, ready or not; open incidents.",
    "stop": "Stop services, the whole tree of each.",
    "tunnel": "The tunnel and the public name: status, restart.",
    "version": "The versions of Flawless and of what it runs on.",
}
"""Every verb, a module each. The sentences stand here so that `--help` imports none of them."""


class Verbs(click.Group):
    """Imports a verb's module only when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"flawless.cli.{cmd_name}")
        command = module.command
        return _by_variables(command) if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, 1)
            meant = f" Did you mean {close[0]!r}?" if close else " See: flawless --help"
            raise click.UsageError(f"There is no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


def _by_variables(command: click.Command) -> click.Command:
    """Every flag of the verb, and of the verbs below it, is also a variable: FLAWLESS_<FLAG>."""
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None and option.name:
            option.envvar = f"FLAWLESS_{max(option.opts, key=len).lstrip('-').replace('-', '_').upper()}"
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _by_variables(below)
    return command


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="flawless")
@before_the_verb
@click.pass_context
def flawless(context: click.Context) -> None:
    """One command takes a web stack from a checkout to verified live, or says exactly why not and puts things back."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process. Only here does an error become an exit code."""
    ensure_open()
    _end(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """The exit code of one command line."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = flawless.main(args=arguments, prog_name="flawless", standalone_mode=False)
        sys.stdout.flush()  # what cannot be written is an error of this command, not of the interpreter's end
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        return 1  # whoever listened has gone, and needs no word of it
    except click.Abort:
        return 130
    except click.ClickException as error:
        from flawless.cli.failure import is_json, show

        if is_json(words):
            show(UsageError(error.format_message(), next_steps=["see: flawless --help"]), words)
        else:
            error.show()
        return USAGE
    except Exception as error:  # noqa: BLE001 - whatever happened, a person is told what, and is shown no traceback
        from flawless.cli.failure import show
        from flawless.core.fault import fault

        told = error if isinstance(error, FlawlessError) else fault(error, shlex.join(["flawless", *words]))
        show(told, words)
        return told.exit_code
    return code if isinstance(code, int) else 0


def _end(code: int) -> NoReturn:
    """At once: the interpreter would give its memory back piece by piece, a tenth of a second after a deploy."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, FlawlessError):  # after a good end nothing is left to write: `run` looks at that
            stream.flush()
    os._exit(code)
