"""The JSON form of an answer: one document on standard output, and nothing else there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 1


def write(document: Mapping[str, Any]) -> None:
    """One document; it says its schema's version first."""
    versioned = {"schema_version": SCHEMA_VERSION, **document}
    sys.stdout.write(json.dumps(versioned, indent=2, ensure_ascii=True) + "\n")
    sys.stdout.flush()
