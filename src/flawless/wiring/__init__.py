"""Builds everything from the manifest; the only importer of adapters."""

from flawless.wiring.stack import Stack

__all__ = ["Stack"]
