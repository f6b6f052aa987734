"""How migrations fail: what happened, what was seen, the command to paste next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flawless.adapters.commands import Command, Completed
from flawless.adapters.migrations.record import Attempt
from flawless.adapters.migrations.session import Holder
from flawless.core.check import Failed
from flawless.core.migration import Pending
from flawless.core.reason import Reason

TAIL = 20
"""Lines of the tool's own words in a failure."""


def for_embedded(failed: Failed) -> Failed:
    """The same where the database is our own: its address is in no variable, and its password is known to nobody."""
    steps = (step.replace('psql "$DATABASE_URL"', "flawless db psql") for step in failed.next_steps)
    here = 'with DATABASE_URL="$(flawless db url)"'
    return replace(failed, next_steps=tuple(step.replace("with DATABASE_URL set", here) for step in steps))


def lost(error: Exception) -> Failed:
    state = getattr(error, "sqlstate", None)
    denied = state == "42501"
    return Failed(
        Reason.DB_PERMISSION if denied else Reason.DB_LOST,
        "the role may not do what migrations need"
        if denied
        else "our own connection to the database failed while migrations were looked at or applied",
        (f"{type(error).__name__}{f' {state}' if state else ''}: {error}",),
        ("try it by hand: psql \"$DATABASE_URL\" -c 'SELECT 1'", "then again: flawless deploy"),
        permanent=True,
    )


def ended_badly(name: str, completed: Completed, command: Command) -> Failed:
    status = completed.status
    how = f"exit code {status}" if status >= 0 else f"signal {-status}"
    return Failed(
        Reason.MIGRATE_FAILED,
        f"{name} could not apply the migrations: it ended with {how}",
        completed.output_tail[-TAIL:] or ("it printed nothing",),
        (f"mend what its last lines name, then try it by hand, with DATABASE_URL set: {command}",),
    )


def locked(cause: str, holders: Sequence[Holder], tail: Sequence[str] = ()) -> Failed:
    steps = [
        f"if pid {holder.pid} is not wanted any more:"
        f" psql \"$DATABASE_URL\" -c 'SELECT pg_terminate_backend({holder.pid})'"
        for holder in holders
    ]
    named = tuple(f"held by {holder.sentence}" for holder in holders) or ("the holder was gone when it was looked for",)
    return Failed(Reason.MIGRATE_LOCKED, cause, (*named, *tail), ("when it is done: flawless deploy", *steps))


def timed_out(name: str, completed: Completed, blockers: Sequence[Holder], command: Command) -> Failed:
    waited = [f"it waited for {holder.sentence}" for holder in blockers]
    survivors = [f"still there after SIGKILL: pid {pid}" for pid in completed.survivors]
    return Failed(
        Reason.MIGRATE_TIMEOUT,
        f"{name} was not done after {completed.duration:.1f} s; its processes and its database sessions were ended",
        (*waited, *survivors, *(completed.output_tail[-TAIL:] or ("it printed nothing",))),
        (
            'if it needs longer, set `migrate` under [timeouts], for example migrate = "10m"',
            f"watch it by hand, with DATABASE_URL set: {command}",
        ),
    )


def unproved(after: Pending, tail: Sequence[str], command: Command) -> Failed:
    missing = ", ".join(after.pending)
    return Failed(
        Reason.MIGRATE_FAILED,
        f"the tool said success (exit code 0), but {missing} is still missing in the database",
        (f"looked again: {after.source}", *(tail[-TAIL:] or ("the tool printed nothing",))),
        (f"see that it uses DATABASE_URL and not an address of its own: {command}",),
    )


def dirty(failure: Failed, first: Attempt, left: Sequence[str], command: Command) -> Failed:
    statement = [line for line in failure.evidence if line.lstrip().startswith("[SQL")]
    return Failed(
        Reason.MIGRATE_DIRTY,
        f"a migration is half applied since the deploy {first.deploy_id}: its revision is still pending,"
        " but some of its changes are in the database",
        (*left, f"still pending: {', '.join(first.pending)}", *statement, failure.cause, *failure.evidence),
        (
            "undo by hand what is listed above, or make the revision skip what is there already (IF NOT EXISTS)",
            f"then: flawless deploy, or by hand with DATABASE_URL set: {command}",
        ),
    )
