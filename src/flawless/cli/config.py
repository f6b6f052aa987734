"""flawless config: the manifest as it was understood."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Span, line, result

if TYPE_CHECKING:
    from flawless.manifest import Manifest


@click.group(
    name="config", invoke_without_command=True, help="The manifest: resolved and redacted, checked, described."
)
@common
@click.pass_context
def command(context: click.Context, flags: Common) -> None:
    if context.invoked_subcommand is None:
        _show(flags, origin=False)


@command.command(name="show", help="Every value as it is used, defaults too. Secrets are shown as ****.")
@click.option("--origin", is_flag=True, help="Where each value came from, and which file won over which.")
@common
def show(flags: Common, *, origin: bool) -> None:
    _show(flags, origin=origin)


@command.command(name="validate", help="Says every problem of the manifest at once, each with its line; exit code 78.")
@common
def validate(flags: Common) -> None:
    manifest = _load(flags)
    unset = sorted({one.name for one in manifest.unresolved})
    counts = {"services": len(manifest.settings.services), "variables": len(manifest.variables)}
    if flags.json:
        document.write({"valid": True, "files": list(manifest.files), **counts, "unset": unset})
        return
    page = result(flags)
    many = _many(counts["services"], "service")
    page.say(
        Span("valid", "green"), f": {' and '.join(manifest.files)}, {many}, {_many(counts['variables'], 'variable')}"
    )
    if unset:
        page.say("not set yet: ", Span(", ".join(unset), "yellow"), "; see: flawless check")


@command.command(name="schema", help="The manifest's JSON schema, for editors.")
@common
def schema(flags: Common) -> None:
    from flawless.manifest import schema as manifest_schema

    if flags.json:
        document.write(manifest_schema())
        return
    sys.stdout.write(json.dumps(manifest_schema(), indent=2) + "\n")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _load(flags: Common) -> Manifest:
    from flawless.manifest import load

    return load(Path.cwd(), file=flags.config, environment=flags.environment, environ=os.environ)


def _show(flags: Common, *, origin: bool) -> None:
    from flawless.manifest import to_display

    manifest = _load(flags)
    if flags.json:
        key = "values" if origin else "settings"
        document.write({key: to_display(manifest, origin=origin), "overrides": list(manifest.overrides)})
        return
    page = result(flags)
    for path, told in to_display(manifest, origin=True).items():
        where = f"  # {_origin(told)}" if origin else ""
        style = "dim" if told["origin"] == "default" else ""
        page.write(line(Span(f"{path} = {_toml(told['value'])}", style), Span(where, "dim")))
    if origin:
        page.write(*(line(Span(f"# {text}", "yellow")) for text in manifest.overrides))


def _origin(told: dict[str, Any]) -> str:
    places = [
        f"{name} from {place}" if place != "not set" else f"{name} not set" for name, place in told["variables"].items()
    ]
    return "; ".join([told["origin"], *places])


def _toml(value: Any) -> str:
    """The value as TOML writes it. JSON's texts and numbers are TOML's; tables are not."""
    match value:
        case dict():
            return (
                f"{{ {', '.join(f'{json.dumps(key)} = {_toml(item)}' for key, item in value.items())} }}"
                if value
                else "{}"
            )
        case list():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
