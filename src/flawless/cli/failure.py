"""How an error is shown: the cause, what was seen, what to do. Or as JSON, when that was asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from flawless.cli.streams import is_lost
from flawless.core.errors import FlawlessError
from flawless.core.pasting import flags_of, pasted
from flawless.core.plain import printable


def show(error: FlawlessError, arguments: list[str]) -> None:
    """Tells a person on standard error, or a program on standard output."""
    flags = flags_of(_flag(arguments, "config"), _flag(arguments, "environment"))
    steps = [pasted(step, flags) for step in error.next_steps]
    if is_json(arguments) and not is_lost(sys.stdout):
        sys.stdout.write(json.dumps(to_json(error, steps), indent=2) + "\n")
        return
    sys.stderr.write(to_text(error, steps))


def is_json(arguments: list[str]) -> bool:
    """Whether a program asked, for which there is one document whatever comes of it."""
    return "--json" in arguments or bool(os.environ.get("FLAWLESS_JSON"))


def _flag(arguments: list[str], name: str) -> str | None:
    """As the command line has it: the error may have come before that was read."""
    for at, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag in {f"-{name[0]}", f"--{name}"}:
            return value if equals else next(iter(arguments[at + 1 : at + 2]), None)
    return os.environ.get(f"FLAWLESS_{name.upper()}")


def to_json(error: FlawlessError, steps: Sequence[str]) -> dict[str, object]:
    return {
        "schema_version": 1,
        "error": {
            "code": error.code,
            "cause": error.cause,
            "evidence": list(error.evidence),
            "next_steps": list(steps),
            "exit_code": error.exit_code,
        },
    }


def to_text(error: FlawlessError, steps: Sequence[str]) -> str:
    lines = [f"flawless: {error.code}: {error.cause}"]
    lines += [f"  {line}" for line in error.evidence]
    lines += [f"  next: {step}" for step in steps]
    return "".join(printable(line) + "\n" for line in lines)
