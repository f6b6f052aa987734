"""Where a value stands in the manifest: ("services", "backend", "ready", 0) is services.backend.ready[0]."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

Keys: TypeAlias = tuple[str | int, ...]


def to_dotted(keys: Keys) -> str:
    """As people write it; a key that is no bare word is quoted."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if re.fullmatch(r"[\w-]+", key) else f'"{key}"')
    return text


def walk(tree: Any) -> Iterator[tuple[Keys, Any]]:
    """Every value of a tree of tables and lists with its keys, outer ones first, without recursion."""
    waiting: list[tuple[Keys, Any]] = [((), tree)]
    while waiting:
        keys, value = waiting.pop()
        yield keys, value
        if isinstance(value, dict):
            waiting.extend(((*keys, key), item) for key, item in reversed(value.items()))
        elif isinstance(value, list):
            waiting.extend(((*keys, index), item) for index, item in reversed(list(enumerate(value))))


def look_up(tree: Any, keys: Keys) -> Any:
    """The value at these keys; None where there is none."""
    for key in keys:
        in_table = isinstance(tree, dict) and key in tree
        in_list = isinstance(tree, list) and isinstance(key, int) and key < len(tree)
        if not in_table and not in_list:
            return None
        tree = tree[key]
    return tree
