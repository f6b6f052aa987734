"""How much is measured in a run: all of it or a short form, and beside whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peers import Peer


@dataclass(frozen=True, slots=True)
class Scope:
    short: bool
    peers: Sequence[type[Peer]]

    def rounds(self, full: int, short: int) -> int:
        return short if self.short else full
