"""What is measured, a module each; each yields its rows as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from figures import Row
from scope import Scope
from subjects import (
    commands,
    deploying,
    failing,
    output,
    redacting,
    respawning,
    starting,
    stopping,
    survival,
    weight,
    writers,
)

SUBJECTS: Final[Mapping[str, Callable[[Scope], Iterator[Row]]]] = {
    "starting": starting.measure,
    "deploying": deploying.measure,
    "failing": failing.measure,
    "commands": commands.measure,
    "respawning": respawning.measure,
    "stopping": stopping.measure,
    "output": output.measure,
    "writers": writers.measure,
    "redacting": redacting.measure,
    "weight": weight.measure,
    "survival": survival.measure,
}
