"""Commands of ours in a next step, so that pasting them asks the stack they are about: with its environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

_OF_A_STACK: Final = "check|config|db|deploy|doctor|incidents|lock|logs|ops|plan|reports|restart|rollback|start|status|stop|supervise|tunnel"
"""Verbs that act on a stack; `explain`, `init` and `version` are the same everywhere."""

_COMMAND: Final = re.compile(rf"(?<![\w/.-])flawless (?=(?:{_OF_A_STACK})\b)")
_STEPS: Final = frozenset({"next_step", "next_steps"})


def pasted(step: str, environment: str | None) -> str:
    """The step with the environment in each of its commands."""
    if not environment:
        return step
    return _COMMAND.sub(lambda found: f"{found[0]}-e {shlex.quote(environment)} ", step)


def for_environment(tree: Any, environment: str | None) -> Any:
    """A tree of JSON, in which every next step can be pasted as it stands."""
    if not environment:
        return tree
    match tree:
        case Mapping():
            return {key: _value(key, value, environment) for key, value in tree.items()}
        case list() | tuple():
            return [for_environment(item, environment) for item in tree]
        case _:
            return tree


def _value(key: Any, value: Any, environment: str) -> Any:
    if key not in _STEPS:
        return for_environment(value, environment)
    if isinstance(value, str):
        return pasted(value, environment)
    is_list = isinstance(value, Sequence)
    return [pasted(str(step), environment) for step in value] if is_list else value
