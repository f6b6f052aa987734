"""Commands of ours in a next step, so that pasting them asks the very stack: its manifest, its environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

_OF_A_STACK: Final = (
    *("check", "config", "db", "deploy", "doctor", "incidents", "lock", "logs", "ops", "plan", "reports", "restart"),
    *("rollback", "start", "status", "stop", "supervise", "tunnel"),
)
"""Verbs that act on a stack; `explain`, `init` and `version` are the same everywhere."""

_COMMAND: Final = re.compile(rf"(?<![\w/.-])flawless (?=(?:{'|'.join(_OF_A_STACK)})\b)")
_STEPS: Final = frozenset({"next_step", "next_steps"})


def flags_of(config: str | None, environment: str | None) -> str:
    """The flags that name a stack which is not the default of its folder; "" for one that is."""
    words = [*(["-c", config] if config else []), *(["-e", environment] if environment else [])]
    return shlex.join(words)


def pasted(step: str, flags: str) -> str:
    """The step with these flags in each of its commands."""
    return _COMMAND.sub(lambda found: f"{found[0]}{flags} ", step) if flags else step


def with_flags(tree: Any, flags: str) -> Any:
    """A tree of JSON, in which every next step can be pasted as it stands."""
    if not flags:
        return tree
    match tree:
        case Mapping():
            return {key: _value(key, value, flags) for key, value in tree.items()}
        case list() | tuple():
            return [with_flags(item, flags) for item in tree]
        case _:
            return tree


def _value(key: Any, value: Any, flags: str) -> Any:
    if key not in _STEPS:
        return with_flags(value, flags)
    if isinstance(value, str):
        return pasted(value, flags)
    is_list = isinstance(value, Sequence)
    return [pasted(str(step), flags) for step in value] if is_list else value
