"""Outbox first, then PostgreSQL, each record exactly once."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest

from flawless.incidents.incident import EventType
from flawless.incidents.reading import IdRange, Query
from incidents.conftest import MakeBook, failure

pytestmark = pytest.mark.anyio


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_a_failed_deploy_opens_one_incident(make_book: MakeBook, migrated_url: str) -> None:
    """A failure at the database gate is one row of category DB, CRITICAL, with the deploy's id, and one event."""
    book = make_book(migrated_url)
    id_ = book.open_for(failure(), "20261123T141502Z-3f9c2a")
    assert await book.drain(2.0) == 0
    found = await rows(migrated_url, "SELECT id, category, severity, deploy_id, occurrences FROM flawless.ops_incident")
    assert found == [(UUID(str(id_)), "DB", "CRITICAL", "20261123T141502Z-3f9c2a", 1)]
    events = await rows(migrated_url, "SELECT incident_id, event_type FROM flawless.ops_incident_event")
    assert events == [(UUID(str(id_)), "DETECTED")]


async def test_the_same_fault_extends_and_after_its_end_opens_anew(make_book: MakeBook, migrated_url: str) -> None:
    """While open it is extended; after a good deploy a new one says how often it was seen and who ended it."""
    book = make_book(migrated_url)
    first = book.open_for(failure(), "20261123T141502Z-3f9c2a")
    assert book.open_for(failure(), "20261123T141602Z-3f9c2b") == first
    await book.drain(2.0)
    assert book.open_for(failure(), "20261123T141702Z-3f9c2c") == first
    book.resolve_for("20261123T150000Z-aaaaaa")
    assert book.counts() == {"open": 0, "critical": 0}
    second = book.open_for(failure(), "20261124T141502Z-3f9c2d")
    assert second != first
    assert await book.drain(2.0) == 0
    async with book.opened() as opened:
        assert opened.because is None
        found = await opened.store.page(Query(10, resolved=True))
        [story] = await opened.store.stories(IdRange.of(str(second)))
        [old] = await opened.store.stories(IdRange.of(str(first)))
    assert [str(incident.id) for incident in found] == [second, first]
    assert found[1].occurrences == 3
    assert found[1].resolution_notes == "the deploy 20261123T150000Z-aaaaaa succeeded"
    assert "seen 3 times, last resolved by deploy 20261123T150000Z-aaaaaa" in story.events[0].message
    assert [event.event_type for event in old.events] == [EventType.DETECTED] * 3 + [EventType.RESOLVED]


async def test_what_only_a_removed_database_had_is_not_open_any_more(
    make_book: MakeBook, migrated_url: str, refused_url: str
) -> None:
    """What waits in the outbox stays open, and reaches the next database."""
    book = make_book(migrated_url)
    book.open_for(failure(), "20261123T141502Z-3f9c2a")
    await book.drain(2.0)
    waiting = make_book(refused_url)
    waiting.open_for(failure("SERVICE_EXITED", "backend exited"), "20261123T141602Z-3f9c2b")
    assert waiting.counts()["open"] == 2
    waiting.forget_database()
    assert waiting.counts() == {"open": 1, "critical": 1}
    assert waiting.open_in_database() == []


async def test_an_outage_that_goes_on_stays_one_warning_until_a_deploy_finds_it_well(make_book: MakeBook) -> None:
    """A WARN of category API with every next step; a deploy that meets it again leaves it open, a good one ends it."""
    book = make_book()
    outcome = {
        "id": "external.openai",
        "code": "API_UNAVAILABLE",
        "evidence": ["OpenAI is out of order", "GET api.openai.com/v1/models answered 503"],
        "next_step": "see whether it has an outage",
        "next_steps": ["see whether it has an outage", "when it answers again: flawless deploy"],
    }
    first = book.warn_for(outcome, "20261123T141502Z-3f9c2a")
    assert first is not None
    again = book.warn_for(outcome, "20261123T151502Z-3f9c2a")
    book.resolve_for("20261123T151502Z-3f9c2a", [again or ""])
    assert (again, book.counts()) == (first, {"open": 1, "critical": 0})
    async with book.opened() as opened:
        [story] = await opened.store.stories(IdRange.of(first))
    assert (story.incident.severity, story.incident.category) == ("WARN", "API")
    assert story.incident.summary == "OpenAI is out of order"
    assert len(story.incident.next_steps) == 2
    book.resolve_for("20261123T161502Z-3f9c2a")
    assert book.counts() == {"open": 0, "critical": 0}
