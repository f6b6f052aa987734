"""What stands in the outbox: one line of JSON for one thing that happened, with the id its row will have.

A DETECTED record carries the whole opening, since only the database knows for certain whether it opens an incident or
extends one. Its id becomes the event's id, and the incident's id when it opens one: so each record can be written to
the database any number of times, and a record's id always leads to the incident it ended up in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from flawless.incidents.incident import Category, EventType, Opening, Severity

LONGEST_TEXT = 4000
"""Characters of one text in a record; a report keeps the whole of it."""

MOST_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Record:
    """One event, not yet in the database. `incident` is None for a detection; `severity` orders what may be dropped."""

    id: UUID
    at: datetime
    type: EventType
    message: str
    severity: Severity
    incident: UUID | None = None
    opening: Opening | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """One line. What PostgreSQL cannot store (NUL, half a surrogate pair) is written as its escape."""
        return json.dumps(_storable(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Record:
        """Raises ValueError, KeyError or TypeError when the line is no record."""
        fields = json.loads(line)
        return cls(
            id=UUID(fields["id"]),
            at=datetime.fromisoformat(fields["at"]),
            type=EventType(fields["type"]),
            message=fields["message"],
            severity=Severity(fields["severity"]),
            incident=_uuid(fields["incident"]),
            opening=_opening(fields["opening"]),
            metadata=fields["metadata"],
        )


def _opening(fields: dict[str, Any] | None) -> Opening | None:
    if fields is None:
        return None
    return Opening(
        **{
            **fields,
            "severity": Severity(fields["severity"]),
            "category": Category(fields["category"]),
            "next_steps": tuple(fields["next_steps"]),
            "caused_by": _uuid(fields["caused_by"]),
        }
    )


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None


def _storable(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case Record() | Opening():
            return {name: _storable(getattr(value, name)) for name in value.__dataclass_fields__}
        case Mapping():
            return {_text(str(key)): _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value[:MOST_ITEMS]]
        case _:
            return value


def _text(value: str) -> str:
    clean = value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"
