"""Alembic's revisions read from their files, without running any of them.

`revision`, `down_revision` and `depends_on` are taken as literals from the syntax tree. What cannot be read that way is
not guessed: `Unreadable` says why, and the tool is run instead.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_SEPARATORS = {"os": os.pathsep, "space": " ", "newline": "\n", ";": ";", ":": ":"}
_NAMES = ("revision", "down_revision", "depends_on")


class Unreadable(Exception):
    """The revisions, or where they are, cannot be known by reading; the message says why."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One file of the versions folder. `needs`: the revisions it stands on."""

    id: str
    parents: tuple[str, ...]
    needs: tuple[str, ...]
    file: Path


@dataclass(frozen=True, slots=True)
class Revisions:
    """All revisions of a project, each after those it needs."""

    folders: tuple[Path, ...]
    all: tuple[Revision, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Those that no other continues."""
        continued = {parent for revision in self.all for parent in revision.parents}
        return tuple(revision.id for revision in self.all if revision.id not in continued)

    def unknown(self, at: Iterable[str]) -> tuple[str, ...]:
        """Versions that no file has."""
        known = {revision.id for revision in self.all}
        return tuple(version for version in at if version not in known)

    def applied(self, at: Iterable[str]) -> tuple[str, ...]:
        """What a database at these versions has behind it."""
        reached = set(at)
        for revision in reversed(self.all):
            if revision.id in reached:
                reached.update(revision.needs)
        return tuple(revision.id for revision in self.all if revision.id in reached)

    def pending(self, at: Iterable[str]) -> tuple[str, ...]:
        """What such a database still lacks."""
        applied = set(self.applied(at))
        return tuple(revision.id for revision in self.all if revision.id not in applied)


def read_revisions(directory: Path) -> Revisions:
    """The revisions of the Alembic project in `directory`. Raises Unreadable."""
    folders = _folders(directory)
    found: dict[str, Revision] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*.py"))):
        revision = _revision(file)
        if revision is None:
            continue
        if revision.id in found:
            raise Unreadable(f"{revision.id} stands in {found[revision.id].file} and in {file}")
        found[revision.id] = revision
    return Revisions(folders, tuple(_ordered(found)))


def _folders(directory: Path) -> tuple[Path, ...]:
    settings = _settings(directory / "alembic.ini")
    scripts = _place(directory, settings.get("script_location", ""))
    _expect_default_table(scripts / "env.py")
    if (
        settings.get("recursive_version_locations", "false") != "false"
        or settings.get("sourceless", "false") != "false"
    ):
        raise Unreadable("alembic.ini asks for recursive or sourceless versions")
    places = _split(settings.get("version_locations", ""), settings)
    folders = tuple(_place(directory, place) for place in places) or (scripts / "versions",)
    for folder in folders:
        if not folder.is_dir():
            raise Unreadable(f"there is no folder {folder}")
    return folders


def _settings(ini: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser({"here": str(ini.parent.resolve())})
    try:
        parser.read_string(ini.read_text(encoding="utf-8"), str(ini))
        return dict(parser["alembic"])
    except (OSError, UnicodeError, KeyError, configparser.Error) as error:
        raise Unreadable(f"{ini} cannot be read: {error}") from error


def _place(directory: Path, place: str) -> Path:
    if not place or (":" in place and not Path(place).is_absolute()):
        raise Unreadable(f"alembic.ini names {place or 'no script_location'}, which is not a folder")
    return directory / place


def _split(places: str, settings: Mapping[str, str]) -> list[str]:
    name = settings.get("path_separator", settings.get("version_path_separator", ""))
    parts = places.split(_SEPARATORS[name]) if name in _SEPARATORS else re.split(r"[,\s]+", places)
    return [part.strip() for part in parts if part.strip()]


def _expect_default_table(env: Path) -> None:
    """`version_table` and `version_table_schema` are set in code, which is not run here."""
    try:
        named = "version_table" in env.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Unreadable(f"{env} cannot be read: {error}") from error
    if named:
        raise Unreadable(f"{env} names a version table of its own")


def _revision(file: Path) -> Revision | None:
    try:
        values = dict(_assignments(ast.parse(file.read_bytes())))
        if "revision" not in values:
            return None
        parents = _identifiers(values.get("down_revision"))
        return Revision(str(values["revision"]), parents, parents + _identifiers(values.get("depends_on")), file)
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{file} does not state its revision as a literal: {error}") from error


def _assignments(module: ast.Module) -> Iterable[tuple[str, object]]:
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _NAMES:
                yield name, ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in _NAMES:
                yield name, ast.literal_eval(value)


def _identifiers(value: object) -> tuple[str, ...]:
    match value:
        case None:
            return ()
        case str():
            return (value,)
        case tuple() | list():
            return tuple(str(item) for item in value)
    raise ValueError(f"{value!r} is no revision")


def _ordered(found: Mapping[str, Revision]) -> list[Revision]:
    """Each after what it needs; by name where that leaves a choice, so that the order is always the same."""
    ordered: dict[str, Revision] = {}
    waiting = dict(sorted(found.items()))
    while waiting:
        ready = [revision for revision in waiting.values() if all(need in ordered for need in revision.needs)]
        if not ready:
            raise Unreadable(f"what these revisions stand on is missing or a circle: {', '.join(waiting)}")
        for revision in ready:
            ordered[revision.id] = waiting.pop(revision.id)
    return list(ordered.values())
