"""Reading one file of the manifest: its limits, its syntax, its lines."""

from __future__ import annotations

import errno
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flawless.core.errors import ConfigInvalid, Problem
from flawless.manifest.keys import Keys, walk
from flawless.manifest.lines import find_lines, nesting_of

SIZE_LIMIT: Final = 256 * 1024
DEPTH_LIMIT: Final = 32


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file as it is written, with the line of every key."""

    name: str
    data: dict[str, Any]
    lines: dict[Keys, int]


def read_document(path: Path, name: str) -> Document:
    """Reads one TOML file. ConfigInvalid, with line and column, when it cannot be read."""
    text = read_text(path, name)
    _refuse_depth(nesting_of(text), name)
    data = _parse(text, name)
    _refuse_depth(max(len(keys) for keys, _ in walk(data)), name)
    return Document(name, data, find_lines(text))


def read_text(path: Path, name: str) -> str:
    """A regular UTF-8 file within the limit of size; ConfigInvalid for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise refuse(name, "a directory" if path.is_dir() else "no regular file", "a file is needed")
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise refuse(name, _reason(error), "a file that can be read is needed") from None
    if len(raw) > SIZE_LIMIT:
        raise refuse(name, f"more than {SIZE_LIMIT // 1024} KiB", f"at most {SIZE_LIMIT // 1024} KiB are read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refuse(name, f"a byte that is not UTF-8 ({raw[error.start]:#04x})", "UTF-8 is needed", line) from None


def refuse(name: str, found: str, allowed: str, line: int | None = None) -> ConfigInvalid:
    """A file that cannot be read at all: its one problem."""
    problem = Problem(path=name, found=found, allowed=allowed, file=name, line=line)
    return ConfigInvalid([problem], cause=f"{name} cannot be read: {found}")


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error).replace("(at end of document)", _end_of(text))
        place = re.search(r"\(at line (\d+), column \d+\)", message)
        line = int(place[1]) if place else None
        raise refuse(name, f"a syntax error: {message}", "TOML is needed (https://toml.io)", line) from None
    except ValueError:  # of int() or datetime, which tomllib lets through; their words quote the value
        raise refuse(name, "a number or a date that cannot be", "TOML is needed (https://toml.io)") from None


def _end_of(text: str) -> str:
    return f"(at line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))})"


def _refuse_depth(depth: int, name: str) -> None:
    if depth > DEPTH_LIMIT:
        raise refuse(name, f"{depth} levels of nesting", f"at most {DEPTH_LIMIT} levels are read")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "a path that no file can have"
    match error.errno:
        case errno.ENOENT:
            return "no such file"
        case errno.EACCES | errno.EPERM:
            return "no right to read it"
        case errno.ELOOP:
            return "a loop of symbolic links"
        case _:
            return error.strerror or type(error).__name__
