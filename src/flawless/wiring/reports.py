"""The reports of earlier deploys, as files."""

from __future__ import annotations

from pathlib import Path

from flawless.adapters.archive import Archive
from flawless.wiring.status import outline_of


def reports(config: Path | None, environment: str | None) -> list[Path]:
    """All JSON reports of the stack we stand in, in this environment, oldest first. Raises ConfigInvalid."""
    outline = outline_of(config, environment)
    return Archive(outline.state, outline.root / "logs", outline.name, outline.environment).reports()
