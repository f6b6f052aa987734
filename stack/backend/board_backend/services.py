"""What the backend needs to work: each can be asked how it is, and repaired."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class State:
    """One answer: `latency` in seconds, `error` a reason code and a sentence, empty when all is well."""

    latency: float
    error: str = ""

    @property
    def healthy(self) -> bool:
        return not self.error


class Service(Protocol):
    async def ask(self) -> State: ...

    async def repair(self) -> State:
        """Do what may help, then ask; the answer is the asking's."""
        ...


class Storage:
    """The folder for files. Asked by writing one, so that a full or read-only disk is found out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def ask(self) -> State:
        return await asyncio.to_thread(self._write_probe)

    async def repair(self) -> State:
        """Asking makes a missing folder anew; more cannot be done from here."""
        return await self.ask()

    def _write_probe(self) -> State:
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "probe").write_bytes(b"probe")
        except OSError as fault:
            return State(time.monotonic() - started, f"STORAGE_UNWRITABLE: {fault.strerror}.")
        return State(time.monotonic() - started)
