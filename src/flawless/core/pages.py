"""The page of each reason code: what it means, how it is found, what to do. Written down in `reasons.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from flawless.core.reason import Reason


@dataclass(frozen=True, slots=True)
class Page:
    """One reason code, told to a person. Commands in backticks can be pasted.

    `before` is what other tools show people in its place; None where that is not known.
    """

    code: Reason
    title: str
    meaning: str
    found: str
    steps: tuple[str, ...]
    example: str
    before: str | None = None

    @property
    def family(self) -> str:
        return self.code.partition("_")[0]

    @property
    def patience(self) -> str:
        """Whether waiting can help, in a sentence."""
        if self.code.permanent:
            return "Waiting cannot help: a gate that meets this ends at once."
        return "Waiting can help: a gate that meets this asks again until its deadline."


def page(code: str) -> Page:
    """The page of one code. Raises KeyError when there is no such code."""
    written = _written()[code]
    return Page(Reason(code), **{**written, "steps": tuple(written["steps"])})


def codes() -> tuple[str, ...]:
    """Every code that has a page, in the order of the families."""
    return tuple(_written())


@cache
def _written() -> dict[str, dict[str, Any]]:
    """The file, read once, and only by whoever asks: most commands never do."""
    import tomllib
    from importlib.resources import files

    return tomllib.loads((files("flawless.core") / "reasons.toml").read_text(encoding="utf-8"))
