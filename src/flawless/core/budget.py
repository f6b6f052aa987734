"""How often something was restarted, as it stands on disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall times of the restarts made, seconds since the epoch. `damage`: why they may not be all."""

    restarts: tuple[float, ...]
    damage: str | None = None
