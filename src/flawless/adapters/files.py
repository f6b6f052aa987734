"""Files that are whole or not there: atomic writes, an appending file that is on disk when it says so, a reserve."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_TEMPORARY = ".tmp"


def ensure_private_folder(folder: Path) -> Path:
    """The folder, made with mode 0700 where it is missing; so are the folders above it."""
    if not folder.is_dir():
        ensure_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_atomically(path: Path, data: bytes, *, exclusively: bool = False, mode: int = 0o600) -> None:
    """Writes all of `data` to `path`, or nothing. Raises FileExistsError when `exclusively` and the file is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with _created(temporary, mode) as descriptor:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        if exclusively:
            path.hardlink_to(temporary)
        else:
            temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(path.parent)


def sweep_temporary(folder: Path, *, older_than: float = 0.0) -> list[Path]:
    """Removes what a killed writer left behind in `folder`. The caller holds the lock that keeps other writers out;
    where it keeps only some of them out, what is not older than so many seconds may be another's, at work now.
    """
    found = [path for path in folder.glob(f".*{_TEMPORARY}") if path.is_file()] if folder.is_dir() else []
    left = [path for path in found if not older_than or _age(path) > older_than]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _age(path: Path) -> float:
    """Seconds since it was written to; 0 for one that is gone."""
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Windows cannot open a folder, and needs no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AppendFile:
    """A file of lines that only grows; a line is one write, and on disk when `append` with `sync` returns.

    A torn last line, left by a writer that was killed, is dropped when the file is opened: nothing may join it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | _NOFOLLOW, 0o600)
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._descriptor, whole)
        sync_folder(path.parent)

    def append(self, data: bytes, *, sync: bool) -> None:
        """Raises OSError when the disk is full; then nothing of the line is in the file, and the next may be tried."""
        before = os.fstat(self._descriptor).st_size
        try:
            _write_all(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise
        if sync:
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Reserve:
    """Some blocks of disk kept aside, so that the report of a run on a full disk can still be written."""

    def __init__(self, path: Path, size: int = 512 * 1024) -> None:
        self._path = path
        self._size = size

    def ensure(self) -> None:
        """Fills the reserve. Raises OSError when the disk is full already."""
        if self._path.is_file() and self._path.stat().st_size == self._size:
            return
        try:
            with _created(self._path, 0o600, os.O_TRUNC) as descriptor:
                _write_all(descriptor, b"\0" * self._size)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Gives the blocks back to the file system, for whoever writes next."""
        self._path.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """No blocks left, or none left for this user."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def _created(path: Path, mode: int, flag: int = os.O_EXCL) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag | os.O_CLOEXEC | _NOFOLLOW, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
