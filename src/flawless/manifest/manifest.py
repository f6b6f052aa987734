"""The manifest as the rest of the product sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flawless.core.secret import Secret
from flawless.core.service import TUNNEL
from flawless.core.settings import ServiceSettings, Settings
from flawless.manifest import tunnel
from flawless.manifest.variables import Variable


@dataclass(frozen=True, slots=True)
class Origin:
    """The place a value came from, and the variables that were put into it."""

    file: str
    line: int | None = None
    variables: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A place of the manifest that needs a variable which is unset or blank: for the preflight checks to say."""

    path: str
    name: str
    message: str
    blank: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that was read, once: settings, secrets, variables, and where each came from."""

    settings: Settings = field(repr=False)
    path: Path
    root: Path
    environment: str | None
    secrets: Mapping[str, Secret]
    """Every known secret that has a value, by the name of its variable."""
    sensitive: tuple[Secret, ...]
    """All that must not be shown: the secrets, and those written into the manifest itself."""
    variables: Mapping[str, Variable]
    origins: Mapping[str, Origin]
    """By dotted path; what is not here is a default."""
    overrides: tuple[str, ...]
    """Evidence lines: which place won over which, where they differ."""
    unresolved: tuple[Unresolved, ...]
    files: tuple[str, ...]
    """The manifest and its overlay, as read."""
    env_files: tuple[str, ...]
    """The `.env` files that were looked for."""
    env_names: frozenset[str]
    """The names in the `.env` files."""
    inherited: Mapping[str, str] = field(repr=False)
    """What every child gets of our own environment: PATH, HOME, LANG and the like."""

    @property
    def services(self) -> dict[str, ServiceSettings]:
        """Everything that a keeper may keep: the declared services, and last the tunnel, where one is declared."""
        made = tunnel.as_service(self.settings, self.root, self.inherited)
        return {**self.settings.services, **({TUNNEL: made} if made is not None else {})}
