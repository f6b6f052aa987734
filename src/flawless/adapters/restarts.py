"""What every process that may restart a service shares: the lock, and the budget that its keeper counts against too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from flawless.adapters.files import ensure_private_folder
from flawless.adapters.keeper.budget import Budget
from flawless.core.budget import Spent

_PAUSE: Final = 0.005
"""Seconds between two attempts: a lock of the system rings no bell, and a thread waiting for it cannot be ended."""


class RestartLedger:
    """Of one service, in the state folder of its stack."""

    def __init__(self, state: Path, service: str) -> None:
        self._lock = state / "lock" / f"restart-{service}.lock"
        self._budget = Budget(str(state / "run" / service), service)

    @asynccontextmanager
    async def held(self, limit: float) -> AsyncIterator[None]:
        """Raises TimeoutError."""
        ensure_private_folder(self._lock.parent)
        lock = FileLock(self._lock, mode=0o600, is_singleton=False, thread_local=False)
        await _acquire(lock, time.monotonic() + limit)
        try:
            yield
        finally:
            lock.release()

    def spent(self) -> Spent:
        restarts = self._budget.restarts()
        damage = self._budget.damage
        return Spent(restarts, f"what was counted before is lost: {damage}" if damage else None)

    def charge(self, restarts: Sequence[float]) -> None:
        self._budget.write(restarts)


async def _acquire(lock: FileLock, deadline: float) -> None:
    while True:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if time.monotonic() >= deadline:
                raise TimeoutError("the lock is held by somebody else") from None
            await asyncio.sleep(_PAUSE)
        else:
            return
