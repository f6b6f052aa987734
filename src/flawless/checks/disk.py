"""The questions about folders: can a file really be written there, and is there room?

A file without a name is written (open(2), O_TMPFILE), so nothing stays behind, not even of a process that is killed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.reason import Reason

ENOUGH: Final = 64_000_000
"""Bytes: a log file and what replaces it, a report, a journal, several times over. Below is a warning."""

LEAST: Final = 4_000_000
"""Bytes: below, the first log lines of a deploy fill the disk."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NO_NAMELESS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class FolderWritable:
    """A file can be written in a folder, and there is room for more. A name with `*` means every such folder."""

    root: Path
    folder: str
    optional: bool = False

    @property
    def id(self) -> str:
        return f"disk.writable:{self.folder}"

    @property
    def claim(self) -> str:
        return f"{self.folder} is writable"

    async def ask(self, limit: float) -> Outcome:
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(self._ask)
        except TimeoutError:
            return self._failed(
                Reason.DISK_NOT_WRITABLE,
                f"{self.folder} does not answer",
                f"a file was not written within {limit:g} s: a network file system, or a disk that fails",
                f"look at it: timeout 5 ls -l {shlex.quote(str(self.root / self.folder))}; dmesg | tail",
            )

    def _ask(self) -> Outcome:
        outcomes = [self._ask_one(folder) for folder in self._folders()]
        warned = (one for one in outcomes if isinstance(one, Passed) and one.concern)
        return next((one for one in outcomes if isinstance(one, Failed)), None) or next(warned, outcomes[0])

    def _folders(self) -> Iterator[Path]:
        fixed = [part for part in Path(self.folder).parts if not _MAGIC & set(part)]
        if len(fixed) == len(Path(self.folder).parts):
            yield self.root / self.folder
            return
        yield self.root.joinpath(*fixed)
        yield from (path for path in self.root.glob(self.folder) if path.is_dir())

    def _ask_one(self, folder: Path) -> Outcome:
        there = folder
        while not _exists(there):
            there = there.parent
        if there != folder and not folder.is_relative_to(self.root):
            return self._outside(folder)
        try:
            _write_in(there)
            free = _free(there)
        except OSError as error:
            return self._refused(folder, there, error)
        return self._room(folder, there, free)

    def _outside(self, folder: Path) -> Failed:
        return self._failed(
            Reason.DISK_NOT_WRITABLE,
            f"{folder} does not exist",
            "it lies outside of the project, where Flawless creates nothing",
            f"mkdir -p {shlex.quote(str(folder))}",
        )

    def _room(self, folder: Path, there: Path, free: int) -> Outcome:
        room = f"{free / 1e6:.0f} MB are free"
        step = f"make room; see what fills it: df -h {shlex.quote(str(there))}; du -xh --max-depth=2 / | sort -h | tail"
        if free < LEAST:
            return self._failed(Reason.DISK_FULL, f"the disk of {folder} is full", f"{room} ({free} bytes)", step)
        found = (f"a file was written in {there}", room)
        evidence = found if there == folder else (f"{folder} does not exist yet; it can be created", *found)
        return Passed(evidence, Concern(Reason.DISK_FULL, step) if free < ENOUGH else None)

    def _refused(self, folder: Path, there: Path, error: OSError) -> Failed:
        name = errno.errorcode.get(error.errno or 0, "?")
        said = f"writing in {there}: {error.strerror} ({name})"
        place = shlex.quote(str(there))
        if error.errno in _FULL:
            full = f"the disk of {folder} is full"
            return self._failed(Reason.DISK_FULL, full, said, f"make room: df -h {place}; df -i {place}")
        if error.errno in _LIMITS:
            nothing = f"whether {folder} is writable cannot be seen: nothing is left to open a file with"
            return self._failed(Reason.HOST_LIMITS, nothing, said, "raise the limit: ulimit -n 4096")
        missing = () if there == folder else (f"{folder} does not exist and cannot be created",)
        step = {
            errno.EROFS: f"see how it is mounted: findmnt -T {place}",
            errno.ENOTDIR: f"move the file away that stands there: mv {place} {place}.old",
        }.get(error.errno or 0, f"see whom it belongs to, then: sudo chown -R {_user()} {place}")
        why = "the file system is read-only" if error.errno == errno.EROFS else "no file can be written there"
        cause = f"{folder} is not writable: {why}"
        return Failed(Reason.DISK_NOT_WRITABLE, cause, (*missing, said, _rights(there)), (step,))

    def _failed(self, reason: Reason, cause: str, evidence: str, step: str) -> Failed:
        return Failed(reason, cause, (evidence,), (step,))


def _exists(path: Path) -> bool:
    """Whether something is there; what may not be looked at is."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _write_in(folder: Path) -> None:
    """Writes a block and has it reach the disk. Raises OSError."""
    descriptor = _open_nameless(folder)
    try:
        os.write(descriptor, b"\0" * 4096)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_nameless(folder: Path) -> int:
    if sys.platform == "linux":
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
    return _open_unlinked(folder)


def _open_unlinked(folder: Path) -> int:
    """Where the file system has no nameless files (NFS, FUSE), or the system."""
    path = folder / f".flawless-{os.getpid()}-{os.urandom(4).hex()}"
    on_close = getattr(os, "O_TEMPORARY", 0)  # Windows removes it then
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | on_close, 0o600)
    if not on_close:
        path.unlink()
    return descriptor


def _free(folder: Path) -> int:
    """Bytes that we may still write. No inodes left is no room either; a file system that counts none has enough."""
    if sys.platform == "win32":
        import shutil

        return shutil.disk_usage(folder).free
    found = os.statvfs(folder)
    if found.f_files and not found.f_favail:
        return 0
    return found.f_bavail * found.f_frsize


def _rights(path: Path) -> str:
    """Whose it is, with which mode, and who asked."""
    try:
        found = path.stat()
    except OSError as error:
        return f"it cannot be looked at either: {error.strerror}"
    return f"{path} is of {_name(found.st_uid)}, mode {stat.filemode(found.st_mode)}; asked as {_user()}"


def _user() -> str:
    return _name(os.geteuid()) if sys.platform != "win32" else os.environ.get("USERNAME", "?")


def _name(uid: int) -> str:
    if sys.platform == "win32":
        return str(uid)
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
