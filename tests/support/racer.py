"""A program that restarts a shared thing through `recovery`, once for each line it is given: `racer.py FOLDER LIMIT`.

A line is what was seen of the thing, or `-`; the answer is `ACTION SENTENCE`. The thing is a process whose identity is
in the folder; each start of it is a line in `starts`. With `hold` as a third argument a restart never comes to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from flawless.adapters.keeper.tree import ProcessId, identity, is_alive
from flawless.adapters.restarts import RestartLedger
from flawless.core.check import Outcome, Passed
from flawless.core.clock import SystemClock
from flawless.core.reason import Reason
from flawless.recovery import Recovered, Recovery, Refused, Rule


class Thing:
    """A process that somebody here has started."""

    name = "thing"

    def __init__(self, folder: Path, *, holds: bool = False) -> None:
        self._folder = folder
        self._holds = holds
        self._file = folder / "thing.json"

    def process(self) -> ProcessId | None:
        with suppress(FileNotFoundError):
            return ProcessId(**json.loads(self._file.read_text()))
        return None

    async def incarnation(self) -> str | None:
        process = self.process()
        return f"{process.pid}.{process.start_time}" if process and is_alive(process) else None

    async def restart(self) -> None:
        if self._holds:
            print("holding", flush=True)
            await asyncio.Event().wait()
        silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        pid = os.posix_spawnp("sleep", ["sleep", "600"], os.environ, file_actions=silent)
        process = identity(pid)
        assert process is not None
        scratch = self._file.with_suffix(f".{pid}")
        scratch.write_text(json.dumps(process._asdict()))
        scratch.replace(self._file)
        with (self._folder / "starts").open("a") as starts:
            starts.write(f"{pid}\n")

    async def ask(self) -> Outcome:
        return Passed((f"it is {await self.incarnation()}",))


def recovery(folder: Path, limit: int, *, holds: bool = False, patience: float = 20.0) -> Recovery:
    rule = Rule(limit, 3600, Reason.TUNNEL_RESTART_REFUSED, "flawless restart thing")
    return Recovery(Thing(folder, holds=holds), RestartLedger(folder, "thing"), rule, SystemClock(), patience)


def told(done: Recovered) -> str:
    return f"{type(done).__name__} {done.failed.evidence[0] if isinstance(done, Refused) else done.said}"


async def main(folder: Path, limit: int, mode: str) -> None:
    mine = recovery(folder, limit, holds=mode == "hold")
    print("there", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        seen = None if line == "-" else line
        # Two monitors of one program are two callers as well.
        calls = [mine.restart(seen) for _ in range(2 if mode == "twice" else 1)]
        print(" | ".join(told(one) for one in await asyncio.gather(*calls)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "once"))
