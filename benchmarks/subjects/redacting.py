"""How fast secrets are taken out of ordinary log text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import redaction
from figures import AtLeast, Row, Unit
from flawless.core.redaction import Redactor
from scope import Scope

_CHUNK: Final = 65_536
_GOAL: Final = "50 is the goal, 10 the least; a service that prints 100,000 lines a second makes 10."


def measure(scope: Scope) -> Iterator[Row]:
    text = redaction.log_text(scope.rounds(4_000_000, 1_000_000))
    pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    redactor = Redactor(redaction.secrets(100))
    rate = redaction.rate(len(text), lambda: redaction.feed(redactor, pieces))
    yield Row(
        "redaction with 100 secrets, a stream in pieces of 64 KiB, MB",
        Unit.RATE,
        rate,
        AtLeast(50),
        rounds=5,
        reason=_GOAL,
    )
