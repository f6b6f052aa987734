"""A page and a story are index walks, however many incidents there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from flawless.incidents import postgres
from support.incidents import MANY

pytestmark = pytest.mark.anyio

LAST = UUID(int=(1 << 128) - 1)
MIDDLE = UUID(int=50_000)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_every_reading_statement_uses_an_index(migrated_url: str) -> None:
    """Of 100,000 incidents, most of them resolved, none is read that is not shown: no scan, no sort of a table."""
    statements = {
        postgres.OPEN_PAGE: (LAST, 20),
        postgres.RESOLVED_PAGE: (MIDDLE, 20),
        postgres.IS_RESOLVED: (MIDDLE,),
        postgres.BY_ID: (MIDDLE, MIDDLE),
        postgres.EVENTS: ([MIDDLE],),
        postgres.CONSEQUENCES: ([MIDDLE],),
        postgres.BATCH: (MIDDLE, 20),
    }
    connection = await asyncpg.connect(migrated_url)
    try:
        for statement in MANY:
            await connection.execute(statement, 100_000) if "$1" in statement else await connection.execute(statement)
        for asked, arguments in statements.items():
            [[text]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}", *arguments)
            [explained] = json.loads(text)
            kinds = {node["Node Type"] for node in nodes(explained["Plan"])}
            assert not kinds & {"Seq Scan", "Gather"}, (asked, kinds)
            read = max(node["Actual Rows"] for node in nodes(explained["Plan"]))
            assert read <= 21, (asked, read)
    finally:
        await connection.close()
