"""The manifest: `load` reads it once, everything else reads the `Manifest`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flawless.manifest.display import schema, to_display
    from flawless.manifest.environment import child_environment
    from flawless.manifest.loader import load
    from flawless.manifest.manifest import Manifest, Origin, Unresolved
    from flawless.manifest.reference import settings_reference
    from flawless.manifest.variables import Variable

__all__ = [
    "Manifest",
    "Origin",
    "Unresolved",
    "Variable",
    "child_environment",
    "load",
    "schema",
    "settings_reference",
    "to_display",
]

_HOMES: Final = {
    "Manifest": "manifest",
    "Origin": "manifest",
    "Unresolved": "manifest",
    "Variable": "variables",
    "child_environment": "environment",
    "load": "loader",
    "schema": "display",
    "settings_reference": "reference",
    "to_display": "display",
}


def __getattr__(name: str) -> Any:
    # On demand, because pydantic takes longer to import than `--help` may last, and `location` does not need it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
