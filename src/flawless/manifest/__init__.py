"""The manifest: `load` reads it once, everything else reads the `Manifest`."""

from __future__ import annotations

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
