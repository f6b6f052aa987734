"""Whether the kernel killed for want of memory in our control group (cgroups(7), `oom_kill`)."""

from __future__ import annotations

import sys


def oom_kills() -> int | None:
    """How often it did so far; None where that cannot be known."""
    if sys.platform != "linux":
        return None
    for path in _counters():
        count = oom_kills_in(path)
        if count is not None:
            return count
    return None


def oom_kills_in(path: str) -> int | None:
    """The same of one group's `memory.events` or `memory.oom_control`: a name and a number a line."""
    try:
        with open(path, encoding="ascii") as file:
            counts = dict(line.split() for line in file)
        return int(counts["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def _counters() -> list[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    unified = [f"/sys/fs/cgroup{path}/memory.events" for number, _, path in groups if number == "0"]
    legacy = [
        f"/sys/fs/cgroup/memory{path}/memory.oom_control" for _, names, path in groups if "memory" in names.split(",")
    ]
    return unified + legacy
