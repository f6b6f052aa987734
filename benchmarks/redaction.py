# ruff: noqa: INP001  # a script, no package
"""How fast secrets are taken out of ordinary log text: MB/s as JSON, with 100 secrets, whole and as a stream."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable

from flawless.core.redaction import Redactor

_SIZE = 4_000_000
_CHUNK = 65_536


def log_text(size: int) -> bytes:
    """Lines as a web service writes them, the same in every run."""
    rng = random.Random(1)  # noqa: S311  # the same text each time
    levels = ("INFO", "WARN", "DEBUG")
    lines = (
        f"2026-11-23T17:{rng.randrange(60):02d}:{rng.randrange(60):02d}.{rng.randrange(1000):03d}Z "
        f"{rng.choice(levels)} "
        f"GET http://127.0.0.1:3001/api/orders/{rng.randrange(10**6)}?page={rng.randrange(40)} 200 {rng.random():.4f}s "
        f'{{"requestId":"{rng.randbytes(8).hex()}","pid":{rng.randrange(30000)},'
        f'"message":"postgres connection reused"}}'
        for _ in range(size // 150)
    )
    return ("\n".join(lines) + "\n").encode()


def secrets(count: int) -> list[str]:
    """Keys, passwords and database addresses."""
    rng = random.Random(2)  # noqa: S311  # the same secrets each time
    kinds = (
        lambda: "sk_live_" + rng.randbytes(16).hex(),
        lambda: rng.randbytes(12).hex(),
        lambda: f"postgresql://app:{rng.randbytes(9).hex()}@db.example.org/shop{rng.randrange(99)}",
        lambda: "pa$$ w/rd&" + rng.randbytes(6).hex(),
    )
    return [kinds[index % len(kinds)]() for index in range(count)]


def rate(size: int, work: Callable[[], object]) -> float:
    """MB/s, the best of five."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return round(size / best / 1e6, 1)


def feed(redactor: Redactor, pieces: list[bytes]) -> None:
    stream = redactor.stream()
    for piece in pieces:
        stream.feed(piece)
    stream.flush()


def main() -> None:
    text = log_text(_SIZE)
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    redactor = Redactor(secrets(100))
    result = {
        "stream_64k": rate(len(text), lambda: feed(redactor, chunks)),
        "stream_lines": rate(len(text), lambda: feed(redactor, text.splitlines(keepends=True))),
        "whole": rate(len(text), lambda: redactor.data(text)),
        "ten_secrets_64k": rate(len(text), lambda: feed(Redactor(secrets(10)), chunks)),
    }
    json.dump({"unit": "MB/s", "secrets": 100, **result}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
