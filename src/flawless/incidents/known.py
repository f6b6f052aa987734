"""What this machine knows to be open, a file an incident: so that `status` and a write need not ask the database.

A copy, and never the truth: the database is, and after a drain it is asked again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from flawless.incidents.incident import Severity


@dataclass(frozen=True, slots=True)
class Known:
    """An open incident. `deploy_id` is the failed deploy that opened it."""

    id: UUID
    fingerprint: str
    severity: Severity
    deploy_id: str | None


class KnownOpen:
    """The folder of files named FINGERPRINT.SEVERITY: counting them opens none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def counts(self) -> dict[str, int]:
        severities = [path.suffix[1:] for path in self._paths()]
        return {"open": len(severities), "critical": severities.count(Severity.CRITICAL)}

    def get(self, fingerprint: str) -> Known | None:
        return next((known for severity in Severity if (known := _read(self._path(fingerprint, severity)))), None)

    def all(self) -> Iterator[Known]:
        return (known for path in self._paths() if (known := _read(path)))

    def add(self, known: Known) -> None:
        """Written in one go beside its place, so that a reader sees all of it or nothing."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(known.fingerprint, known.severity)
        temporary = self._folder / f".{path.name}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, json.dumps({**asdict(known), "id": str(known.id)}).encode())
        finally:
            os.close(descriptor)
        temporary.replace(path)

    def discard(self, id_: UUID) -> None:
        for known in self.all():
            if known.id == id_:
                self._path(known.fingerprint, known.severity).unlink(missing_ok=True)

    def replace(self, truth: Iterable[Known]) -> None:
        """The database's word. The caller holds the outbox's lock, and the outbox is empty."""
        true = {known.fingerprint: known for known in truth}
        for known in list(self.all()):
            if true.get(known.fingerprint) != known:
                self._path(known.fingerprint, known.severity).unlink(missing_ok=True)
        for known in true.values():
            if self.get(known.fingerprint) != known:
                self.add(known)

    def _path(self, fingerprint: str, severity: Severity) -> Path:
        return self._folder / f"{fingerprint}.{severity}"

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [path for path in self._folder.iterdir() if not path.name.startswith(".")]


def _read(path: Path) -> Known | None:
    """None for one that is gone, or torn by a power cut: it will be asked for again."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fields = json.loads(path.read_bytes())
        return Known(UUID(fields["id"]), fields["fingerprint"], Severity(fields["severity"]), fields["deploy_id"])
    return None
