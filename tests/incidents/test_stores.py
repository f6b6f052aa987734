"""One suite over both stores: PostgreSQL, and the outbox's own records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flawless.core.errors import UsageError
from flawless.core.ids import uuid7
from flawless.incidents.incident import EventType, Incident, Severity, Story
from flawless.incidents.memory import MemoryStore
from flawless.incidents.postgres import PostgresStore
from flawless.incidents.reading import IdRange, Query, Store, only
from flawless.incidents.record import Record
from flawless.incidents.rules import opening_of
from incidents.conftest import failure

pytestmark = pytest.mark.anyio

START = datetime(2026, 11, 23, 14, 15, 2, tzinfo=UTC)


class Clockwork:
    """Records of a history, a second apart."""

    def __init__(self) -> None:
        self.now = START

    def detected(self, cause: str = "backend exited", caused_by: UUID | None = None) -> Record:
        opening = replace(opening_of(failure("SERVICE_EXITED", cause), stack="shop"), caused_by=caused_by)
        return replace(self._record(EventType.DETECTED, f"detected: {cause}"), opening=opening)

    def happened(self, incident: UUID, type_: EventType = EventType.NOTE, message: str = "so", **facts: Any) -> Record:
        return replace(self._record(type_, message), incident=incident, metadata=facts)

    def _record(self, type_: EventType, message: str) -> Record:
        self.now += timedelta(seconds=1)
        return Record(uuid7(self.now), self.now, type_, message, Severity.CRITICAL)


@pytest.fixture
def history() -> Clockwork:
    return Clockwork()


@pytest.fixture(params=["memory", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """None for the store in memory."""
    return request.getfixturevalue("migrated_url") if request.param == "postgres" else None


@pytest.fixture
async def store(store_url: str | None, anyio_backend: str) -> AsyncIterator[Store]:
    if store_url is None:
        yield MemoryStore()
        return
    connection = await asyncpg.connect(store_url, statement_cache_size=0)
    try:
        yield PostgresStore(connection)
    finally:
        await connection.close()


async def story_of(store: Store, id_: UUID) -> Story:
    return only(await store.stories(IdRange.of(str(id_))), str(id_))


async def test_a_detection_opens_an_incident_with_all_that_was_seen(store: Store, history: Clockwork) -> None:
    """The row says what the record said, and has the record's id."""
    record = history.detected()
    await store.apply([record])
    story = await story_of(store, record.id)
    opening = record.opening
    assert opening is not None
    assert story.incident == Incident(
        record.id,
        record.at,
        record.at,
        Severity.CRITICAL,
        opening.category,
        "backend exited",
        dict(opening.details),
        opening.fingerprint,
        1,
        None,
        None,
        ("start PostgreSQL",),
    )
    assert [(event.id, event.event_type, event.message) for event in story.events] == [
        (record.id, EventType.DETECTED, "detected: backend exited")
    ]


async def test_a_record_counts_once_however_often_it_comes(store: Store, history: Clockwork) -> None:
    """Applied again, alone or with others, before or after what followed, nothing changes."""
    first, second = history.detected(), history.detected()
    note = history.happened(first.id)
    for batch in ([first], [first, second], [note, note], [first, second, note]):
        await store.apply(batch)
    story = await story_of(store, first.id)
    assert story.incident.occurrences == 2
    assert [event.id for event in story.events] == [first.id, second.id, note.id]


async def test_an_event_that_names_a_later_detection_finds_its_incident(store: Store, history: Clockwork) -> None:
    """Two machines that detect one fault each hold an id of their own; both lead to the one incident."""
    first, second = history.detected(), history.detected()
    note = history.happened(second.id)
    await store.apply([first, second, note])
    assert (await story_of(store, second.id)).incident.id == first.id
    assert len((await story_of(store, first.id)).events) == 3


async def test_a_resolved_incident_is_not_opened_again_but_followed_by_another(
    store: Store, history: Clockwork
) -> None:
    """The new one says how often it was seen, and who ended it last."""
    first = history.detected()
    again = history.detected()
    end = history.happened(first.id, EventType.RESOLVED, "mended", by="ada")
    back = history.detected()
    await store.apply([first, again, end, back])
    old, new = await story_of(store, first.id), await story_of(store, back.id)
    assert (old.incident.resolved_at, old.incident.resolution_notes) == (end.at, "mended")
    assert new.incident.id == back.id
    assert new.events[0].message == "detected: backend exited; seen 2 times, last resolved by ada"


async def test_who_resolves_second_leaves_a_note(store: Store, history: Clockwork) -> None:
    """The first end counts; the second is no error and is kept as a note."""
    first = history.detected()
    ends = [history.happened(first.id, EventType.RESOLVED, text, by=text) for text in ("ada", "bob")]
    await store.apply([first, *ends])
    story = await story_of(store, first.id)
    assert (story.incident.resolution_notes, story.incident.resolved_at) == ("ada", ends[0].at)
    assert [event.event_type for event in story.events] == [EventType.DETECTED, EventType.RESOLVED, EventType.NOTE]


async def test_an_event_of_an_incident_that_is_not_there_changes_nothing(store: Store, history: Clockwork) -> None:
    """It neither fails nor keeps those behind it from being taken in."""
    lost, first = history.happened(uuid7(START)), history.detected()
    await store.apply([lost, first])
    assert len(await store.batch(None, 10)) == 1


async def test_consequences_and_cause_know_each_other(store: Store, history: Clockwork) -> None:
    """A consequence links to the incident in which its cause was counted."""
    first, again = history.detected("no network"), history.detected("no network")
    consequence = history.detected("tunnel down")
    linked = history.detected("tunnel down", caused_by=again.id)
    await store.apply([first, again, consequence, linked])
    assert (await story_of(store, consequence.id)).incident.caused_by == first.id
    assert (await story_of(store, first.id)).consequences == (consequence.id,)


async def test_pages_hold_every_incident_once_open_ones_first(store: Store, history: Clockwork) -> None:
    """Walked in pages of three: the open ones, newest first, then those resolved; none twice, none missing."""
    records = [history.detected(f"{name} exited") for name in "abcdefghijk"]
    ends = [history.happened(record.id, EventType.RESOLVED, "mended") for record in records[::2]]
    await store.apply([*records, *ends])
    seen: list[Incident] = []
    while page := await store.page(Query(3, resolved=True, before=seen[-1].id if seen else None)):
        seen += page
    expected = [record.id for record in reversed(records[1::2])] + [record.id for record in reversed(records[::2])]
    assert [incident.id for incident in seen] == expected
    assert await store.page(Query(100)) == seen[:5]
    assert await store.page(Query(100, before=seen[1].id)) == seen[2:5]
    assert await store.page(Query(100, before=seen[7].id)) == []


async def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(store: Store, history: Clockwork) -> None:
    """A prefix finds its incident; one that two share, none has, or that is no id at all is refused with what to do."""
    first, second = history.detected("a exited"), history.detected("b exited")
    await store.apply([first, second, history.happened(second.id)])
    assert (await story_of(store, first.id)).incident.id == first.id
    written = str(first.id)[:-4].upper()
    assert only(await store.stories(IdRange.of(written)), written).incident.id == first.id
    with pytest.raises(UsageError, match="more than one"):
        only(await store.stories(IdRange.of(str(first.id)[:8])), "019")
    with pytest.raises(UsageError, match="no incident's id"):
        only(await store.stories(IdRange.of("ffff")), "ffff")
    for nonsense in ("", "xyz", "0" * 40, "'; DROP TABLE"):
        with pytest.raises(UsageError):
            IdRange.of(nonsense)


async def test_export_walks_all_in_batches(store: Store, history: Clockwork) -> None:
    """Each incident with its events once, the oldest first."""
    records = [history.detected(f"{name} exited") for name in "abcde"]
    await store.apply(records)
    first = await store.batch(None, 3)
    rest = await store.batch(first[-1].incident.id, 3)
    assert [story.incident.id for story in (*first, *rest)] == [record.id for record in records]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), tree=st.recursive(st.text() | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=5))
async def test_no_text_keeps_the_outbox_from_draining(migrated_url: str, text: str, tree: Any) -> None:
    """Whatever a peer said, NUL and half surrogates included, goes through a line of the outbox into the database."""
    record = replace(Clockwork().detected(text), message=text, metadata={text: tree})
    connection = await asyncpg.connect(migrated_url)
    try:
        await PostgresStore(connection).apply([Record.of_line(record.to_line())])
    finally:
        await connection.close()
