"""What the state folder remembers of its database: where it is, its port, its password."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flawless.adapters.postgres.account import keep_owner
from flawless.core.secret import Secret

USER = "postgres"


@dataclass(frozen=True, slots=True)
class State:
    """The content of `state.json`."""

    data: Path
    password: Secret
    port: int
    version: str

    def url(self, database: str) -> str:
        password = quote(self.password.reveal(), safe="")
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{quote(database, safe='')}"


@dataclass(frozen=True, slots=True)
class StateFile:
    """`state.json` in the state folder: mode 0600, replaced as a whole."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "state.json"

    def load(self) -> State | None:
        """What was saved here; None when nothing was, when it is torn, and in a copied project."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            written_for = Path(document["folder"])
            if written_for != self.folder and written_for.exists():
                return None
            return State(
                # Relative when below the folder, so that a project may be moved.
                data=self.folder / document["data_directory"],
                password=Secret(document["password"]),
                port=document["port"],
                version=document["version"],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # what it held can be found again: the place by rule, port and password are set anew

    def save(self, state: State) -> None:
        data = state.data.relative_to(self.folder) if state.data.is_relative_to(self.folder) else state.data
        document = {
            "schema_version": 1,
            "folder": str(self.folder),
            "data_directory": str(data),
            "port": state.port,
            "password": state.password.reveal(),
            "version": state.version,
        }
        self._replace(json.dumps(document, indent=2))

    def _replace(self, text: str) -> None:
        unfinished = self.folder / f".state.{uuid.uuid4().hex}.tmp"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            keep_owner(unfinished)
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)
