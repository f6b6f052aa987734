"""What should run since the last good deploy (no secrets): what a supervisor brings up after a reboot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flawless.adapters.files import ensure_private_folder, write_atomically


@dataclass(frozen=True, slots=True)
class Desired:
    """`desired.json`: the last good deploy, and the services it left running, in the order they come up."""

    deploy_id: str
    at: str
    git_commit: str | None
    services: Sequence[str]
    schema_version: int = 1


def write(state: Path, desired: Desired) -> None:
    path = ensure_private_folder(state) / "desired.json"
    write_atomically(path, json.dumps(asdict(desired), indent=1).encode() + b"\n")


def read(state: Path) -> Desired | None:
    """None before the first good deploy, and where the file is damaged: the next good deploy writes it anew."""
    try:
        return _desired(json.loads((state / "desired.json").read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None


def is_damaged(state: Path) -> bool:
    """Whether there is such a file and nothing can be learned from it."""
    return read(state) is None and os.path.lexists(state / "desired.json")


def _desired(document: Mapping[str, Any]) -> Desired:
    commit, services = document["git_commit"], document["services"]
    if not isinstance(services, list):
        raise TypeError("services is no list")
    return Desired(str(document["deploy_id"]), str(document["at"]), commit, [str(name) for name in services])


def change(state: Path, *, start: Sequence[str] = (), stop: Sequence[str] = ()) -> None:
    """What a person starts or stops after the last good deploy should stay so; nothing before the first."""
    before = read(state)
    if before is not None:
        kept = [name for name in before.services if name not in {*start, *stop}]
        write(state, replace(before, services=[*kept, *start]))
