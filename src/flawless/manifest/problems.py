"""pydantic's errors and broken rules in the words of `Problem`: never a secret, always a place."""

from __future__ import annotations

import datetime as dt
import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flawless.core.duration import DURATION_FORM, SIZE_FORM, format_duration
from flawless.core.errors import Problem
from flawless.core.secret import MASK, Secret
from flawless.core.settings import EMBEDDED
from flawless.manifest.interpolation import Missing
from flawless.manifest.keys import Keys, look_up, to_dotted
from flawless.manifest.manifest import Origin
from flawless.manifest.outline import Location, field_at, holds_secret, known_names, range_of, words_of
from flawless.manifest.rules import Breach
from flawless.manifest.variables import has_credentials, hide_credentials, is_secret_name

_LENGTH: Final = 60
# A shorter secret would tear holes into ordinary words; where it stands as a value it is masked by its place.
_SHORTEST: Final = 4
_ALLOWED: Final = {
    "missing": "it is required",
    "string_type": "a text in quotes",
    "model_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
    "too_short": "at least one item",
    "string_too_short": "a text that is not empty",
}


@dataclass(frozen=True, slots=True)
class Source:
    """What a problem needs to be told: the values, where they came from, what must not be shown."""

    data: Mapping[str, Any]
    origins: Mapping[Keys, Origin]
    missing: Mapping[Keys, tuple[Missing, ...]]
    masked: Collection[Keys]
    secrets: Collection[Secret]

    def problem(self, keys: Keys, found: str, allowed: str, suggestion: str = "") -> Problem:
        """A problem at these keys, with its file and line, and every known secret taken out."""
        origin = self._nearest(keys)
        path = origin.variables[0] if origin and origin.file and origin.line is None else to_dotted(keys)
        problem = Problem(path, self._hide(found), self._hide(allowed), self._hide(suggestion) or None)
        return replace(problem, file=origin.file, line=origin.line) if origin else problem

    def describe(self, keys: Keys, location: Location) -> str:
        """The value at these keys in a few words, or why there is none."""
        missing = self.missing.get(keys)
        if missing:
            return f"nothing: {missing[0].name} is {'blank' if missing[0].blank else 'not set'}"
        value = look_up(self.data, keys)
        if self.is_masked(keys, location) and isinstance(value, (str, int, float)):
            return f"{_kind(value)} {MASK}"
        return _shown(value)

    def is_masked(self, keys: Keys, location: Location) -> bool:
        """Whether the value at these keys is, holds, or by its name must be a secret."""
        name = next((key for key in reversed(keys) if isinstance(key, str)), "")
        return keys in self.masked or holds_secret(location) or is_secret_name(name)

    def _nearest(self, keys: Keys) -> Origin | None:
        return next((self.origins[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self.origins), None)

    def _hide(self, text: str) -> str:
        for secret in self.secrets:
            if len(secret.reveal()) >= _SHORTEST and secret.reveal() != EMBEDDED:
                text = text.replace(secret.reveal(), MASK)
        return hide_credentials(text)


def to_problems(error: ValidationError, source: Source) -> list[Problem]:
    """One problem for each of pydantic's errors."""
    return [_to_problem(detail, source) for detail in error.errors(include_url=False, include_input=False)]


def breach_to_problem(breach: Breach, source: Source) -> Problem:
    """A broken rule with its place."""
    missing = source.missing.get(breach.keys)
    found = source.describe(breach.keys, breach.keys) if missing else breach.found
    return source.problem(breach.keys, found, breach.allowed, breach.suggestion)


def _to_problem(detail: ErrorDetails, source: Source) -> Problem:
    location = detail["loc"]
    keys = _keys_of(location, source)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(keys, location, source)
        case "missing":
            return source.problem(keys, "nothing", _ALLOWED["missing"])
        case "refused":
            found = context["found"] or source.describe(keys, location)
            allowed = context["allowed"]
            if allowed in (DURATION_FORM, SIZE_FORM):
                allowed = ", ".join(filter(None, (allowed, _range(location, context))))
            suggestion = "" if source.is_masked(keys, location) else context["suggestion"]
            return source.problem(keys, found, allowed, suggestion)
        case "enum" | "literal_error":
            return _unknown_word(keys, location, source)
        case "string_pattern_mismatch":
            key = location[-1] == "[key]"
            found = f'the name "{keys[-1]}"' if key else source.describe(keys, location)
            return source.problem(keys, found, f"it must match {context['pattern']}")
        case "greater_than_equal" | "less_than_equal":
            return source.problem(keys, source.describe(keys, location), f"allowed is {_range(location, context)}")
        case kind:
            allowed = _ALLOWED.get(kind, detail["msg"])
            value = look_up(source.data, keys)
            number = kind == "string_type" and type(value) in (int, float) and not source.is_masked(keys, location)
            suggestion = f'write "{value}"' if number else ""
            return source.problem(keys, source.describe(keys, location), allowed, suggestion)


def _keys_of(location: Location, source: Source) -> Keys:
    """A location without pydantic's tags, and without the index of what is written as one value, not as a list."""
    keys = tuple(key for key in location if isinstance(key, int) or not _is_tag(key))
    alone = keys and isinstance(keys[-1], int) and not isinstance(look_up(source.data, keys[:-1]), list)
    return keys[:-1] if alone else keys


def _unknown_key(keys: Keys, location: Location, source: Source) -> Problem:
    names = known_names(location[:-1])
    suggestion = _close(str(keys[-1]), names, "did you mean {}?")
    return source.problem(keys, "unknown key", f"known here: {', '.join(names)}", suggestion)


def _unknown_word(keys: Keys, location: Location, source: Source) -> Problem:
    field = field_at(location)
    words = words_of(field.annotation) if field else []
    value = look_up(source.data, keys)
    suggestion = _close(value, words, 'did you mean "{}"?') if isinstance(value, str) else ""
    return source.problem(keys, source.describe(keys, location), f"one of {', '.join(words)}", suggestion)


def _range(location: Location, context: Mapping[str, Any]) -> str:
    """The whole range where the field says it; of an item of a list only the bound that it crossed."""
    field = field_at(location)
    if field is not None:
        return range_of(field)
    bounds = {"ge": "at least", "le": "at most"}
    return "".join(f"{word} {format_duration(context[key])}" for key, word in bounds.items() if key in context)


def _close(word: str, words: Collection[str], form: str) -> str:
    close = difflib.get_close_matches(word, words, 1)
    return form.format(close[0]) if close else ""


def _is_tag(key: str) -> bool:
    return key == "[key]" or (key.startswith("<") and key.endswith(">"))


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a switch"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a table"
        case dt.date() | dt.time():
            return "a date"
        case _:
            return "nothing"


def _shown(value: object) -> str:
    if isinstance(value, str) and has_credentials(value):
        return f"a text {MASK}"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _LENGTH else text[:_LENGTH] + '..."'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) > 10**15:
        return "a number far too large"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return _kind(value)
