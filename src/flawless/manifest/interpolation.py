"""`${NAME}`, `${NAME:-default}`, `${NAME:?message}` in a text; `$${` is a plain `${`. Defaults are not nested."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<inner>[^{}]*)(?P<end>[{}]?)")
_INNER: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<mark>:[-?])(?P<word>.*))?", re.ASCII | re.DOTALL)

FORM: Final = "${NAME}, ${NAME:-default} or ${NAME:?message}, nothing nested; $${ for the characters themselves"


@dataclass(frozen=True, slots=True)
class Missing:
    """A variable that a text needs and that is unset, or blank."""

    name: str
    message: str
    blank: bool


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A text with its variables put in, and what it took."""

    text: str
    names: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


def interpolate(template: str, value_of: Callable[[str], str | None]) -> Interpolated:
    """Puts the variables in. What is missing becomes empty and is listed. ValueError for what is no reference."""
    names: list[str] = []
    missing: list[Missing] = []

    def put_in(match: re.Match[str]) -> str:
        if match["inner"] is None:
            return "${"
        reference = _INNER.fullmatch(match["inner"]) if match["end"] == "}" else None
        if reference is None:
            raise ValueError(FORM)
        name, mark, word = reference["name"], reference["mark"], reference["word"]
        names.append(name)
        value = value_of(name)
        if mark == ":-":
            return value or word
        if value is None or not value.strip():
            missing.append(Missing(name, word or "", blank=value is not None))
        return value or ""

    text = _REFERENCE.sub(put_in, template)
    return Interpolated(text, tuple(dict.fromkeys(names)), tuple(missing))


def names_in(template: str) -> tuple[str, ...]:
    """The variables a text names; what is no reference names none."""
    try:
        return interpolate(template, lambda _: None).names
    except ValueError:
        return ()
