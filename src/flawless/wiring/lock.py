"""The deploy lock, for whoever wants to look at it or tidy up behind a holder that died."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flawless.adapters.locks import DeployLock, Holder
from flawless.wiring.status import outline_of


@dataclass(frozen=True, slots=True)
class LockView:
    """The lock and the note beside it. `holder` holds it now; `note` may be a dead holder's."""

    folder: Path

    @classmethod
    def of(cls, config: Path | None, environment: str | None) -> LockView:
        """That of the stack we stand in. Raises ConfigInvalid."""
        return cls(outline_of(config, environment).state / "lock")

    def holder(self) -> Holder | None:
        return DeployLock(self.folder).holder()

    def note(self) -> Holder | None:
        """None where there is none, or none that can be read."""
        try:
            return Holder(**json.loads((self.folder / "deploy.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def clear(self, now: datetime) -> None:
        """Takes the lock for a moment, which replaces the dead holder's note and removes it. Raises LockHeld."""
        with DeployLock(self.folder).held("flawless lock release", now):
            pass
