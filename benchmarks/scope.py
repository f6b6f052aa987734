"""How much is measured in a run: all of it or a short form, and beside whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from peers import Peer
from world import TooSlowError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scope:
    short: bool
    peers: Sequence[type[Peer]]

    def rounds(self, full: int, short: int) -> int:
        return short if self.short else full

    def beside(self, work: Callable[[type[Peer]], T], which: Callable[[type[Peer]], bool] = bool) -> dict[str, T]:
        """The figure of each peer; one that breaks down has none, and is said to."""
        found = {}
        for peer in filter(which, self.peers):
            try:
                found[peer.name] = work(peer)
            except (TooSlowError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                sys.stderr.write(f"{peer.name}: no figure: {error}\n")
        return found
