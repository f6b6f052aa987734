"""Variables: the `.env` files, the process environment, which of them wins, which of them are secrets."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.core.errors import ConfigInvalid, Problem
from flawless.core.secret import MASK, Secret
from flawless.manifest.document import read_text

PROCESS: Final = "process environment"
_SECRET: Final = ("*KEY", "*SECRET", "*TOKEN", "*PASSWORD")
_KNOWN_PUBLIC: Final = ("NEXT_PUBLIC_*", "*PUBLISHABLE*", "*PUBLIC_KEY*")
_CREDENTIALS: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/?#]*@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable with the place that gave it, and the places that lost."""

    value: str | Secret
    source: str
    overridden: tuple[str, ...] = ()

    def reveal(self) -> str:
        """The value itself, secret or not."""
        return self.value.reveal() if isinstance(self.value, Secret) else self.value


@dataclass(frozen=True, slots=True)
class Setting:
    """One NAME=value of one place."""

    value: str
    source: str


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is a secret by its name or because its value is a URL with credentials."""
    if _matches(name, _KNOWN_PUBLIC):
        return False
    return is_secret_name(name) or has_credentials(value)


def is_secret_name(name: str) -> bool:
    """Whether the name alone says so; public names never do."""
    return _matches(name, _SECRET) and not _matches(name, _KNOWN_PUBLIC)


def has_credentials(value: str) -> bool:
    """Whether a URL in the value carries a user or a password."""
    return _CREDENTIALS.search(value) is not None


def hide_credentials(text: str) -> str:
    """The text with `****@` for the user and password of every URL."""
    return _CREDENTIALS.sub(rf"\1{MASK}@", text)


def read_env_files(root: Path, names: Collection[str], problems: list[Problem]) -> dict[str, list[Setting]]:
    """Every setting of the files that exist, by name, in the order of the files."""
    settings: dict[str, list[Setting]] = {}
    for file in names:
        try:
            exists = (root / file).exists() or (root / file).is_symlink()
            text = read_text(root / file, file) if exists else ""
        except ConfigInvalid as error:
            problems.extend(error.problems)
            continue
        for name, setting in _parse(text, file, problems).items():
            settings.setdefault(name, []).append(setting)
    return settings


def resolve(
    name: str, files: Mapping[str, list[Setting]], environ: Mapping[str, str], *, secret: bool
) -> Variable | None:
    """The process environment wins, then the last file that has the name; None when nobody has it."""
    settings = list(files.get(name, ()))
    if name in environ:
        settings.append(Setting(environ[name], PROCESS))
    if not settings:
        return None
    *lost, winner = settings
    differing = tuple(setting.source for setting in reversed(lost) if setting.value != winner.value)
    value = Secret(winner.value) if secret or is_secret(name, winner.value) else winner.value
    return Variable(value, winner.source, differing)


def _parse(text: str, file: str, problems: list[Problem]) -> dict[str, Setting]:
    from dotenv.parser import parse_stream

    settings: dict[str, Setting] = {}
    for binding in parse_stream(io.StringIO(text)):
        line = binding.original.line + _blank_lines_before(binding.original.string)
        if binding.error or "\0" in (binding.value or ""):
            found = "a line that cannot be read" if binding.error else "a NUL byte"
            problems.append(Problem(path=file, found=found, allowed="NAME=value is needed", file=file, line=line))
        elif binding.key is not None:
            settings[binding.key] = Setting(binding.value or "", f"{file}:{line}")
    return settings


def _blank_lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in patterns)
