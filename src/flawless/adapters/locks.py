"""The deploy lock: an OS lock that dies with its holder, and beside it a note of who holds it."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from flawless.adapters.files import ensure_private_folder, is_full, write_atomically
from flawless.adapters.keeper.tree import read_stat
from flawless.adapters.ownership import ensure_ours, is_ours
from flawless.core.clock import to_stamp
from flawless.core.errors import CommandFailed, LockHeld

_FILE: Final = "deploy.lock"
MOMENT: Final = 1.0
"""Seconds for which a holder without a note is waited for."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock. `nonce` names this holding, for `flawless lock release --id`."""

    pid: int
    user: str
    since: str
    command: str
    nonce: str

    def __str__(self) -> str:
        return f"pid {self.pid}, user {self.user}, since {self.since}: {self.command}"


class DeployLock:
    """At most one deploy, start, stop or restart of a stack at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._note = folder / "deploy.json"

    def holder(self) -> Holder | None:
        """Who holds it now; None when it is free. A note left by a dead holder does not count."""
        if not (self._folder / _FILE).exists():
            return None  # nobody's; and who only looks makes no file in a folder that may be another user's
        try:
            with self._lock().acquire(blocking=False):
                return None
        except Timeout:
            return self._read()

    @contextmanager
    def held(self, command: str, now: datetime) -> Iterator[Holder]:
        """Holds the lock for the time of the block. Raises LockHeld, which names the holder, or CommandFailed: also
        where the state belongs to another user, who could not read what would be written now.
        """
        ensure_ours(self._folder.parent)
        lock = self._acquired()
        try:
            holder = Holder(os.getpid(), _user(), to_stamp(now), command, secrets.token_hex(4))
            # On a full disk it is held all the same, by somebody without a name.
            with suppress(OSError):
                write_atomically(self._note, json.dumps(asdict(holder)).encode())
            yield holder
        finally:
            self._note.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def tried(self) -> Iterator[bool]:
        """Holds the lock for the time of the block when nobody does; whether it does. Not to be kept for long."""
        if not is_ours(self._folder.parent):
            yield False
            return
        lock = self._lock()
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _acquired(self) -> FileLock:
        try:
            ensure_private_folder(self._folder)
            return self._waited_for(time.monotonic() + MOMENT)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _waited_for(self, deadline: float) -> FileLock:
        """Who holds it without a note only looks, or is about to write one: that is over in a moment."""
        lock = self._lock()
        while True:
            try:
                lock.acquire(timeout=0.02, poll_interval=0.005)
            except Timeout:
                holder = self._read()
                if holder or time.monotonic() >= deadline:
                    raise _held(holder) from None
            else:
                return lock

    def _lock(self) -> FileLock:
        return FileLock(self._folder / _FILE, mode=0o600, is_singleton=False)

    def _read(self) -> Holder | None:
        """The note of a living holder; None in the moment between the lock and its note, or when it cannot be read."""
        try:
            holder = Holder(**json.loads(self._note.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        stat = read_stat(holder.pid)
        return holder if stat and not stat.dead else None


def _held(holder: Holder | None) -> LockHeld:
    who = str(holder) if holder else "a process that has only just taken it"
    steps = ["wait for it to end, or look at it: flawless lock status"]
    if holder:
        steps.append(f"end it in good order: kill -INT {holder.pid}")
    return LockHeld(f"another Flawless command holds the deploy lock: {who}", evidence=[who], next_steps=steps)


def _unusable(folder: Path, error: OSError) -> CommandFailed:
    full = is_full(error)
    room = f"make room: df -h {shlex.quote(str(folder.parent))}"
    rights = (
        f"see whom it belongs to: ls -ld {shlex.quote(str(folder.parent))} {shlex.quote(str(folder.parent.parent))}"
    )
    return CommandFailed(
        "the deploy lock cannot be taken: " + ("the disk is full" if full else "no file can be written beside it"),
        code="DISK_FULL" if full else "DISK_NOT_WRITABLE",
        evidence=[f"{folder}: {error.strerror or error}", "nothing was done"],
        next_steps=[room if full else rights],
    )


def _user() -> str:
    """The login name; a user without an entry in the account database is named by number."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
