"""docs/settings.md, made of the models, so that it cannot say what is not so."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flawless.core.duration import format_duration, format_size
from flawless.core.secret import Secret
from flawless.manifest.loader import TIMEOUT
from flawless.manifest.outline import Entry, Shape, outline, range_of, words_of

_HEAD: Final = """\
# Settings

Every key of `flawless.toml`. This page is generated from the settings themselves.

`${NAME}`, `${NAME:-default}` and `${NAME:?message}` are read from the process environment and the `.env` files; the
process environment wins, then the last file. `$${` stands for `${`. Defaults are not nested, and a value in a `.env`
file is taken as it is written. `FLAWLESS_PYTHON` is the interpreter Flawless runs on, unless it is set.
Durations are texts ("30s", "1m30s", "500ms") or numbers of seconds; sizes are texts ("10MB", "10MiB") or bytes.
`flawless.<environment>.toml` is laid over it with `-e`: tables are merged, everything else is replaced.
The file is at most 256 KiB and 32 levels deep. An unknown key is an error.
"""
_SIMPLE: Final = {str: "text", bool: "true or false", float: "duration", Secret: "secret", Any: "any JSON"}


def settings_reference() -> str:
    """The whole page: every key with its type, default, range and meaning."""
    tables: dict[Shape, list[Entry]] = {}
    for entry in outline():
        # `live` takes the same probes as `ready`, which has said them already.
        if entry.shape[2:3] != ("live",) or len(entry.shape) == 3:
            tables.setdefault(entry.shape[:-1], []).append(entry)
    return "\n".join([_HEAD, *(line for shape, entries in tables.items() for line in _table(shape, entries))])


def _table(shape: Shape, entries: list[Entry]) -> Iterator[str]:
    yield f"## {_heading(shape)}"
    yield ""
    yield "| key | type | default | range | meaning |"
    yield "|---|---|---|---|---|"
    for entry in entries:
        yield f"| {' | '.join(_cell(text) for text in _row(entry))} |"
    yield ""


def _row(entry: Entry) -> tuple[str, str, str, str, str]:
    meaning = entry.field.description or ""
    if entry.shape[0] == "timeouts" and len(entry.shape) == 2:
        meaning += f" `{TIMEOUT}{entry.name.upper()}`"
    return (
        f"`{entry.name}`",
        _type(entry.field.annotation, entry.field),
        _default(entry.field),
        range_of(entry.field),
        meaning,
    )


def _heading(shape: Shape) -> str:
    if not shape:
        return "The top of the file"
    parts = [{"*": "<name>", "[]": ""}.get(part, part) for part in shape if not part.startswith("<")]
    kind = f", {shape[-1].strip('<>')}" if shape[-1].startswith("<") else ""
    item = "an item of " if "[]" in shape else ""
    return f"{item}`[{'.'.join(part for part in parts if part)}]`{kind}"


def _type(annotation: Any, field: FieldInfo) -> str:
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if annotation is int:
        return "size" if range_of(field) else "whole number"
    if words := words_of(annotation):
        return ", ".join(f"`{word}`" for word in words)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _compound(annotation, field)


def _compound(annotation: Any, field: FieldInfo) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], field)
    if origin is tuple:
        return f"list: {_type(arguments[0], field)}"
    if origin is dict:
        return f"table: {_type(arguments[1], field)}"
    if origin is Literal:
        return "true"
    kinds = dict.fromkeys(_type(argument, field) for argument in arguments if argument is not type(None))
    return " or ".join(kinds) if kinds else "table"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None | "" | () | dict() | BaseModel() | Secret():
            return ""
        case bool():
            return "`true`" if field.default else "`false`"
        case tuple():
            return "`[" + ", ".join(_written(item) for item in field.default) + "]`"
        case Enum():
            return f'`"{field.default.value}"`'
        case int() if range_of(field):
            return f'`"{format_size(field.default)}"`'
        case _:
            return f"`{_written(field.default)}`"


def _written(value: Any) -> str:
    return (
        f'"{format_duration(value)}"'
        if isinstance(value, float)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
