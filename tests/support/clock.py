"""A clock that a test turns by hand, or that turns itself as soon as everybody waits for it. Nothing really sleeps."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

_TURNS = 40
"""Turns of the loop in which whatever can go on without time passing goes on; only then does time pass."""


class ManualClock:
    """Virtual time. `sleep` lets every other task run until all of them wait, then jumps to the next bell.

    `now` is apart from `monotonic`, so that a test can turn the wall clock alone.
    """

    def __init__(self, now: datetime = datetime(2026, 11, 23, 14, 15, 2, 123000, tzinfo=UTC)) -> None:
        self.wall = now
        self.slept: list[float] = []
        self._elapsed = 0.0
        self._bells: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._turner: asyncio.Task[None] | None = None

    def now(self) -> datetime:
        return self.wall + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._bells, (self._elapsed + max(seconds, 0.0), self._count, bell))
        if self._turner is None or self._turner.done():
            self._turner = asyncio.ensure_future(self._turn())
        await bell

    def jump_wall(self, seconds: float) -> None:
        """The wall clock is set anew; the time that has passed is not changed by it."""
        self.wall += timedelta(seconds=seconds)

    async def _turn(self) -> None:
        """Rings one bell after the other until nobody sleeps any more."""
        while True:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            self._bells = [bell for bell in self._bells if not bell[2].done()]
            heapq.heapify(self._bells)
            if not self._bells:
                return
            at, _, bell = heapq.heappop(self._bells)
            self._elapsed = max(self._elapsed, at)
            bell.set_result(None)
