"""How long ago something was, in the one unit a person would say."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_UNITS: Final = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"))


def for_long(since: str, now: datetime) -> str:
    """From a moment as reports write it to `now`: "3 min"."""
    seconds = max((now - datetime.fromisoformat(since)).total_seconds(), 0.0)
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds / length)
            return "1 day" if unit == "days" and count == 1 else f"{count} {unit}"
    return f"{int(seconds)} s"
