"""How an error is shown: the cause, what was seen, what to do. Or as JSON, when that was asked for."""

from __future__ import annotations

import json
import os
import sys

from flawless.cli.streams import is_lost
from flawless.core.errors import FlawlessError
from flawless.core.plain import printable


def show(error: FlawlessError, arguments: list[str]) -> None:
    """Tells a person on standard error, or a program on standard output."""
    if ("--json" in arguments or os.environ.get("FLAWLESS_JSON")) and not is_lost(sys.stdout):
        sys.stdout.write(json.dumps(to_json(error), indent=2) + "\n")
        return
    sys.stderr.write(to_text(error))


def to_json(error: FlawlessError) -> dict[str, object]:
    return {
        "schema_version": 1,
        "error": {
            "code": error.code,
            "cause": error.cause,
            "evidence": list(error.evidence),
            "next_steps": list(error.next_steps),
            "exit_code": error.exit_code,
        },
    }


def to_text(error: FlawlessError) -> str:
    lines = [f"flawless: {error.code}: {error.cause}"]
    lines += [f"  {line}" for line in error.evidence]
    lines += [f"  next: {step}" for step in error.next_steps]
    return "".join(printable(line) + "\n" for line in lines)
