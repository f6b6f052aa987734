"""Services that their keepers gave up. A note beside the record says that it was told, so that it is told once."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flawless.adapters.files import write_atomically
from flawless.adapters.keeper import record as records
from flawless.adapters.keeper.record import State

_NOTE: Final = "gave_up.json"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """One giving-up of a service; `mark` tells it from every other one, of the same service too."""

    service: str
    at: datetime
    mark: str


@dataclass(frozen=True, slots=True)
class Told:
    """The giving-up that was told last, and the id of its incident."""

    mark: str
    incident: str


def untold(state: Path) -> list[GivenUp]:
    """Those that nobody was told of. By the record alone: that its keeper has ended since undoes nothing."""
    found = [one for folder in _folders(state) if (one := _given_up(folder))]
    return [one for one in found if (note := told(state, one.service)) is None or note.mark != one.mark]


def told(state: Path, service: str) -> Told | None:
    """None where nothing was told, or was told and is over."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        return Told(**json.loads((state / "run" / service / _NOTE).read_bytes()))
    return None


def note(state: Path, one: GivenUp, incident: str) -> None:
    """Written when the incident is: who is killed between the two tells the same once more, under the same id."""
    path = state / "run" / one.service / _NOTE
    write_atomically(path, json.dumps(asdict(Told(one.mark, incident))).encode())


def forget(state: Path, service: str) -> None:
    """It is over: somebody has started it again."""
    (state / "run" / service / _NOTE).unlink(missing_ok=True)


def services(state: Path) -> list[str]:
    """All that have ever been started here."""
    return [folder.name for folder in _folders(state)]


def _folders(state: Path) -> list[Path]:
    folder = state / "run"
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _given_up(folder: Path) -> GivenUp | None:
    record = records.read(folder)
    if record is None or record.state is not State.GAVE_UP:
        return None
    mark = f"{record.keeper.boot_id} {record.keeper.pid} {record.since!r}"
    return GivenUp(folder.name, datetime.fromtimestamp(record.since, UTC), mark)
