"""Measures Flawless and its peers side by side: a table, and JSON.

    python benchmarks/run.py [--short] [--only NAME ...] [--peers FOLDER ...] [--json FILE] [--table FILE]

A peer is measured when its programs are on the PATH, or in a folder given with --peers; else a line says that it is
skipped. A bar that is missed stays in the table. The exit code is 1 when something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
import table
from figures import Row, Unit, Verdict, median, text
from peers import PEERS
from scope import Scope
from subjects import SUBJECTS


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind then either
    os.environ["PATH"] = os.pathsep.join([*arguments.peers, os.environ.get("PATH", "")])
    scope = Scope(arguments.short, [peer for peer in PEERS if peer.is_installed()])
    for peer in PEERS:
        if peer not in scope.peers:
            _say(f"{peer.name}: skipped, {' and '.join(peer.programs)} not found")
    if arguments.alone:
        scope = Scope(arguments.short, ())
    document = _document(scope, arguments.only or list(SUBJECTS))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    page = table.to_markdown(document)
    if arguments.table:
        arguments.table.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)
    return int(any(row["verdict"] == Verdict.FAILED for row in document["rows"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Flawless and its peers side by side.")
    parser.add_argument("--short", action="store_true", help="fewer rounds: finds a gross regression only")
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--peers", nargs="+", default=[], metavar="FOLDER", help="where further programs are")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table there, not to standard output")
    return parser.parse_args()


def _document(scope: Scope, names: Sequence[str]) -> dict[str, Any]:
    contention = [machine.contention()]
    rows: list[dict[str, Any]] = []
    for name in names:
        began = time.monotonic()
        for row in _rows(name, SUBJECTS[name], scope):
            rows.append({"subject": name, **row.to_json()})
            _say(f"{row.verdict:<12} {row.what}: {text(row.ours)} {row.unit}  {row.note}")
        contention.append(machine.contention())
        busy = f"load {os.getloadavg()[0]:.1f}, slowed {contention[-1]:.1f} times"
        _say(f"{name}: {time.monotonic() - began:.0f} s, {busy}")
    return {
        "schema_version": 1,
        "short": scope.short,
        "machine": machine.described(),
        "load": os.getloadavg()[0],
        "contention": {"median": median(contention), "highest": max(contention)},
        "peers": {peer.name: peer.is_installed() for peer in PEERS},
        "rows": rows,
    }


def _rows(name: str, measure: Callable[[Scope], Iterator[Row]], scope: Scope) -> Iterator[Row]:
    """What breaks down is a row of its own: the other subjects are still measured."""
    try:
        yield from measure(scope)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the run fails in the end
        yield Row(name, Unit.COUNT, None, note=f"{type(error).__name__}: {error}", failed=True)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
