"""What should run since the last good deploy (no secrets): what a supervisor brings up after a reboot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

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
    """None before the first good deploy."""
    try:
        return Desired(**json.loads((state / "desired.json").read_bytes()))
    except FileNotFoundError:
        return None


def change(state: Path, *, start: Sequence[str] = (), stop: Sequence[str] = ()) -> None:
    """What a person starts or stops after the last good deploy should stay so; nothing before the first."""
    before = read(state)
    if before is not None:
        kept = [name for name in before.services if name not in {*start, *stop}]
        write(state, replace(before, services=[*kept, *start]))
