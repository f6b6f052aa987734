"""What git knows of a checkout: the commit, whether it is dirty, the files that count."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIMIT: Final = 30.0
"""Seconds for one question; a network file system may be slow."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The state of a working tree."""

    commit: str | None
    dirty: bool


def checkout(folder: Path) -> Checkout | None:
    """None where there is no git, no repository, or git refuses to read it (another user's)."""
    status = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", ".")
    if status is None:
        return None
    lines = status.split(b"\0")
    commit = next((line.split()[-1].decode() for line in lines if line.startswith(b"# branch.oid ")), None)
    changed = any(line and not line.startswith(b"#") for line in lines)
    return Checkout(None if commit == "(initial)" else commit, changed)


def contents(folder: Path) -> dict[str, str] | None:
    """Every file below `folder` that is tracked, or untracked and not ignored: its path there and its blob's name.

    An uncommitted change counts with what stands in the file now, so committing it changes nothing here. None where
    git does not answer.
    """
    staged = _git(folder, "ls-files", "-z", "--stage", ".")
    if staged is None:
        return None
    touched = _git(folder, "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard", ".")
    if touched is None:
        return None
    known = dict(_staged(staged))
    for name in {os.fsdecode(raw) for raw in touched.split(b"\0") if raw}:
        blob = blob_name(folder / name)
        if blob is None:
            known.pop(name, None)
        else:
            known[name] = blob
    return known


def blob_name(path: Path) -> str | None:
    """What git would call the content of this file; None when there is no such file. A link counts by its target."""
    if path.is_symlink():
        data = os.fsencode(path.readlink())
    elif path.is_file():
        data = path.read_bytes()
    else:
        return None
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _staged(listing: bytes) -> Iterator[tuple[str, str]]:
    """Lines of `ls-files --stage`: mode, blob, stage, a tab, the name."""
    for line in listing.split(b"\0"):
        if line:
            head, _, name = line.partition(b"\t")
            yield os.fsdecode(name), head.split()[1].decode()


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, no right to run it, no descriptors left
        return None
    return done.stdout if done.returncode == 0 else None
