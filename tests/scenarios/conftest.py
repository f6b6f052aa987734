"""Each scenario deploys a stack of its own with the real command line."""

from __future__ import annotations

from support.memory_group import memory_group
from support.stacks import stack

__all__ = ["memory_group", "stack"]
