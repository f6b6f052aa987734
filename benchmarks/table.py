"""The figures as a page for docs/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from figures import text

_HEAD: Final = """# Benchmarks

Flawless beside its peers, each from its ordinary package with the best sensible settings, measured in one run on one
machine; medians unless a line says otherwise. This page is what `python benchmarks/run.py --table docs/benchmarks.md`
wrote. Figures of another machine differ: what counts is a figure beside its bound and its peers, taken in the same run.

"""
_FOOT: Final = """
- **bar**: what we hold ourselves to. A bar that is missed stays in the table.
- **bound**: what nobody can beat, measured in the same run: the same services started with ideal knowledge, the same
  lines written into a bare file.
- **x best peer**: our figure over the lowest of the peers'. A peer that cannot do a thing at all has no figure.
- The commands are measured as a person waits for them, with the start of the interpreter.

`--short` takes a minute and finds a gross regression only, `--only NAME` measures one subject, `--json FILE` keeps the
figures, `--peers FOLDER` names folders with further programs. A peer that is not installed is skipped, with a line.
"""


def to_markdown(document: Mapping[str, Any]) -> str:
    return _HEAD + "\n".join(_circumstances(document)) + "\n" + "".join(_tables(document["rows"])) + _FOOT


def _circumstances(document: Mapping[str, Any]) -> Iterator[str]:
    machine, contention = document["machine"], document["contention"]
    yield f"Machine: {machine['cores']} cores, {machine['processor'] or machine['architecture']},"
    yield f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}."
    yield f"Load average at the end of the run: {document['load']:.1f}, our own work included. What others did on the"
    yield f"machine made work last {contention['median']:.1f} times as long as it needs in the median, and at worst"
    yield f"{contention['highest']:.1f} times."
    if absent := [name for name, there in document["peers"].items() if not there]:
        yield f"Not installed, so skipped: {', '.join(absent)}."
    if document["short"]:
        yield "**The short form**: too few rounds for a verdict."


def _tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    for subject in dict.fromkeys(row["subject"] for row in rows):
        yield f"\n## {subject.capitalize()}\n\n| what | bar | bound | peers | Flawless | x best peer | verdict |\n"
        yield "|---|---|---|---|---|---|---|\n"
        yield from (_line(row) for row in rows if row["subject"] == subject)
        missed = [row for row in rows if row["subject"] == subject and row["reason"]]
        yield from (f"\nMissed, {row['what']}: {row['reason']}\n" for row in missed)


def _bar(bar: Mapping[str, float]) -> str:
    [(kind, limit)] = bar.items()
    return text(limit) if limit == 0 else f"{'<=' if kind == 'at_most' else '>='} {text(limit)}"


def _line(row: Mapping[str, Any]) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    peers = sorted(row["peers"].items(), key=lambda item: item[1])
    cells = [
        row["what"] + (f" ({row['note']})" if row["note"] else ""),
        _bar(row["bar"]) + unit if row["bar"] else "-",
        row["bound"] or "-",
        ", ".join(f"{name} {text(figure)}" for name, figure in peers) or "-",
        "-" if row["flawless"] is None else f"**{text(row['flawless'])}**{unit}",
        text(row["ratio"]),
        row["verdict"],
    ]
    return f"| {' | '.join(cells)} |\n"
