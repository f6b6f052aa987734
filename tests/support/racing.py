"""A program that waits for lines, does something at each, and answers with a line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LIMIT = 20.0
"""Seconds in which one that was killed is buried."""


class Racer:
    """One that runs, and has said that it is there."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def racing(argv: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> Iterator[Racer]:
    """It is killed at the end, however far it is."""
    process = subprocess.Popen(
        argv, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        one = Racer(process)
        assert one.line() == "there"
        yield one
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
