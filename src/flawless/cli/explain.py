"""flawless explain: a reason code's page."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common, common
from flawless.cli.page import Line, Span, line, result, wrapped
from flawless.core.errors import UsageError
from flawless.core.reason import Reason

_WIDEST: Final = 100
_PARTS: Final = (("what it means", "meaning"), ("how it is found", "found"))
_HELP: Final = """A reason code: what it means, how it is found, what to do.

Without a CODE all codes are listed, by family.
"""


@click.command(name="explain", help=_HELP)
@click.argument("code", required=False)
@common
def command(flags: Common, *, code: str | None) -> None:
    page = result(flags)
    if code is None:
        _list(flags, min(page.width, _WIDEST))
        return
    found = find(code)
    told = pages()[found]
    if flags.json:
        document.write({"code": found, "permanent": Reason(found).permanent, **told})
    else:
        page.write(*to_lines(found, told, min(page.width, _WIDEST)))


def pages() -> dict[str, dict[str, Any]]:
    """Every page, by code, in the order in which they are written."""
    return tomllib.loads((resources.files("flawless.core") / "reasons.toml").read_text(encoding="utf-8"))


def find(code: str) -> str:
    """The code as it is written; in any case and with a dash it is understood. Raises UsageError."""
    wanted = code.upper().replace("-", "_")
    known = list(pages())
    if wanted in known:
        return wanted
    close = difflib.get_close_matches(wanted, known, 3, cutoff=0.5)
    meant = f"did you mean {', '.join(close)}?" if close else "see them all: flawless explain"
    raise UsageError(f"there is no reason code {code}", evidence=["codes look like DB_REFUSED"], next_steps=[meant])


def to_lines(code: str, told: Mapping[str, Any], width: int) -> Iterator[Line]:
    yield line(Span(code, "bold"))
    yield from wrapped(told["title"], width)
    for heading, key in _PARTS:
        yield ()
        yield line(Span(heading, "bold"))
        yield from wrapped(told[key], width, (Span("  "),))
    yield ()
    yield line(Span("what to do", "bold"))
    for number, step in enumerate(told["steps"], 1):
        yield from wrapped(step, width, (Span("  "), Span(f"{number}. ", "cyan")))
    if "example" in told:
        yield ()
        yield line(Span("how it looks", "bold"))
        for text in str(told["example"]).strip().splitlines():
            yield from wrapped(text, width, (Span("  "),), "dim")
    yield ()
    yield line(Span(_waits(code), "dim"))


def _waits(code: str) -> str:
    return "A gate gives up at once: waiting cannot help." if Reason(code).permanent else "A gate waits: it may pass."


def _list(flags: Common, width: int) -> None:
    if flags.json:
        document.write({"codes": [{"code": code, "title": told["title"]} for code, told in pages().items()]})
        return
    families: dict[str, list[tuple[str, str]]] = {}
    for code, told in pages().items():
        families.setdefault(code.partition("_")[0], []).append((code, told["title"]))
    page = result(flags)
    for family, codes in families.items():
        page.write(line(Span(family, "bold")))
        widest = max(len(code) for code, _ in codes)
        for code, title in codes:
            page.write(*wrapped(title, width, (Span(f"  {code:<{widest}}  "),), "dim"))
        page.write(())
    page.say("one of them: flawless explain CODE")
