"""What the services of a stack printed, from their log files; followed across rotation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flawless.adapters.log_files import Follower, files_of

_FILE = re.compile(r"(.+)-\d{4}-\d\d-\d\d\.\d{4,}\.log", re.ASCII)


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines of one service, as they were printed."""

    service: str
    lines: Sequence[str]


class ServiceLogs:
    """The logs of the named services, out of `folder`. `last` is how many lines of each to begin with, None for all;
    with `since` none from files that were full before that moment.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], *, last: int | None = None, since: datetime | None = None
    ) -> None:
        self._followers = {name: Follower(folder, name, last=_count(folder, name, last, since)) for name in names}
        self.is_vague = since is not None and any(_began_before(folder, name, since) for name in names)
        """Whether a file begins before `since` and ends after it: lines carry no times, so all of it is shown."""

    def recent(self) -> Iterator[Printed]:
        """What is there already, one service after the other."""
        for name, follower in self._followers.items():
            while lines := follower.poll():
                yield _printed(name, lines)

    def poll(self) -> list[Printed]:
        """What is new since the last time, never waiting. Files that do not exist yet are looked for each time."""
        found = [(name, follower.poll()) for name, follower in self._followers.items()]
        return [_printed(name, lines) for name, lines in found if lines]

    def close(self) -> None:
        for follower in self._followers.values():
            follower.close()


def service_logs_of(root: Path, environment: str | None) -> Path:
    """Where they are. An environment has its own: a line does not say by whose `backend` it was printed."""
    folder = root / "logs" / "services"
    return folder / environment if environment else folder


def logged_services(folder: Path) -> list[str]:
    """The services that have ever printed into this folder, whether the manifest still names them or not."""
    matches = (_FILE.fullmatch(path.name) for path in folder.glob("*.log"))
    return sorted({match[1] for match in matches if match})


def _count(folder: Path, name: str, last: int | None, since: datetime | None) -> int | None:
    """How many lines to begin with."""
    if since is None:
        return last
    lines = sum(path.read_bytes().count(b"\n") for path in _since(folder, name, since))
    return lines if last is None else min(last, lines)


def _since(folder: Path, name: str, since: datetime) -> list[Path]:
    """The files written to at that moment or after it."""
    return [path for path in files_of(folder, name) if path.stat().st_mtime >= since.timestamp()]


def _began_before(folder: Path, name: str, since: datetime) -> bool:
    """The first file that is shown was made before that moment: its predecessor's end, or its day, says no earlier."""
    shown = _since(folder, name, since)
    if not shown:
        return False
    before = [path for path in files_of(folder, name) if path < shown[0]]
    day = datetime.fromisoformat(f"{shown[0].name.removeprefix(f'{name}-')[:10]}T00:00:00+00:00")
    began = max([day.timestamp(), *(path.stat().st_mtime for path in before)])
    return began < since.timestamp()


def _printed(name: str, lines: Sequence[bytes]) -> Printed:
    return Printed(name, [line.decode("utf-8", "replace") for line in lines])
