"""Incidents and their events, as values: what CONTRACTS 8 says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flawless.core.clock import to_stamp


class Severity(StrEnum):
    """How bad it is, least first."""

    INFO = "INFO"
    WARN = "WARN"
    CRITICAL = "CRITICAL"


class Category(StrEnum):
    """What it is about."""

    DB = "DB"
    TUNNEL = "TUNNEL"
    API = "API"
    DEPLOY = "DEPLOY"
    OTHER = "OTHER"


class EventType(StrEnum):
    """What happened to an incident."""

    DETECTED = "DETECTED"
    RECOVERY_ATTEMPTED = "RECOVERY_ATTEMPTED"
    RECOVERY_SUCCESS = "RECOVERY_SUCCESS"
    RECOVERY_FAILED = "RECOVERY_FAILED"
    ESCALATED = "ESCALATED"
    RESOLVED = "RESOLVED"
    NOTE = "NOTE"


@dataclass(frozen=True, slots=True)
class Opening:
    """A fault as it is seen once: it opens an incident, or extends the open one of the same fingerprint.

    `details` holds `stack`, `code` and `subject`, and whatever else was seen.
    """

    severity: Severity
    category: Category
    summary: str
    fingerprint: str
    details: Mapping[str, Any] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()
    deploy_id: str | None = None
    caused_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an incident. Only ever appended."""

    id: UUID
    incident_id: UUID
    created_at: datetime
    event_type: EventType
    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return _json(asdict(self))


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault from its first detection to its end."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    severity: Severity
    category: Category
    summary: str
    details: Mapping[str, Any]
    fingerprint: str
    occurrences: int
    caused_by: UUID | None
    deploy_id: str | None
    next_steps: tuple[str, ...]
    resolved_at: datetime | None = None
    resolution_notes: str | None = None

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None

    @property
    def stack(self) -> str | None:
        return self.details.get("stack")

    def to_json(self) -> dict[str, Any]:
        return _json(asdict(self))


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with everything that happened to it, in order, and the incidents that are its consequences."""

    incident: Incident
    events: tuple[Event, ...]
    consequences: tuple[UUID, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **self.incident.to_json(),
            "events": [event.to_json() for event in self.events],
            "consequences": [str(id_) for id_ in self.consequences],
        }


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    match value:
        case UUID() | StrEnum():
            return str(value)
        case datetime():
            return to_stamp(value)
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value
