"""The incidents in PostgreSQL, over asyncpg alone.

The tables are SQLAlchemy's and Alembic's business (`models`, `schema`); what is asked here are six statements. Written
out they show what runs, `EXPLAIN` can be held against them, and no command pays 300 ms of imports for a page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flawless.incidents.incident import Category, Event, EventType, Incident, Severity, Story
from flawless.incidents.known import Known
from flawless.incidents.reading import IdRange, Query
from flawless.incidents.record import Record

if TYPE_CHECKING:
    import asyncpg

DRAIN_LOCK = 0x464C_4157_4F42_0001
"""Advisory lock of a transaction that takes records in: drainers of other machines wait for one another."""

MOST_KNOWN = 10_000

MISSING = """
SELECT NOT EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'flawless' AND c.relname = 'ops_incident_event' AND has_schema_privilege(n.oid, 'USAGE')
)
"""

LOCK = "SELECT pg_advisory_xact_lock($1)"

DETECT = """
WITH fresh AS (
  SELECT WHERE NOT EXISTS (SELECT FROM flawless.ops_incident_event WHERE id = $1)
), caused AS (
  SELECT incident_id AS cause FROM flawless.ops_incident_event WHERE id = $8
), extended AS (
  UPDATE flawless.ops_incident SET occurrences = occurrences + 1, updated_at = greatest(updated_at, $2),
    caused_by = coalesce(caused_by, (SELECT cause FROM caused))
  WHERE fingerprint = $3 AND resolved_at IS NULL AND EXISTS (SELECT FROM fresh)
  RETURNING id
), past AS (
  SELECT sum(occurrences) AS times, (array_agg(id ORDER BY resolved_at DESC))[1] AS last
  FROM flawless.ops_incident WHERE fingerprint = $3 AND resolved_at IS NOT NULL
), seen AS (
  SELECT format('; seen %s time%s, last resolved by %s', times, CASE WHEN times = 1 THEN '' ELSE 's' END,
    coalesce((SELECT metadata ->> 'by' FROM flawless.ops_incident_event
              WHERE incident_id = last AND event_type = 'RESOLVED' ORDER BY created_at DESC LIMIT 1), 'nobody known')
  ) AS message
  FROM past WHERE times > 0
), opened AS (
  INSERT INTO flawless.ops_incident (id, created_at, updated_at, severity, category, summary, details, fingerprint,
    occurrences, caused_by, deploy_id, next_steps)
  SELECT $1, $2, $2, $4, $5, $6, $7::jsonb, $3, 1,
    (SELECT cause FROM caused), $9, $10::jsonb
  FROM fresh WHERE NOT EXISTS (SELECT FROM extended)
  RETURNING id
)
INSERT INTO flawless.ops_incident_event (id, incident_id, created_at, event_type, message, metadata)
SELECT $1, id, $2, 'DETECTED', $11, $12::jsonb FROM extended
UNION ALL
SELECT $1, id, $2, 'DETECTED', $11 || coalesce((SELECT message FROM seen), ''), $12::jsonb FROM opened
"""
"""Each CTE sees the tables as they were before, so `fresh` decides for all of them."""

CHANGE = """
WITH target AS (
  SELECT id, resolved_at FROM flawless.ops_incident
  WHERE id = coalesce((SELECT incident_id FROM flawless.ops_incident_event WHERE id = $2), $2)
    AND NOT EXISTS (SELECT FROM flawless.ops_incident_event WHERE id = $1)
), changed AS (
  UPDATE flawless.ops_incident AS incident SET
    updated_at = greatest(incident.updated_at, $3),
    resolution_notes = CASE WHEN $4 = 'RESOLVED' AND incident.resolved_at IS NULL THEN $5
                            ELSE incident.resolution_notes END,
    resolved_at = CASE WHEN $4 = 'RESOLVED' THEN coalesce(incident.resolved_at, $3) ELSE incident.resolved_at END
  FROM target WHERE incident.id = target.id
)
INSERT INTO flawless.ops_incident_event (id, incident_id, created_at, event_type, message, metadata)
SELECT $1, id, $3, CASE WHEN $4 = 'RESOLVED' AND resolved_at IS NOT NULL THEN 'NOTE' ELSE $4 END, $5, $6::jsonb
FROM target
"""

COLUMNS = """
  id, created_at, updated_at, severity, category, summary, details::text, fingerprint, occurrences, caused_by,
  deploy_id, next_steps::text, resolved_at, resolution_notes"""

OPEN_PAGE = f"""
SELECT {COLUMNS} FROM flawless.ops_incident
WHERE resolved_at IS NULL AND id < $1 ORDER BY id DESC LIMIT $2
"""  # noqa: S608 - the columns above

RESOLVED_PAGE = f"""
SELECT {COLUMNS} FROM flawless.ops_incident
WHERE resolved_at IS NOT NULL AND id < $1 ORDER BY id DESC LIMIT $2
"""  # noqa: S608 - the columns above

IS_RESOLVED = "SELECT resolved_at IS NOT NULL FROM flawless.ops_incident WHERE id = $1"

BY_ID = f"""
SELECT {COLUMNS} FROM flawless.ops_incident WHERE id IN (
  (SELECT id FROM flawless.ops_incident WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 2)
  UNION
  (SELECT incident_id FROM flawless.ops_incident_event WHERE id = $1 AND $1 = $2)
) ORDER BY id LIMIT 2
"""  # noqa: S608 - the columns above

EVENTS = """
SELECT id, incident_id, created_at, event_type, message, metadata::text FROM flawless.ops_incident_event
WHERE incident_id = ANY ($1) ORDER BY created_at, id
"""

CONSEQUENCES = "SELECT id, caused_by FROM flawless.ops_incident WHERE caused_by = ANY ($1) ORDER BY id"

BATCH = f"SELECT {COLUMNS} FROM flawless.ops_incident WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608 - as above

OPEN = """
SELECT id, fingerprint, severity, deploy_id FROM flawless.ops_incident
WHERE resolved_at IS NULL AND details ->> 'stack' = $1 ORDER BY id DESC LIMIT $2
"""

_LOWEST, _HIGHEST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


class PostgresStore:
    """`Store` of reading, on one connection. Its methods raise what asyncpg raises."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def apply(self, records: Sequence[Record]) -> None:
        """In one transaction, in their order; those of a kind that follow one another share a round trip."""
        async with self._connection.transaction():
            await self._connection.execute(LOCK, DRAIN_LOCK)
            for is_detection, run in groupby(records, lambda record: record.opening is not None):
                if is_detection:
                    await self._connection.executemany(DETECT, _detections(run))
                else:
                    await self._connection.executemany(CHANGE, [_change(record) for record in run])

    async def page(self, query: Query) -> list[Incident]:
        before = query.before or _HIGHEST
        if query.before and await self._connection.fetchval(IS_RESOLVED, query.before):
            return await self._incidents(RESOLVED_PAGE, before, query.limit) if query.resolved else []
        page = await self._incidents(OPEN_PAGE, before, query.limit)
        if query.resolved and len(page) < query.limit:
            page += await self._incidents(RESOLVED_PAGE, _HIGHEST, query.limit - len(page))
        return page

    async def stories(self, ids: IdRange) -> list[Story]:
        return await self._stories(await self._incidents(BY_ID, ids.first, ids.last))

    async def batch(self, after: UUID | None, count: int) -> list[Story]:
        return await self._stories(await self._incidents(BATCH, after or _LOWEST, count))

    async def open_ones(self, stack: str) -> list[Known]:
        """What this stack has open, the newest ones."""
        rows = await self._connection.fetch(OPEN, stack, MOST_KNOWN)
        return [Known(row["id"], row["fingerprint"], Severity(row["severity"]), row["deploy_id"]) for row in rows]

    async def _incidents(self, statement: str, *arguments: Any) -> list[Incident]:
        return [_incident(row) for row in await self._connection.fetch(statement, *arguments)]

    async def _stories(self, incidents: Sequence[Incident]) -> list[Story]:
        ids = [incident.id for incident in incidents]
        events = [_event(row) for row in await self._connection.fetch(EVENTS, ids)]
        consequences = await self._connection.fetch(CONSEQUENCES, ids)
        return [
            Story(
                incident,
                tuple(event for event in events if event.incident_id == incident.id),
                tuple(row["id"] for row in consequences if row["caused_by"] == incident.id),
            )
            for incident in incidents
        ]


def _detections(records: Iterable[Record]) -> list[tuple[Any, ...]]:
    return [
        (
            record.id,
            record.at,
            opening.fingerprint,
            str(opening.severity),
            str(opening.category),
            opening.summary,
            json.dumps(opening.details),
            opening.caused_by,
            opening.deploy_id,
            json.dumps(opening.next_steps),
            record.message,
            json.dumps(record.metadata),
        )
        for record in records
        if (opening := record.opening) is not None
    ]


def _change(record: Record) -> tuple[Any, ...]:
    return record.id, record.incident, record.at, str(record.type), record.message, json.dumps(record.metadata)


def _incident(row: Any) -> Incident:
    fields = dict(row)
    return Incident(
        **{
            **fields,
            "severity": Severity(fields["severity"]),
            "category": Category(fields["category"]),
            "details": json.loads(fields["details"]),
            "next_steps": tuple(json.loads(fields["next_steps"])),
        }
    )


def _event(row: Any) -> Event:
    fields = dict(row)
    return Event(
        **{**fields, "event_type": EventType(fields["event_type"]), "metadata": json.loads(fields["metadata"])}
    )


async def tables_missing(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(MISSING))
