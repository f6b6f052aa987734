"""The incidents that records tell of, without a database: what is shown while it is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from flawless.incidents.incident import Event, EventType, Incident, Opening, Story
from flawless.incidents.reading import IdRange, Query
from flawless.incidents.record import Record


@dataclass
class MemoryStore:
    """`Store` of reading, in the order in which records come."""

    _incidents: dict[UUID, Incident] = field(default_factory=dict)
    _events: dict[UUID, Event] = field(default_factory=dict)
    _open: dict[str, UUID] = field(default_factory=dict)

    async def apply(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.id not in self._events:
                self._apply(record)

    async def page(self, query: Query) -> list[Incident]:
        chosen = [incident for incident in self._incidents.values() if incident.is_open or query.resolved]
        chosen.sort(key=_order, reverse=True)
        if query.before is not None:
            last = self._incidents.get(query.before)
            chosen = [incident for incident in chosen if last is not None and _order(incident) < _order(last)]
        return chosen[: query.limit]

    async def stories(self, ids: IdRange) -> list[Story]:
        found = {id_ for id_ in self._incidents if ids.first <= id_ <= ids.last}
        if ids.is_whole and (incident := self._ended_up(ids.first)) is not None:
            found.add(incident)
        return [self._story(id_) for id_ in sorted(found)[:2]]

    async def batch(self, after: UUID | None, count: int) -> list[Story]:
        following = [id_ for id_ in sorted(self._incidents) if after is None or id_ > after]
        return [self._story(id_) for id_ in following[:count]]

    def _apply(self, record: Record) -> None:
        if record.opening is not None:
            self._detect(record, record.opening)
        elif (incident := self._ended_up(record.incident)) is not None:
            self._change(record, self._incidents[incident])

    def _ended_up(self, written: UUID | None) -> UUID | None:
        """Where the detection of that id was counted."""
        event = self._events.get(written) if written else None
        return event.incident_id if event else None

    def _detect(self, record: Record, opening: Opening) -> None:
        id_ = self._open.get(opening.fingerprint)
        if id_ is None:
            self._incidents[record.id] = self._opened(record, opening)
            self._open[opening.fingerprint] = record.id
            seen = self._seen_before(opening)
            self._add(record, record.id, EventType.DETECTED, record.message + seen)
            return
        incident = self._incidents[id_]
        self._incidents[id_] = replace(
            incident,
            occurrences=incident.occurrences + 1,
            updated_at=max(incident.updated_at, record.at),
            caused_by=incident.caused_by or self._ended_up(opening.caused_by),
        )
        self._add(record, id_, EventType.DETECTED, record.message)

    def _change(self, record: Record, incident: Incident) -> None:
        changed = replace(incident, updated_at=max(incident.updated_at, record.at))
        type_ = record.type
        if record.type is EventType.RESOLVED and incident.is_open:
            changed = replace(changed, resolved_at=record.at, resolution_notes=record.message)
            self._open.pop(incident.fingerprint, None)
        elif record.type is EventType.RESOLVED:
            type_ = EventType.NOTE
        self._incidents[incident.id] = changed
        self._add(record, incident.id, type_, record.message)

    def _add(self, record: Record, incident: UUID, type_: EventType, message: str) -> None:
        self._events[record.id] = Event(record.id, incident, record.at, type_, message, record.metadata)

    def _seen_before(self, opening: Opening) -> str:
        past = [
            incident
            for incident in self._incidents.values()
            if incident.fingerprint == opening.fingerprint and incident.resolved_at
        ]
        if not past:
            return ""
        times = sum(incident.occurrences for incident in past)
        last = max(past, key=lambda incident: incident.resolved_at or incident.created_at)
        by = next(event for event in self._of(last.id) if event.event_type is EventType.RESOLVED).metadata.get("by")
        return f"; seen {times} time{'s' if times != 1 else ''}, last resolved by {by or 'nobody known'}"

    def _opened(self, record: Record, opening: Opening) -> Incident:
        return Incident(
            id=record.id,
            created_at=record.at,
            updated_at=record.at,
            severity=opening.severity,
            category=opening.category,
            summary=opening.summary,
            details=opening.details,
            fingerprint=opening.fingerprint,
            occurrences=1,
            caused_by=self._ended_up(opening.caused_by),
            deploy_id=opening.deploy_id,
            next_steps=opening.next_steps,
        )

    def _of(self, id_: UUID) -> list[Event]:
        events = [event for event in self._events.values() if event.incident_id == id_]
        return sorted(events, key=lambda event: (event.created_at, event.id))

    def _story(self, id_: UUID) -> Story:
        consequences = [other.id for other in self._incidents.values() if other.caused_by == id_]
        return Story(self._incidents[id_], tuple(self._of(id_)), tuple(sorted(consequences)))


def _order(incident: Incident) -> tuple[bool, UUID]:
    return incident.is_open, incident.id
