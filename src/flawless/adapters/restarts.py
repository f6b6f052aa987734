"""What every process that may restart a service shares: the lock, and the budget that its keeper counts against too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from filelock import AsyncFileLock

from flawless.adapters.files import ensure_private_folder
from flawless.adapters.keeper.budget import Budget
from flawless.core.budget import Spent

_PAUSE: Final = 0.005
"""Seconds between two attempts: a lock of the system rings no bell."""


class RestartLedger:
    """Of one service, in the state folder of its stack."""

    def __init__(self, state: Path, service: str) -> None:
        self._lock = state / "lock" / f"restart-{service}.lock"
        self._budget = Budget(str(state / "run" / service), service)

    @asynccontextmanager
    async def held(self, limit: float) -> AsyncIterator[None]:
        """Raises TimeoutError."""
        ensure_private_folder(self._lock.parent)
        # Not in a thread: one that waits for a lock cannot be ended.
        lock = AsyncFileLock(self._lock, limit, mode=0o600, poll_interval=_PAUSE, run_in_executor=False)
        await lock.acquire()
        try:
            yield
        finally:
            await lock.release()

    def spent(self) -> Spent:
        restarts = self._budget.restarts()
        damage = self._budget.damage
        return Spent(restarts, f"what was counted before is lost: {damage}" if damage else None)

    def charge(self, restarts: Sequence[float]) -> None:
        self._budget.write(restarts)
