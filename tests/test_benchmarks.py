"""The benchmark runs, and nothing is grossly slower, heavier or leakier than its bar."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SUBJECTS = ("starting", "failing", "commands", "respawning", "output", "writers", "redacting", "weight")
# How far from its bar a figure may be before it is a regression: a shared machine is noisy in time and not in space.
NOISE = {"ms": 25.0, "s": 5.0, "x": 8.0, "/s": 10.0, "%": 10.0, "MB": 1.5, "": 1.0}

IN_TIME = ("ms", "s", "x", "/s")


def is_gross(row: Mapping[str, Any], contention: float) -> bool:
    """Whether no noise explains it. `contention`: how many times longer work took than it needs."""
    figure, noise = row["flawless"], NOISE[row["unit"]] * (contention if row["unit"] in IN_TIME else 1)
    match row["bar"]:
        case {"at_most": limit}:
            return bool(figure > limit * noise)
        case {"at_least": limit}:
            return bool(figure < limit / noise)
        case _:
            return False


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")
def test_nothing_is_grossly_worse_than_its_bar(tmp_path: Path) -> None:
    """The short form measures everything it should, and no figure is beyond what noise explains."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--short", "--alone"]
    done = subprocess.run(
        [*command, "--only", *SUBJECTS, "--json", str(figures)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(figures.read_bytes())
    rows, contention = document["rows"], document["contention"]["highest"]

    assert {row["subject"] for row in rows} == set(SUBJECTS)
    assert [row for row in rows if is_gross(row, contention)] == []
    assert all(row["what"] in done.stdout for row in rows)


@pytest.mark.parametrize(
    ("unit", "figure", "bar", "gross"),
    [
        ("ms", 2000.0, {"at_most": 100}, False),
        ("ms", 3000.0, {"at_most": 100}, True),
        ("", 1, {"at_most": 0}, True),
        ("", 0, {"at_most": 0}, False),
        ("/s", 4000.0, {"at_least": 50_000}, True),
        ("MB", 11.0, {"at_most": 7}, True),
        ("ms", 1e9, None, False),
    ],
)
def test_a_gross_regression_is_found(unit: str, figure: float, bar: object, gross: bool) -> None:  # noqa: FBT001 - a column of a table
    """The judgement above would say so."""
    assert is_gross({"unit": unit, "flawless": figure, "bar": bar}, 1.0) is gross
