"""Writes the pages of docs/ that are made of the code; with --check, shows what differs from disk, and fails then."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Final

from flawless.checks.catalog import CATALOG, Entry, Occasion
from flawless.checks.routing import OBSERVATIONS
from flawless.core import event
from flawless.core.pages import Page, codes, page
from flawless.core.tunnel import TABLE, Restart, Row
from flawless.manifest import settings_reference

ROOT: Final = Path(__file__).resolve().parent.parent
WIDTH: Final = 120

FAMILIES: Final = {
    "ENV": "The environment",
    "API": "External interfaces",
    "CONFIG": "The manifest and the command line",
    "PORT": "Ports",
    "DISK": "The disk",
    "ARTEFACT": "Generated files",
    "TOOL": "Programs",
    "DB": "The database",
    "MIGRATE": "Migrations",
    "SERVICE": "Services",
    "TUNNEL": "The tunnel",
    "PUBLIC": "The public address",
    "HOST": "The machine",
    "LOCK": "The deploy lock",
    "DEPLOY": "The deploy itself",
}

ENVELOPE: Final = {
    "`at`": "the moment, UTC",
    "`elapsed`": "seconds since the run began, by a clock that never jumps",
    "`event`": "the name",
}

TYPES: Final = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Any": "any JSON",
    "Mapping[str, Any]": "object",
    "tuple[str, ...]": "list of texts",
    "Sequence[str]": "list of texts",
    "None": "null",
}

OCCASIONS: Final = {
    Occasion.PREFLIGHT: "before anything is started, by `flawless check` and `flawless deploy`",
    Occasion.GATE: "during a deploy, again and again until it passes, its deadline comes, or waiting cannot help",
    Occasion.MEANWHILE: "during a deploy, beside its other phases, and once more at most where that helps",
}


OBSERVED: Final = {name: id_ for name, (id_, _) in OBSERVATIONS.items()} | {
    "name": "public.resolves",
    "public": "public.reachable",
}
"""The check behind each observation."""

RESTARTS: Final = {Restart.NO: "no", Restart.ONCE: "once", Restart.START: "start it"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="only say whether the pages are up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder that docs/ stands in")
    arguments = parser.parse_args()
    return check(arguments.root) if arguments.check else write(arguments.root)


def write(root: Path) -> int:
    for name, render in PAGES.items():
        (root / name).write_text(render(), encoding="utf-8")
    return 0


def check(root: Path) -> int:
    differences = [line for name, render in PAGES.items() for line in _difference(root, name, render())]
    sys.stderr.writelines(differences)
    if differences:
        sys.stderr.write("\nRun `.venv/bin/python scripts/docs.py`, and commit what it writes.\n")
    return 1 if differences else 0


def _difference(root: Path, name: str, wanted: str) -> Iterator[str]:
    path = root / name
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    yield from difflib.unified_diff(
        found.splitlines(keepends=True), wanted.splitlines(keepends=True), f"{name} on disk", f"{name} as it should be"
    )


def reasons() -> str:
    """docs/reasons.md: every reason code, by family."""
    families = [(family, list(found)) for family, found in groupby(map(page, codes()), lambda one: one.family)]
    return _document(
        "# Reason codes",
        "When Flawless says no, it says why with one of these codes. A code keeps its meaning for ever. "
        "The same pages on the command line: `flawless explain DB_REFUSED`.",
        "This page is generated from `src/flawless/core/reasons.toml`.",
        "\n".join(_line_of_contents(family, pages) for family, pages in families),
        *(block for family, pages in families for block in _family(family, pages)),
    )


def _line_of_contents(family: str, pages: Sequence[Page]) -> str:
    links = ", ".join(f"[{one.code}](#{one.code.lower()})" for one in pages)
    return f"- {FAMILIES[family]}: {links}"


def _family(family: str, pages: Iterable[Page]) -> Iterator[str]:
    yield f"## {FAMILIES[family]}"
    for one in pages:
        yield from _reason(one)


def _reason(one: Page) -> Iterator[str]:
    yield f"### {one.code}"
    yield f"**{one.title}**"
    yield one.meaning
    yield f"How it is found: {one.found}"
    yield f"{one.patience}"
    yield "What to do:"
    yield _numbered(one.steps)
    yield f"Example: `{one.example}`"
    if one.before is not None:
        yield f"What other tools show in its place: {one.before}"


def checks() -> str:
    """docs/checks.md: every check, in the order in which a deploy asks."""
    return _document(
        "# Checks",
        "Every question that Flawless asks, in the order in which a deploy asks them. When several fail, the first one "
        "here gives the failure its code, and the others stand beside it in the report. A check is asked of something: "
        "`port.free:backend` is `port.free`, asked for the service backend. The same list: `flawless check --list`. "
        "One kind alone: `flawless check port.free`.",
        "This page is generated from `src/flawless/checks/catalog.py`.",
        *(block for entry in CATALOG for block in _check(entry)),
    )


def _check(entry: Entry) -> Iterator[str]:
    yield f"## {entry.id}"
    yield f"Claims that {entry.claim}."
    yield entry.doc
    yield f"Asked {'; and '.join(OCCASIONS[occasion] for occasion in entry.occasions)}."


def events() -> str:
    """docs/events.md: every event of the stream."""
    # A dataclass with slots is a second class of the same name: the later one is the real one.
    kinds = {kind.name: kind for kind in event.Event.__subclasses__()}.values()
    return _document(
        "# Events",
        "Everything a deploy does is told once, as an event. The terminal, the journal, the log "
        "`logs/flawless-*.jsonl`, the report and the incidents all read the same stream; "
        "`flawless deploy --json-lines` prints it. "
        "Each event is one JSON object on one line. Secrets are taken out before anything reads it.",
        "This page is generated from `src/flawless/core/event.py`.",
        "Every event has these fields, and its own beside them:",
        _table(("field", "meaning"), ENVELOPE.items()),
        *(block for kind in kinds for block in _event(kind)),
    )


def _event(kind: type[event.Event]) -> Iterator[str]:
    yield f"## {kind.name}"
    yield inspect.cleandoc(kind.__doc__ or "")
    yield _kept(kind)
    yield _table(("field", "type"), ((f"`{one.name}`", _type(str(one.type))) for one in fields(kind)))


def tunnel() -> str:
    """docs/tunnel.md: every verdict on a tunnel, in the order in which they are tried."""
    return _document(
        "# Verdicts on a tunnel",
        "Ten things are looked at, each by itself and with evidence of its own. Together they have one verdict: the "
        "first here whose observations are all as it says. Its code has a page in [reasons.md](reasons.md), with what "
        "to do. `flawless tunnel status` shows all ten.",
        "A restart is made only where it can help, once, under the budget that every process of this machine shares.",
        "This page is generated from `src/flawless/core/tunnel.py`.",
        _table(("verdict", "when", "code", "restart"), map(_verdict, TABLE)),
        *(block for row in TABLE if row.reason is not None for block in _page_of(row, page(row.reason))),
    )


def _page_of(row: Row, of_code: Page) -> Iterator[str]:
    """A verdict for whoever is woken by it: what is broken, what shows it, whether a restart helps, what to do."""
    yield f"## {row.verdict[0].upper()}{row.verdict[1:]}"
    yield f"`{row.reason}`: {of_code.title} {of_code.meaning}"
    yield f"Seen by: {', '.join(f'`{OBSERVED[name]}`' for name in row.tells)}. A restart: {RESTARTS[row.restart]}."
    yield _numbered(of_code.steps)


def _numbered(steps: Sequence[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _verdict(row: Row) -> tuple[str, ...]:
    when = ", and ".join(f"{name}: {_any_of(states)}" for name, states in row.when.items())
    code = f"[{row.reason}](reasons.md#{row.reason.lower()})" if row.reason else "none: that is a yes"
    return row.verdict, when or "none of the above", code, RESTARTS[row.restart]


def _any_of(states: frozenset[StrEnum]) -> str:
    return " or ".join(sorted(states))


def _type(annotation: str) -> str:
    return " or ".join(TYPES[part] for part in annotation.split(" | "))


def _kept(kind: type[event.Event]) -> str:
    if kind.synced:
        return "Stands in the journal, and is on disk before the deploy goes on."
    return "Stands in the journal." if kind.durable else "Is told and not kept in the journal."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _document(*blocks: str) -> str:
    return "\n\n".join(_wrapped(block) for block in blocks) + "\n"


def _wrapped(block: str) -> str:
    """Prose in lines; headings, tables, lists and examples as they are."""
    if block.startswith(("#", "|", "- ", "1. ", "Example: ")):
        return block
    return textwrap.fill(_escaped(block), WIDTH, break_long_words=False, break_on_hyphens=False)


def _escaped(prose: str) -> str:
    """A `<` outside of code would begin a tag, and what follows would not be shown."""
    parts = re.split(r"(`[^`]*`)", prose)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reasons.md": reasons,
    "docs/settings.md": settings_reference,
    "docs/checks.md": checks,
    "docs/events.md": events,
    "docs/tunnel.md": tunnel,
}

if __name__ == "__main__":
    sys.exit(main())
