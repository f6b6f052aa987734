"""Reports in the archive of a stack, written as a deploy writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flawless.adapters.archive import Archive
from flawless.core.event import Event, RunStarted
from flawless.deploy.report_text import to_text
from support.histories import report_of


def archived(root: Path, events: Sequence[Event], deploy_id: str, minute: int = 0) -> dict[str, Any]:
    """Writes the report of that run, ended in that minute; answers with it."""
    named = [replace(event, deploy_id=deploy_id) if isinstance(event, RunStarted) else event for event in events]
    report = report_of(named)
    moment = datetime(2026, 11, 23, 14, minute, tzinfo=UTC)
    Archive(root / ".flawless", root / "logs", "shop").write_report(report, to_text(report), moment)
    return report
