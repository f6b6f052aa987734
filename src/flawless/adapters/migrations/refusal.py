"""Subcommands that a deploy never runs: they lose data, undo migrations, or say "applied" without applying.

A deploy runs unattended against the database that people use, and migrations are never undone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from flawless.core.check import Failed
from flawless.core.reason import Reason

_UNDOES = "it undoes migrations, and with them the data they hold"
_EMPTIES = "it deletes data"
_PRETENDS = "it writes down migrations as applied without applying them"

REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("downgrade",), _UNDOES),
    (("rollback",), _UNDOES),
    (("down",), _UNDOES),
    (("undo",), _UNDOES),
    (("revert",), _UNDOES),
    (("redo",), _UNDOES),
    (("zero",), _UNDOES),
    (("reset",), "it drops the database and builds it anew"),
    (("fresh",), "it drops all tables and builds them anew"),
    (("refresh",), _UNDOES),
    (("clean",), "it drops every object in the schema"),
    (("drop",), "it drops the database or its tables"),
    (("dropdb",), "it drops the database"),
    (("flush",), _EMPTIES),
    (("truncate",), _EMPTIES),
    (("wipe",), _EMPTIES),
    (("--force-reset",), "it drops the database and builds it anew"),
    (("--accept-data-loss",), "it alters tables although data is lost"),
    (("migrate", "dev"), "it is for development: it may reset the database, and it writes new migrations"),
    (("migrate", "resolve"), _PRETENDS),
    (("stamp",), _PRETENDS),
    (("--fake",), _PRETENDS),
)
"""Words that must follow one another in the argv, and why. `npm run db:reset` is the words npm, run, db, reset."""


def refusal(argv: Sequence[str]) -> Failed | None:
    """Why this command is not run; None when nothing speaks against it."""
    words = [word for argument in argv for word in re.split(r"[\s:;&|=]+", argument.lower())]
    for refused, why in REFUSED:
        if any(tuple(words[at : at + len(refused)]) == refused for at in range(len(words))):
            return _refused(argv, " ".join(refused), why)
    return None


def _refused(argv: Sequence[str], words: str, why: str) -> Failed:
    return Failed(
        Reason.MIGRATE_REFUSED,
        f"the migration command contains `{words}`: {why}; nothing was run",
        (f"[database.migrate]: {shlex.join(argv)}",),
        ("name the command that only applies what is pending, such as `prisma migrate deploy`",),
    )
