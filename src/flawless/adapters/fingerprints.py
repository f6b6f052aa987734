"""What a service was started from, a digest a part, so that a deploy can tell what has changed."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.adapters import git
from flawless.adapters.files import ensure_private_folder, write_atomically

_DATA: Final = frozenset({".db", ".log", ".pid", ".sock", ".sqlite", ".sqlite3", ".sqlite-shm", ".sqlite-wal"})
"""What a service writes beside its code. Without git nobody says that it is no code, so its name has to."""

_KEY_SIZE: Final = 32
_SKIPPED: Final = frozenset({".git", ".flawless", "__pycache__", "node_modules", ".venv", ".mypy_cache", ".ruff_cache"})


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts a fingerprint is taken of. `environment`: declared variables, FLAWLESS_* aside."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    artefacts: Sequence[Path]
    sources: Sequence[str]
    excluded: Sequence[Path]


def fingerprint(parts: Parts, key: bytes) -> dict[str, str]:
    """A digest a part. That of the environment is an HMAC, so that it gives no secret away, not even a short one."""
    return {
        "command": _digest([*parts.command, str(parts.directory)]),
        "environment": _keyed(key, parts.environment),
        "artefacts": _digest(f"{path.name}={git.blob_name(Path(os.path.realpath(path)))}" for path in parts.artefacts),
        "code": _code(parts),
    }


def read_key(state: Path) -> bytes | None:
    """The state folder's own key; None where nothing was ever started, and for one that a power cut has cut short."""
    try:
        key = (state / "key").read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == _KEY_SIZE else None


def ensure_key(state: Path) -> bytes:
    """The state folder's own key, made once."""
    key = read_key(state)
    if key is not None:
        return key
    path = ensure_private_folder(state) / "key"
    made = secrets.token_bytes(_KEY_SIZE)
    try:
        write_atomically(path, made, exclusively=True)
    except FileExistsError:  # another process has just made it, and its key is the key; or it is damaged
        key = read_key(state)
        if key is None:
            write_atomically(path, made)
        return key or made
    return made


def _code(parts: Parts) -> str:
    if parts.directory in parts.excluded:
        return _digest(())  # a program that is not of this stack
    known = git.contents(parts.directory)
    files = (known if known is not None else dict(_walked(parts))) | dict(_named(parts))
    return _digest(
        f"{name}={blob}{_behind(parts, parts.directory / name)}"
        for name, blob in sorted(files.items())
        if not _is_excluded(parts, parts.directory / name)
    )


def _named(parts: Parts) -> Iterator[tuple[str, str]]:
    """The files of its folder that the command names: they are run, whether git ignores them or not."""
    for word in parts.command:
        path = Path(os.path.normpath(parts.directory / word))
        if not path.is_relative_to(parts.directory) or path.suffix in _DATA:
            continue
        if os.path.isfile(path):  # noqa: PTH113 - Path raises for a word that is no path, and too long for one
            yield str(path.relative_to(parts.directory)), git.blob_name(path) or ""


def _behind(parts: Parts, path: Path) -> str:
    """What stands behind a link: an edit there is an edit of the code, wherever it is. Data behind one is none."""
    if not os.path.islink(path):  # noqa: PTH114 - asked of every file, and Path would double the time
        return ""
    target = Path(os.path.realpath(path))
    if target.suffix in _DATA or any(target.is_relative_to(one) for one in parts.excluded):
        return ""
    if target.is_dir() and not parts.directory.is_relative_to(target):
        return "".join(f";{name}={blob}" for name, blob in sorted((git.contents(target) or {}).items()))
    return f";{_readable(target)}"


def _readable(path: Path) -> str | None:
    """What another user's file says is not known to the service either."""
    try:
        return git.blob_name(path)
    except PermissionError:
        return None


def _walked(parts: Parts) -> Iterator[tuple[str, str]]:
    """Without git: the files that `sources` names, or all that are not caches, dependencies or data."""
    everything = (path for path in _all(parts.directory) if path.suffix not in _DATA)
    for path in sorted(_globbed(parts) if parts.sources else everything):
        blob = git.blob_name(path)
        if blob is not None:
            yield str(path.relative_to(parts.directory)), blob


def _globbed(parts: Parts) -> set[Path]:
    """A pattern that names a folder, as `src/**` does before Python 3.13, means all that is in it."""
    named = {path for pattern in parts.sources for path in parts.directory.glob(pattern)}
    return {file for path in named for file in (_all(path) if path.is_dir() else (path,))}


def _all(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        yield from (Path(base, name) for name in names)


def _is_excluded(parts: Parts, path: Path) -> bool:
    """Caches and dependencies do not count where nobody told git to ignore them either."""
    below = path.relative_to(parts.directory).parts
    return any(part in _SKIPPED for part in below) or any(path.is_relative_to(one) for one in parts.excluded)


def _keyed(key: bytes, environment: Mapping[str, str]) -> str:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for name, value in sorted(environment.items()):
        if not name.startswith("FLAWLESS_"):
            mac.update(_framed(name) + _framed(value))
    return mac.hexdigest()


def _digest(words: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for word in words:
        digest.update(_framed(word))
    return digest.hexdigest()


def _framed(word: str) -> bytes:
    """A length before each word, so that no two lists of words give the same bytes."""
    data = word.encode("utf-8", "surrogateescape")
    return len(data).to_bytes(8, "big") + data
