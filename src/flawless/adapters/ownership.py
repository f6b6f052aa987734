"""Whose a stack's files are. What another user writes there, its owner could not read from then on; not even root's."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from flawless.core.errors import CommandFailed


def ensure_ours(state: Path) -> None:
    """Raises CommandFailed when the state folder is there and belongs to another user than the one who runs this."""
    for folder in _levels(state):
        owner = _other_owner(folder)
        if owner is not None:
            raise _refusal("state", folder, owner, "nothing was changed")


def is_ours(state: Path) -> bool:
    return all(_other_owner(folder) is None for folder in _levels(state))


def ensure_readable(folder: Path, what: str) -> None:
    """Raises CommandFailed when the folder is another user's and cannot be read; `what` of the stack it keeps."""
    for level in _levels(folder):
        owner = _other_owner(level)
        if owner is not None and not os.access(level, os.R_OK | os.X_OK):
            raise _refusal(what, level, owner, "it cannot be read by this user")


def _levels(folder: Path) -> list[Path]:
    """The folder, and for that of an environment first the one they have in common."""
    return [folder.parent.parent, folder] if folder.parent.name == "environments" else [folder]


def _other_owner(folder: Path) -> int | None:
    """The uid of another user that the folder belongs to; None for one of ours, or none at all."""
    if sys.platform == "win32":
        return None
    try:
        owner = folder.stat().st_uid
    except OSError:
        return None
    return owner if owner != os.geteuid() else None


def _refusal(what: str, folder: Path, owner: int, because: str) -> CommandFailed:
    name, own = _name(owner), _name(os.geteuid())
    as_owner = shlex.join(["sudo", "-u", name, "flawless", *sys.argv[1:]])
    return CommandFailed(
        f"the {what} of this stack belongs to user {name}",
        code="DISK_NOT_WRITABLE",
        evidence=[f"{folder} belongs to {name}, and this command runs as {own}", because],
        next_steps=[f"run it as that user: {as_owner}"],
    )


def _name(uid: int) -> str:
    """The login name; sudo takes a number as #1000."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
