"""Recovery on request: repair what is unhealthy, ask again, keep a history that survives a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .services import Service, State

Attempt = dict[str, Any]
"""One repair as it is kept and answered: service, timestamp, success, and the error when there is one."""

HISTORY = 20


class Recovery:
    def __init__(self, services: Mapping[str, Service], file: Path) -> None:
        self.services = services
        self._file = file
        self._one_at_a_time = asyncio.Lock()

    @property
    def running(self) -> bool:
        return self._one_at_a_time.locked()

    async def ask(self) -> dict[str, State]:
        states = await asyncio.gather(*(service.ask() for service in self.services.values()))
        return dict(zip(self.services, states, strict=True))

    async def attempt(self) -> list[Attempt]:
        """Repair every service that is unhealthy now. `success` is what it said afterwards, not that it was tried."""
        async with self._one_at_a_time:
            unhealthy = [name for name, state in (await self.ask()).items() if not state.healthy]
            attempts = [_attempt(name, await self.services[name].repair()) for name in unhealthy]
            self._remember(attempts)
            return attempts

    def history(self) -> list[Attempt]:
        """The last attempts, oldest first."""
        with suppress(OSError, ValueError):
            kept: list[Attempt] = json.loads(self._file.read_text("utf-8"))
            return kept
        return []

    def stats(self) -> dict[str, Any]:
        """Counted over the kept history."""
        history = self.history()
        successful = sum(attempt["success"] for attempt in history)
        return {
            "total": len(history),
            "successful": successful,
            "failed": len(history) - successful,
            "successRate": successful / len(history) if history else None,
            "byService": Counter(attempt["service"] for attempt in history),
            "isRecovering": self.running,
        }

    def _remember(self, attempts: list[Attempt]) -> None:
        """Written aside and renamed, so that a reader never sees half of it."""
        if not attempts:
            return
        aside = self._file.with_suffix(".new")
        try:
            aside.write_text(json.dumps([*self.history(), *attempts][-HISTORY:]), "utf-8")
            aside.replace(self._file)
        except OSError as fault:  # a full disk may be the very thing that is being repaired
            logging.getLogger(__name__).warning("The recovery history was not kept: %s", fault.strerror)


def _attempt(name: str, state: State) -> Attempt:
    outcome: Attempt = {"service": name, "timestamp": datetime.now(UTC).isoformat(), "success": state.healthy}
    return outcome if state.healthy else {**outcome, "error": state.error}
