"""Each scenario deploys a stack of its own with the real command line."""

from __future__ import annotations

from support.stacks import stack

__all__ = ["stack"]
