"""Builds everything from the manifest; the only importer of adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flawless.wiring.stack import Stack

__all__ = ["Stack"]


def __getattr__(name: str) -> Any:
    # On demand, because a stack needs pydantic, which takes longer to import than `status` may last.
    if name != "Stack":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flawless.wiring.stack import Stack

    return Stack
