"""The shape of the settings: every key with its model's field, for refusals, secrets and the reference."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from flawless.core.duration import format_duration, format_size
from flawless.core.secret import Secret
from flawless.core.settings import Settings

ANY_NAME: Final = "*"
ANY_ITEM: Final = "[]"
Shape: TypeAlias = tuple[str, ...]
Location: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the manifest. In its shape `*` stands for a name and `[]` for an item of a list."""

    shape: Shape
    field: FieldInfo

    @property
    def name(self) -> str:
        return self.shape[-1]


@functools.cache
def outline() -> tuple[Entry, ...]:
    """Every key there is, tables before what is in them."""
    return tuple(_entries(Settings, ()))


def fits(location: Location, shape: Shape) -> bool:
    """Whether a real place has this shape."""
    return len(location) == len(shape) and all(
        part == ANY_ITEM if isinstance(key, int) else part in (key, ANY_NAME)
        for key, part in zip(location, shape, strict=True)
    )


def known_names(location: Location) -> list[str]:
    """The keys that a table takes; `location` may carry the tag of a kind of probe."""
    return [entry.name for entry in outline() if fits(location, entry.shape[:-1])]


def field_at(location: Location) -> FieldInfo | None:
    """The field at a place."""
    return next((entry.field for entry in outline() if fits(location, entry.shape)), None)


def range_of(field: FieldInfo) -> str:
    """The range of a duration or a size, "" where there is none."""
    bounds = [getattr(item, name) for name in ("ge", "le") for item in field.metadata if hasattr(item, name)]
    if len(bounds) != 2:
        return ""
    form = format_size if field.annotation is int else format_duration
    return f"{form(bounds[0])} to {form(bounds[1])}"


def words_of(annotation: Any) -> list[str]:
    """The words a value may be, where it is one of a few."""
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation) if isinstance(one, Enum)]
    return [str(one) for one in annotation] if isinstance(annotation, type) and issubclass(annotation, Enum) else []


@functools.cache
def secret_shapes() -> tuple[Shape, ...]:
    """Where secrets stand."""
    return tuple(
        entry.shape + suffix
        for entry in outline()
        for kind, suffix in _leaves(entry.field.annotation)
        if kind is Secret
    )


def holds_secret(location: Location) -> bool:
    """Whether the value at a place is a secret whatever it is."""
    return any(fits(location, shape) for shape in secret_shapes())


def _entries(model: type[BaseModel], above: Shape) -> Iterator[Entry]:
    for name, field in model.model_fields.items():
        shape = (*above, field.alias or name)
        yield Entry(shape, field)
        for kind, suffix in _leaves(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _entries(kind, shape + suffix)


def _leaves(annotation: Any) -> Iterator[tuple[Any, Shape]]:
    """The types an annotation is made of, with the way to them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        tag: Shape = tuple(item.tag for item in arguments[1:] if isinstance(item, Tag))
        for kind, suffix in _leaves(arguments[0]):
            yield kind, tag + suffix
    elif origin is dict:
        yield from ((kind, (ANY_NAME, *suffix)) for kind, suffix in _leaves(arguments[1]))
    elif origin is tuple:
        yield from ((kind, (ANY_ITEM, *suffix)) for kind, suffix in _leaves(arguments[0]))
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _leaves(argument)
    else:
        yield annotation, ()
