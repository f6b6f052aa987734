"""How fast secrets are taken out of ordinary log text: MB/s as JSON, by number of secrets and size of pieces."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial

from flawless.core.redaction import Redactor

_SIZE = 4_000_000


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
    """MB for a second of processor time, which others that use the machine lengthen least; the best of five."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(size / best / 1e6, 1)


def feed(redactor: Redactor, pieces: list[bytes]) -> None:
    stream = redactor.stream()
    for piece in pieces:
        stream.feed(piece)
    stream.flush()


def main() -> None:
    text = log_text(_SIZE)
    shapes = {"64k": pieces(text, 65_536), "1m": pieces(text, 1_048_576), "lines": text.splitlines(keepends=True)}
    result = {count: rates(Redactor(secrets(count)), shapes) for count in (0, 5, 20, 100)}
    json.dump({"unit": "MB/s", "secrets": result}, sys.stdout)
    sys.stdout.write("\n")


def pieces(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def rates(redactor: Redactor, shapes: dict[str, list[bytes]]) -> dict[str, float]:
    """How fast a stream takes the text in pieces of each shape."""
    return {name: rate(sum(map(len, cut)), partial(feed, redactor, cut)) for name, cut in shapes.items()}


if __name__ == "__main__":
    main()
