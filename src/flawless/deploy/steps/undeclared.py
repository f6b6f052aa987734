"""Phases whose interfaces are not declared, or not supported yet: never silent, never a pass."""

from __future__ import annotations

from dataclasses import dataclass

from flawless.core.check import Finding, Skipped

NOT_DECLARED = "not declared"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A part of the manifest that is declared and cannot be asked here: it makes the deploy partial."""

    id: str
    claim: str
    because: str
    optional: bool = False
    declared: bool = True

    def finding(self) -> Finding:
        return Finding(self.id, self.claim, Skipped(self.because, declared=self.declared), 0.0, self.optional)
