"""Services to keep, and a nursery that leaves no process behind whatever a test did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flawless.adapters.keeper import record, tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.record import Record
from flawless.adapters.keeper.spec import KeeperSpec, LogRule, RestartRule
from flawless.adapters.keeper.tree import ProcessId

LIVES = "import time; print('up'); time.sleep(60)"
PATIENCE = 10.0
"""Seconds a test waits for what should come at once; only a broken keeper makes it wait so long."""


class Nursery:
    """Builds specs for Python programs and ends all that came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"

    def spec(self, code: str = LIVES, *, service: str = "web", **details: Any) -> KeeperSpec:
        usual: dict[str, Any] = {
            "service": service,
            "command": (sys.executable, "-I", "-S", "-u", "-c", code),
            "directory": str(self.folder),
            "environment": {"PATH": os.environ["PATH"], "MARK": "of-this-test"},
            "run_folder": str(self.run_folder(service)),
            "log": LogRule(str(self.logs)),
            "deploy_id": "20261123T141502Z-3f9c2a",
            "stop_timeout": 5.0,
            "restart": RestartRule((0.0,), 5, 300.0, 600.0),
        }
        return KeeperSpec(**usual | details)

    def run_folder(self, service: str = "web") -> Path:
        return self.folder / "run" / service

    def record(self, service: str = "web") -> Record:
        found = record.read(self.run_folder(service))
        assert found
        return found

    def log(self, service: str = "web") -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.logs.glob(f"{service}-*.log")))

    def reap(self) -> None:
        """Keepers first, lest they start anew what is killed after them."""
        for folder in (self.folder / "run").glob("*"):
            left = record.read(folder)
            if left:
                _kill_tree(left.keeper)
                _kill_tree(left.child)
            with contextlib.suppress(FileNotFoundError):
                for process in tree.writers_to((folder / "output").stat()):
                    tree.send(process, signal.SIGKILL)


@contextlib.contextmanager
def nursery_in(folder: Path) -> Iterator[Nursery]:
    nursery = Nursery(folder)
    try:
        yield nursery
    finally:
        nursery.reap()


def _kill_tree(process: ProcessId | None) -> None:
    if process and tree.is_alive(process):
        for member in [process, *tree.descendants(process.pid)]:
            tree.send(member, signal.SIGKILL)


def child_of(found: Record) -> ProcessId:
    """The process it says is running."""
    assert found.child, found
    return found.child


async def until(keeper: Keeper, wanted: Callable[[Record], bool]) -> Record:
    """The first record that is as wanted."""
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(keeper.watch()) as records:
        async for seen in records:
            if wanted(seen):
                return seen
    raise AssertionError(f"the keeper ended before that: {keeper.record}")


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something outside that nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.005)


async def dead(process: ProcessId) -> None:
    await eventually(lambda: not tree.is_alive(process))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
