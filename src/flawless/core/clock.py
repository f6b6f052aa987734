"""Time as a seam: nothing else in the product reads a clock or sleeps."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Deadlines use `monotonic`, which a jump of the wall clock does not touch."""

    def now(self) -> datetime:
        """The wall clock, in UTC. For people to read, never for deadlines."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`. Gates call this; nobody else waits."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def to_stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-23T14:15:02.123Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_stamp(text: str) -> datetime:
    """The moment `to_stamp` wrote."""
    return datetime.fromisoformat(text)
