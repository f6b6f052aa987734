"""A run with services, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.kept import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A stage; and afterwards no task of it is left."""
    one = Stage()
    yield one
    await one.group.aclose()
    for _ in range(200):
        await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task)] == []
