"""The flags every verb takes, before it or after it; each is also an environment variable FLAWLESS_<FLAG>."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click


@dataclass(frozen=True, slots=True)
class Common:
    """The common flags of one command line."""

    config: Path | None = None
    environment: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    yes: bool = False

    @property
    def colors(self) -> bool:
        """NO_COLOR, then FORCE_COLOR, then whether standard error is a terminal that can (https://no-color.org)."""
        if self.no_color or os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return self.live

    @property
    def live(self) -> bool:
        """Whether progress may be redrawn in place: a terminal that can move its cursor, and nobody's log."""
        dumb = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("CI"))
        return sys.stderr.isatty() and not dumb and not self.quiet


_OPTIONS = (
    click.option("-c", "--config", type=click.Path(path_type=Path), envvar="FLAWLESS_CONFIG", help="The manifest."),
    click.option("-e", "--environment", envvar="FLAWLESS_ENVIRONMENT", help="Lays flawless.NAME.toml over it."),
    click.option("--json", is_flag=True, envvar="FLAWLESS_JSON", help="One JSON document on standard output."),
    click.option("-q", "--quiet", is_flag=True, envvar="FLAWLESS_QUIET", help="No progress."),
    click.option("-v", "--verbose", is_flag=True, envvar="FLAWLESS_VERBOSE", help="Every event."),
    click.option("--no-color", is_flag=True, envvar="FLAWLESS_NO_COLOR", help="No colours."),
    click.option("-y", "--yes", is_flag=True, envvar="FLAWLESS_YES", help="Answers every question with yes."),
)
_NAMES = tuple(Common.__dataclass_fields__)


READING: Final = frozenset(
    {"check", "db", "doctor", "incidents", "lock", "logs", "plan", "reports", "status", "tunnel"}
)
"""Verbs of a stack that do not take the deploy lock. Those that take it settle under it what a killed run has left;
before these it is done when the lock is free. The same with services that were given up, but for `status`, which
tells of them itself and is asked at will."""


def common(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb the common flags, as its first argument; those written before the verb count too."""

    @click.pass_context
    @functools.wraps(verb)
    def with_common(context: click.Context, /, **given: Any) -> Any:
        own = {name: given.pop(name) for name in _NAMES}
        flags = _merged(own, context.parent)
        if _verb(context) in READING:
            from flawless.wiring.settling import settle_when_free

            settle_when_free(flags.config, flags.environment, looks_at_services=_verb(context) != "status")
        return verb(flags, **given)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), with_common)


def before_the_verb(group: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a group of verbs take the common flags as well."""

    @functools.wraps(group)
    def without_common(**given: Any) -> Any:
        return group(**{name: value for name, value in given.items() if name not in _NAMES})

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), without_common)


def _verb(context: click.Context) -> str | None:
    """The word behind `flawless`, however many follow it."""
    while context.parent is not None and context.parent.parent is not None:
        context = context.parent
    return context.info_name


def _merged(own: dict[str, Any], parent: click.Context | None) -> Common:
    """The nearest wins: what stands behind the verb, then what stands before it."""
    merged = dict(own)
    while parent is not None:
        merged |= {name: parent.params[name] for name in _NAMES if parent.params.get(name) and not merged[name]}
        parent = parent.parent
    return Common(**merged)
