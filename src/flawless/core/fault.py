"""An error that nobody foresaw, said so that a person can act on it: what the system refuses, or our own mistake."""

from __future__ import annotations

import errno
from typing import Final

from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason

_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
CONNECTION_LIMITS: Final = _LIMITS | {errno.EADDRNOTAVAIL}
"""Why this machine cannot open another connection; whom it would have been to has no part in it."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def fault(error: BaseException, command: str) -> CommandFailed:
    """The same as an error with a code, evidence and next steps. No traceback, but the place. `command` met it."""
    again = f"try again: {command}"
    evidence = [f"{type(error).__name__}: {error}", f"in {_place(error)}"]
    number = error.errno if isinstance(error, OSError) else None
    if number in _LIMITS:
        cause = "this machine has no file descriptors, memory or processes left for Flawless itself"
        return _failed(Reason.HOST_LIMITS, cause, evidence, "see the limits, and raise what is short: ulimit -a", again)
    if number in _FULL:
        return _failed(Reason.DISK_FULL, "the disk is full", evidence, "make room: df -h . /tmp; df -i . /tmp", again)
    if number in _RIGHTS:
        cause = "a file cannot be read or written by this user"
        return _failed(
            Reason.DISK_NOT_WRITABLE, cause, evidence, "see whom it belongs to: ls -ld . .flawless logs", again
        )
    cause = "Flawless itself made a mistake"
    return _failed(Reason.DEPLOY_INTERNAL, cause, evidence, "report it, with this evidence", again)


def _failed(reason: Reason, cause: str, evidence: list[str], *steps: str) -> CommandFailed:
    return CommandFailed(cause, code=reason, evidence=evidence, next_steps=steps)


def _place(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_qualname}, line {frame.tb_lineno}" if frame else "unknown"
