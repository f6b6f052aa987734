"""A command line in a folder of its own, with nothing of our own environment in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flawless.cli.main import run


@dataclass(frozen=True, slots=True)
class Said:
    """What one command line said."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output; it says its version."""
        document: dict[str, Any] = json.loads(self.out)
        assert document["schema_version"] == 1
        return document


Say = Callable[..., Said]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder we stand in; its name is that of no other test's."""
    for name in [name for name in os.environ if name.startswith("FLAWLESS_") or name in {"NO_COLOR", "FORCE_COLOR"}]:
        monkeypatch.delenv(name)
    for name in ("DATABASE_URL", "PORT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def flawless(project: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `flawless` with these words, in the project."""

    def say(*words: str) -> Said:
        capsys.readouterr()
        exit_code = run(list(words))
        said = capsys.readouterr()
        return Said(exit_code, said.out, said.err)

    return say
