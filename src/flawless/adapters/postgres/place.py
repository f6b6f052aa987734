"""Where root's clusters lie: outside of their projects, whose folders another user may not enter, each with a note of
the project it belongs to. Without that note nobody could tell later which project is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from flawless.adapters.files import write_atomically
from flawless.adapters.postgres.postmaster import Postmaster

SYSTEM_FOLDER: Final = Path("/var/lib/flawless")
_NOTE: Final = "project.json"


def home_of(folder: Path, system_folder: Path) -> Path:
    """The place, by rule, of the clusters of a state folder. A project that moved away took the first one with it."""
    first = system_folder / "data" / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    places = (first.with_name(f"{first.name}-{n}") if n else first for n in count())
    return next(home for home in places if _outside(home).project in {None, _project_of(folder)})


def note_project(home: Path, folder: Path) -> None:
    """Writes down whose clusters these are: now, because a project may have been moved since."""
    project = _project_of(folder)
    note = {"project": str(project), "device": project.stat().st_dev}
    write_atomically(home / _NOTE, json.dumps(note).encode())


def _project_of(folder: Path) -> Path:
    return next((parent.parent for parent in folder.parents if parent.name == ".flawless"), folder)


@dataclass(frozen=True, slots=True)
class Outside:
    """Clusters outside of their project. `project` and `device`, the disk it lies on, are None where unknown."""

    home: Path
    project: Path | None
    device: int | None

    def is_orphan(self) -> bool:
        """The project is gone, or may be gone."""
        return self.project is None or not os.path.lexists(self.project)

    def obstacle(self) -> str | None:
        """Why it must not be removed, though its project is not to be seen; None when it may."""
        if pid := server_of(self.home):
            return f"its server runs, pid {pid}; end it in good order: kill -INT {pid}, and ask again"
        if self.project is None:
            return "whose it is was not written down; a start of the database does that"
        if not self._is_on_its_disk(self.project):
            return "its project lay on another disk than this folder now: is it not mounted?"
        return None

    def _is_on_its_disk(self, project: Path) -> bool:
        there = next(parent for parent in project.parents if parent.exists())
        return there.stat().st_dev == self.device


def orphans(system_folder: Path) -> list[Outside]:
    """Those whose project is gone, and those of which it cannot be told."""
    found = [_outside(home) for home in sorted((system_folder / "data").glob("*")) if home.is_dir()]
    return [one for one in found if one.is_orphan()]


def clusters_in(home: Path) -> list[Path]:
    """The data directories, one a major version."""
    return [path.parent for path in home.glob("*/PG_VERSION")]


def logs_in(home: Path) -> list[Path]:
    """The folder of the server's log, once it has been started."""
    return list(home.glob("log"))


def size_of(home: Path) -> int:
    """Bytes of all files below it."""
    return sum(path.lstat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())


def last_used(home: Path) -> datetime | None:
    """PostgreSQL writes this file at each checkpoint, and when it stops."""
    times = [path.lstat().st_mtime for path in home.glob("*/global/pg_control")]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def server_of(home: Path) -> int | None:
    """The pid of a server that runs there."""
    servers = (Postmaster(data).process() for data in clusters_in(home))
    return next((server.pid for server in servers if server is not None), None)


def _outside(home: Path) -> Outside:
    try:
        note = json.loads((home / _NOTE).read_bytes())
        return Outside(home, Path(note["project"]), int(note["device"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Outside(home, None, None)
