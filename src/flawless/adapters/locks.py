"""The deploy lock: an OS lock that dies with its holder, and beside it a note of who holds it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from flawless.adapters.files import ensure_private_folder, write_atomically
from flawless.core.clock import to_stamp
from flawless.core.errors import LockHeld


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
        if not self._folder.is_dir():
            return None
        try:
            with self._lock().acquire(blocking=False):
                return None
        except Timeout:
            return self._read()

    @contextmanager
    def held(self, command: str, now: datetime) -> Iterator[Holder]:
        """Holds the lock for the time of the block. Raises LockHeld, which names the holder."""
        ensure_private_folder(self._folder)
        lock = self._lock()
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise _held(self._read()) from None
        try:
            holder = Holder(os.getpid(), _user(), to_stamp(now), command, secrets.token_hex(4))
            write_atomically(self._note, json.dumps(asdict(holder)).encode())
            yield holder
            self._note.unlink(missing_ok=True)
        finally:
            lock.release()

    def _lock(self) -> FileLock:
        return FileLock(self._folder / "deploy.lock", mode=0o600, is_singleton=False)

    def _read(self) -> Holder | None:
        """The note; None in the moment between the lock and its note."""
        try:
            return Holder(**json.loads(self._note.read_bytes()))
        except FileNotFoundError:
            return None


def _held(holder: Holder | None) -> LockHeld:
    who = str(holder) if holder else "a process that has only just taken it"
    steps = ["wait for it to end, or look at it: flawless lock status"]
    if holder:
        steps.append(f"end it in good order: kill -INT {holder.pid}")
    return LockHeld(f"another Flawless command holds the deploy lock: {who}", evidence=[who], next_steps=steps)


def _user() -> str:
    """The login name; a user without an entry in the account database is named by number."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
