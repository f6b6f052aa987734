"""flawless lock: who holds the deploy lock."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Span, result, table
from flawless.core.errors import LockHeld, UsageError

if TYPE_CHECKING:
    from flawless.wiring.lock import LockView

_HELP: Final = """Who holds the deploy lock.

At most one deploy, start, stop or restart of a stack goes on at a time. The lock dies with its holder: after a crash,
or kill -9, the next command simply takes it.
"""
_RELEASE: Final = """Removes the note that a dead holder left.

A living holder is never robbed: end it in good order, and it puts back what it had changed.
"""


@click.group(name="lock", invoke_without_command=True, help=_HELP)
@common
@click.pass_context
def command(context: click.Context, flags: Common) -> None:
    if context.invoked_subcommand is None:
        _status(flags)


@command.command(name="status", help="Who holds it now.")
@common
def status(flags: Common) -> None:
    _status(flags)


@command.command(name="release", help=_RELEASE)
@click.option("--id", "nonce", required=True, metavar="NONCE", help="Which holding: flawless lock status names it.")
@common
def release(flags: Common, *, nonce: str) -> None:
    view = _view(flags)
    note, holder = view.note(), view.holder()
    if holder is not None:
        raise LockHeld(
            f"the lock is held by a living process: {holder}",
            evidence=[f"pid {holder.pid} is alive; the lock is free as soon as it ends"],
            next_steps=[f"end it in good order: kill -INT {holder.pid}", "see what it does: flawless status"],
        )
    if note is not None and note.nonce != nonce:
        raise UsageError(
            f"{nonce} is not the id of the note that is there",
            evidence=[f"{note.nonce} is: {note}"],
            next_steps=[f"flawless lock release --id {note.nonce}"],
        )
    if note is not None:
        view.clear(datetime.now(UTC))
    said = f"removed what pid {note.pid} left behind" if note else "nothing to release"
    _tell(flags, {"released": note is not None}, f"{said}; the lock is free")


def _status(flags: Common) -> None:
    view = _view(flags)
    holder = view.holder()
    note = view.note()
    if flags.json:
        stale = asdict(note) if note and holder is None else None
        document.write({"held": holder is not None, "holder": asdict(holder) if holder else None, "stale_note": stale})
        return
    page = result(flags)
    if holder is None:
        page.say(Span("free", "green"), "; the next deploy takes it")
        if note is not None:
            page.say(
                f"left behind by a dead holder (harmless): {note}; remove: flawless lock release --id {note.nonce}"
            )
        return
    page.say(Span("held", "yellow"))
    page.write(*table([(Span(key, "dim"), Span(str(value))) for key, value in asdict(holder).items()]))
    page.say("  end it in good order: ", Span(f"kill -INT {holder.pid}", "cyan"))


def _tell(flags: Common, told: dict[str, object], text: str) -> None:
    if flags.json:
        document.write(told)
    else:
        result(flags).say(text)


def _view(flags: Common) -> LockView:
    from flawless.wiring.lock import LockView

    return LockView.of(flags.config, flags.environment)
