"""Who looks after a process that is not ours: a value, because refusing a fight begins with naming the other side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Supervision:
    """Something that would start the process again if it were stopped. `stop`: the command that asks it to."""

    by: str
    unit: str
    stop: str

    def __str__(self) -> str:
        return f"{self.by} runs it as {self.unit}"
