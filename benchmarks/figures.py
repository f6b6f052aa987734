"""What a benchmark yields: rows, each a figure beside its bar, its bound and the peers, measured in the same run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Unit(StrEnum):
    MILLISECONDS = "ms"
    SECONDS = "s"
    MEGABYTES = "MB"
    PERCENT = "%"
    RATE = "/s"
    TIMES = "x"
    COUNT = ""


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    UNJUDGED = "-"
    SKIPPED = "skipped"
    FAILED = "not measured"


@dataclass(frozen=True, slots=True)
class AtMost:
    limit: float

    def holds(self, figure: float) -> bool:
        return figure <= self.limit

    def to_json(self) -> dict[str, float]:
        return {"at_most": self.limit}


@dataclass(frozen=True, slots=True)
class AtLeast:
    limit: float

    def holds(self, figure: float) -> bool:
        return figure >= self.limit

    def to_json(self) -> dict[str, float]:
        return {"at_least": self.limit}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. The bar judges `ours`; `bound` is what nobody can beat, taken in the same run."""

    what: str
    unit: Unit
    ours: float | None
    """None when it was not measured; the note says why."""
    bar: AtMost | AtLeast | None = None
    bound: str = ""
    peers: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 1
    note: str = ""
    reason: str = ""
    """Why it is over its bar, where that is known; shown when it is."""
    failed: bool = False
    """Whether it should have been measured and could not be."""

    @property
    def verdict(self) -> Verdict:
        if self.ours is None:
            return Verdict.FAILED if self.failed else Verdict.SKIPPED
        if self.bar is None:
            return Verdict.UNJUDGED
        return Verdict.MET if self.bar.holds(self.ours) else Verdict.MISSED

    @property
    def ratio(self) -> float | None:
        """Our figure over the best peer's."""
        best = min(self.peers.values(), default=0.0)
        return self.ours / best if self.ours is not None and best > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "flawless": rounded(self.ours),
            "bar": None if self.bar is None else self.bar.to_json(),
            "bound": self.bound,
            "peers": {name: rounded(figure) for name, figure in self.peers.items()},
            "ratio": rounded(self.ratio),
            "rounds": self.rounds,
            "verdict": self.verdict,
            "note": self.note,
            "reason": self.reason if self.verdict is Verdict.MISSED else "",
        }


def percentile(figures: Sequence[float], share: float) -> float:
    """The smallest figure that at least this share of them does not exceed."""
    ranked = sorted(figures)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def rounded(figure: float | None) -> float | None:
    """Three significant digits, and every digit in front of the point."""
    if not figure:
        return figure
    return round(figure, max(0, 2 - math.floor(math.log10(abs(figure)))))


def text(figure: float | None) -> str:
    short = rounded(figure)
    return "-" if short is None else f"{short:,.0f}" if abs(short) >= 100 or short == int(short) else f"{short:g}"
