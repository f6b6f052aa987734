"""Lengths of time and amounts of bytes, as people write them: "30s", "1m30s", "500ms", "10MB"."""

from __future__ import annotations

import math
import re
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

_SIZE_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE: Final = re.compile(r"(\d{1,12}) ?([KMG]I?B|B)?", re.ASCII | re.IGNORECASE)

DURATION_FORM: Final = 'a duration such as "30s", "2m", "500ms", or a number of seconds'
SIZE_FORM: Final = 'a size such as "10MB", "512KiB", or a number of bytes'


def parse_duration(value: object) -> float:
    """Seconds, from "1m30s" (units ms, s, m, h, d) or a number of seconds. ValueError for everything else."""
    match value:
        case bool():
            raise ValueError(DURATION_FORM)
        case int() | float():
            return _finite(value)
        case str():
            return _finite(_seconds(value.strip()))
        case _:
            raise ValueError(DURATION_FORM)


def format_duration(seconds: float) -> str:
    """The shortest way to write it in one unit: 90.0 is "90s", 120.0 is "2m", 0.25 is "250ms"."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _UNITS[unit] and (seconds % _UNITS[unit] == 0):
            return f"{int(seconds / _UNITS[unit])}{unit}"
    if seconds == 0:
        return "0s"
    milliseconds = round(seconds * 1000, 6)
    return f"{int(milliseconds)}ms" if milliseconds == int(milliseconds) else f"{seconds:f}s"


def parse_size(value: object) -> int:
    """Bytes, from "10MB" (powers of 1000), "10MiB" (powers of 1024) or a number. ValueError for everything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    form = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if form is None:
        raise ValueError(SIZE_FORM)
    return int(form[1]) * _SIZE_UNITS[(form[2] or "B").upper()]


def format_size(size: int) -> str:
    """10_000_000 is "10MB"; what is no round number is said in bytes."""
    for unit in ("GB", "MB", "KB", "GiB", "MiB", "KiB"):
        if size >= _SIZE_UNITS[unit.upper()] and size % _SIZE_UNITS[unit.upper()] == 0:
            return f"{size // _SIZE_UNITS[unit.upper()]}{unit}"
    return f"{size}B"


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _FORM.fullmatch(text):
        raise ValueError(DURATION_FORM)
    return math.fsum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))


def _finite(value: float) -> float:
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(DURATION_FORM) from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(DURATION_FORM)
    return seconds
