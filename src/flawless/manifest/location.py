"""Where the manifest is, the overlay of an environment, and the state. Cheap to import: nothing is parsed here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flawless.core.errors import ConfigInvalid, Problem

NAME: Final = "flawless.toml"
_ENVIRONMENT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


def find_manifest(start: Path, file: Path | None = None) -> Path:
    """The file given, or `flawless.toml` in the start folder or above it. ConfigInvalid when there is none."""
    if file is not None and _is_there(start / file):
        return start.absolute() / file
    if file is not None:
        raise _missing(str(file), "no such file", "", ["name one that exists, or write one: flawless init"])
    found = nearest(start)
    if found is None:
        raise _missing(NAME, f"no such file in {start.absolute()} or above it", "", ["write one: flawless init"])
    return found


def nearest(start: Path) -> Path | None:
    """`flawless.toml` in the start folder, or the first one above it."""
    folders = (start.absolute(), *start.absolute().parents)
    return next((folder / NAME for folder in folders if _is_there(folder / NAME)), None)


def find_overlay(manifest: Path, environment: str) -> Path:
    """`flawless.<environment>.toml` beside the manifest. ConfigInvalid, with those that exist, when there is none."""
    path = manifest.parent / f"{manifest.stem}.{environment}.toml"
    if _ENVIRONMENT.fullmatch(environment) and _is_there(path):
        return path
    known = environments_of(manifest)
    close = difflib.get_close_matches(environment, known, 1)
    steps = [f"choose one that exists: {', '.join(known)}" if known else f"write {manifest.stem}.<name>.toml first"]
    found = f"no {manifest.stem}.{environment}.toml beside it; {_listed(known)}"
    raise _missing(f"environment {environment}", found, f"did you mean {close[0]}?" if close else "", steps)


def state_of(root: Path, environment: str | None) -> Path:
    """Where the state of a stack is kept; that of an environment below that of the project."""
    state = root / ".flawless"
    return state / "environments" / environment if environment else state


def environments_of(manifest: Path) -> list[str]:
    """The environments that have an overlay beside the manifest."""
    names = (path.name for path in manifest.parent.glob("*.toml"))
    prefix, suffix = f"{manifest.stem}.", ".toml"
    inner = (name[len(prefix) : -len(suffix)] for name in names if name.startswith(prefix) and name != manifest.name)
    return sorted(name for name in inner if _ENVIRONMENT.fullmatch(name))


def _is_there(path: Path) -> bool:
    # A link that leads nowhere is there too: reading it says what is wrong with it.
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "there are none"


def _missing(path: str, found: str, suggestion: str, next_steps: Sequence[str]) -> ConfigInvalid:
    problem = Problem(path=path, found=found, allowed="a file that exists", suggestion=suggestion or None)
    error = ConfigInvalid([problem], cause=f"{path}: {found}")
    error.next_steps = tuple(next_steps)
    return error
