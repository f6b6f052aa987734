"""The deploy killed with SIGKILL at every record of its journal: before it, in the middle of it and behind it.

    python benchmarks/kill_sweep.py [--workers 2] [--moment after] [--variant first]

For a first deploy, one that changes a service and one that fails and goes back. Prints one JSON document; a violation
of an invariant (tests/support/killed_deploy.py) is in it, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from support.killed_deploy import VARIANTS, Moment, kill_and_recover
from support.stacks import stacks


def main() -> int:
    """0 when no invariant was violated."""
    chosen = _arguments()
    began = time.monotonic()
    rows = [_sweep(variant, moment, chosen.workers) for variant in chosen.variant for moment in chosen.moment]
    violations = [violation for row in rows for violation in row["violations"]]
    document = {
        "kills": sum(row["kills"] for row in rows),
        "violations": len(violations),
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 1 if violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--moment", nargs="+", type=Moment, choices=list(Moment), default=list(Moment))
    parser.add_argument("--variant", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    return parser.parse_args()


def _sweep(variant: str, moment: Moment, workers: int) -> dict[str, Any]:
    """Every record, until a deploy ends before it comes to one."""
    with ThreadPoolExecutor(workers) as pool:
        found = [
            one
            for worker in pool.map(lambda at: _every(variant, moment, at, workers), range(workers))
            for one in worker
        ]
    violations = [{"variant": variant, "moment": str(moment), "record": at, "what": said} for at, said in found if said]
    sys.stderr.write(f"{variant}, {moment}: {len(found)} kills, {len(violations)} violations\n")
    return {"variant": variant, "moment": str(moment), "kills": len(found), "violations": violations}


def _every(variant: str, moment: Moment, first: int, step: int) -> Sequence[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for number in itertools.count(first + 1, step):
        said = _one(variant, moment, number)
        if said is None:
            return found
        found.append((number, said))
    raise AssertionError("a count has no end")


def _one(variant: str, moment: Moment, number: int) -> str | None:
    """What was violated; nothing when all was well; None when the deploy has no such record."""
    with tempfile.TemporaryDirectory(prefix="flawless-sweep-") as folder:
        try:
            with stacks(Path(folder)) as stack:
                VARIANTS[variant](stack)
                return "" if kill_and_recover(stack, number, moment) else None
        except (AssertionError, OSError, ValueError, KeyError) as violation:
            return f"{type(violation).__name__}: {violation}"


if __name__ == "__main__":
    sys.exit(main())
