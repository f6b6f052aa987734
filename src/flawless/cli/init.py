"""flawless init: a first manifest for the stack found here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Page, Span, result
from flawless.core.errors import CommandFailed

if TYPE_CHECKING:
    from flawless.cli.discovery import Found

_MANIFEST: Final = "flawless.toml"
_EXAMPLE: Final = ".env.example"
_HELP: Final = """Writes flawless.toml and .env.example for the stack found here.

It looks for package.json, pyproject.toml, requirements.txt, manage.py, alembic.ini and prisma/schema.prisma, here and
one folder below. Nothing is ever overwritten.
"""


@click.command(name="init", help=_HELP)
@common
def command(flags: Common) -> None:
    from flawless.cli.discovery import discover
    from flawless.cli.draft import to_example, to_manifest

    root = Path.cwd()
    manifest = root / (flags.config or _MANIFEST)
    found = discover(root)
    if not _written(manifest, to_manifest(found)):
        raise _there_already(manifest)
    has_example = _written(root / _EXAMPLE, to_example(found))
    if flags.json:
        written = [str(manifest), *([str(root / _EXAMPLE)] if has_example else [])]
        services = [{"name": one.name, "role": one.role, "directory": one.directory} for one in found.services]
        document.write({"written": written, "name": found.name, "services": services, "notes": list(found.notes)})
        return
    _tell(result(flags), manifest, found, has_example=has_example)


def _written(path: Path, text: str) -> bool:
    """False when the file was there, even as a link that leads nowhere."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _there_already(path: Path) -> CommandFailed:
    return CommandFailed(
        f"{path.name} is there already, and is never overwritten",
        code="CONFIG_USAGE",
        evidence=[f"{path}: nothing was written"],
        next_steps=[
            "see whether it is in order: flawless config validate",
            f"or move it away: mv {path.name} {path.name}.old",
        ],
    )


def _tell(page: Page, manifest: Path, found: Found, *, has_example: bool) -> None:
    page.say(Span("wrote ", "green"), manifest.name, f" and {_EXAMPLE}" if has_example else "")
    if not has_example:
        page.say(f"left {_EXAMPLE} as it is")
    for one in found.services:
        port = f", port {one.port}" if one.port is not None else ""
        argv = " ".join(one.command).replace("{port}", str(one.port))
        page.say(f"  {one.name}: {one.role} in {one.directory}{port}: {argv}")
    if not found.services:
        page.say("  no service was found: write one into it, an example stands there")
    if found.migrations:
        page.say(
            f"  migrations: {' '.join(found.migrations.apply) or found.migrations.tool} in {found.migrations.directory}"
        )
    for note in found.notes:
        page.say(Span(f"  {note}", "yellow"))
    page.say("next: ", Span("look it through, then: flawless check", "cyan"))
