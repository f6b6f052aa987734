"""When two faults are the same: stack, category, code and subject; never the time, a pid or an id.

The subject is the cause's sentence without what differs from one time to the next. Services, hosts, ports, variables
and files stay in it, because those are what the fault is about.
"""

from __future__ import annotations

import hashlib
import re

_VOLATILE = (
    r"\d{8}T\d{6}\d*Z(-[0-9a-f]{6})?",  # deploy ids, report stamps
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?",
    r"(?<![\w.:-])([01]\d|2[0-3]):[0-5]\d(:\d\d(\.\d+)?)?(?![\w:-])",
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    r"(?<![\w.-])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}(?!\.?[\w-])",  # digests, not the names of hosts
    r"\b0x[0-9a-f]+\b",
    r"\bpids? \d+(, \d+)*",
    r"(?<![\w.:])\d+(\.\d+)? ?(ms|milliseconds?|s|seconds?|min|minutes?|h|hours?|d|days?|%|[KMG]i?B)(?!\w)",
)
_REMOVED = re.compile("|".join(f"(?:{pattern})" for pattern in _VOLATILE), re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"(?<![\w.:/-])(?<!port )(?<!ports )\d+(?![\w.:-])", re.ASCII)
_LONGEST = 300


def subject_of(cause: str) -> str:
    """What the cause is about: "backend exited with 3 after 2.1 s, pid 812" is "backend exited with # after ~, ~"."""
    return " ".join(_COUNT.sub("#", _REMOVED.sub("~", cause)).split())[:_LONGEST]


def fingerprint(*parts: str) -> str:
    """32 hexadecimal digits for stack, category, code and subject; usable as a file's name."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
