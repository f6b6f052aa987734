"""Immutable values for a program of few megabytes: NamedTuple, without the module typing, a tenth of a keeper."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Value
else:

    class _Meta(type):
        def __new__(cls, name, bases, body):  # noqa: ANN001, ANN204 - the type checker reads the other branch
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = list(body.pop("__annotations__"))
            defaults = [body.pop(field) for field in fields if field in body]
            fast = namedtuple(name, fields, defaults=defaults)  # noqa: PYI024 - this is the typed one, see above
            return type(name, (fast,), {"__slots__": ()} | body)

    class Value(metaclass=_Meta):
        """A class with annotated fields becomes a named tuple."""


__all__ = ["Value"]
