"""Tools as values: what to run, where, with which environment; and the one place that runs them.

A tool runs below a guard (`guard.py`), so it dies with us: when Flawless is killed, when the limit passes and when the
run is cancelled, the whole tree is ended. Its output is redacted as it comes; only a tail of it is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flawless
from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor

GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL."""

LINE_LIMIT = 4096
"""Bytes kept of one line: a tool may print 100 MB without a line feed."""

_GUARD_PATIENCE = 5.0
"""Seconds the guard may take, beyond the grace, to end a tree."""

_ROOT = str(Path(flawless.__file__).resolve().parents[1])
_GUARD = (
    "-I",
    "-S",
    "-c",
    "import sys; sys.path.append(sys.argv[1]); from flawless.adapters.guard import main; main()",
)
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: argv (never a shell string), its directory, and all of its environment."""

    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        """As a person would paste it."""
        return f"cd {shlex.quote(str(self.directory))} && {shlex.join(self.argv)}"


@dataclass(frozen=True, slots=True)
class Completed:
    """How a tool ended. `status` is the exit code, or minus the number of the signal; `duration` is seconds.

    `output_tail`: its last lines, standard output and error in the order they were written, redacted. `truncated`: it
    said more than that. `survivors`: processes of it that not even SIGKILL ended.
    """

    status: int
    output_tail: tuple[str, ...]
    duration: float
    timed_out: bool
    truncated: bool
    survivors: tuple[int, ...] = ()

    @property
    def succeeded(self) -> bool:
        return self.status == 0 and not self.timed_out


async def run(
    command: Command,
    *,
    limit: float,
    redactor: Redactor,
    keep_lines: int = 50,
    on_line: Callable[[str], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    leaves: bool = False,
) -> Completed:
    """Runs `command` for at most `limit` seconds and comes back when its whole tree is gone.

    `leaves`: what it leaves running when it ends by itself stays; that is what it was run for. `on_line` hears every
    line; `on_start` the pid whose descendants are the tool. Raises CommandFailed: TOOL_MISSING when the program or its
    directory is not there.
    """
    program = find_program(command)
    started = time.perf_counter()
    tail = _Tail(redactor, keep_lines, on_line)
    timed_out = False
    guarded = await _Run.start(tail)
    try:
        if on_start is not None:
            on_start(guarded.pid)
        guarded.order(command, program, leaves=leaves)
        async with asyncio.timeout(limit):
            await guarded.ended.wait()
    except TimeoutError:
        timed_out = True
    finally:
        await guarded.end()
    tail.close()
    status = guarded.status(command)
    duration = time.perf_counter() - started
    return Completed(status, tuple(tail.lines), duration, timed_out, tail.truncated, guarded.survivors)


def find_program(command: Command) -> Path:
    """Where the program is: by its path from the directory, or on the PATH of the command's own environment."""
    name = command.argv[0]
    if not command.directory.is_dir():
        raise CommandFailed(
            f"{command.directory} is not a directory, so `{name}` cannot run there",
            code=Reason.TOOL_MISSING,
            evidence=[str(command)],
            next_steps=[f"mend the `directory` in flawless.toml, or: mkdir -p {shlex.quote(str(command.directory))}"],
        )
    places = command.environment.get("PATH", os.defpath)
    looked = str(command.directory / name) if os.sep in name else name
    found = shutil.which(looked, path=places)
    if found is None:
        raise _missing(command, (looked,) if os.sep in name else tuple(places.split(os.pathsep)))
    return command.directory / found


def _missing(command: Command, places: tuple[str, ...]) -> CommandFailed:
    name = command.argv[0]
    return CommandFailed(
        f"the program `{name}` was not found, or may not be executed",
        code=Reason.TOOL_MISSING,
        evidence=[f"wanted by: {command}", f"looked for in: {', '.join(places)}"],
        next_steps=[f"install `{name}`, or name it by its path in flawless.toml"],
    )


class _Tail:
    """The last lines of an output of any size, redacted before anything is cut."""

    def __init__(self, redactor: Redactor, keep: int, on_line: Callable[[str], None] | None) -> None:
        self.lines: deque[str] = deque(maxlen=keep)
        self.truncated = False
        self._clean = redactor.stream()
        self._on_line = on_line
        self._open = bytearray()

    def feed(self, data: bytes) -> None:
        self._take(self._clean.feed(data))

    def close(self) -> None:
        self._take(self._clean.flush())
        if self._open:
            self._end_line()

    def _take(self, clean: bytes) -> None:
        first, *others = clean.split(b"\n")
        self._extend(first)
        for piece in others:
            self._end_line()
            self._extend(piece)

    def _extend(self, piece: bytes) -> None:
        room = LINE_LIMIT - len(self._open)
        self._open += piece[:room]
        self.truncated = self.truncated or len(piece) > room

    def _end_line(self) -> None:
        line = self._open.decode(errors="replace").removesuffix("\r")
        self._open.clear()
        self.truncated = self.truncated or len(self.lines) == self.lines.maxlen
        self.lines.append(line)
        if self._on_line is not None:
            self._on_line(line)


class _Run(asyncio.SubprocessProtocol):
    """The guard of one run, and what it reports."""

    def __init__(self, tail: _Tail) -> None:
        self.ended = asyncio.Event()
        self.survivors: tuple[int, ...] = ()
        self._tail = tail
        self._report = bytearray()
        self._closed = asyncio.Event()

    @classmethod
    async def start(cls, tail: _Tail) -> _Run:
        environment = {name: os.environ[name] for name in _LOADER if name in os.environ}
        loop = asyncio.get_running_loop()
        _, protocol = await loop.subprocess_exec(
            lambda: cls(tail), sys.executable, *_GUARD, _ROOT, env=environment, cwd="/", start_new_session=True
        )
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    @property
    def pid(self) -> int:
        pid = self._transport.get_pid()
        assert pid is not None
        return pid

    def order(self, command: Command, program: Path, *, leaves: bool) -> None:
        order = {
            "program": str(program),
            "argv": command.argv,
            "directory": str(command.directory),
            "environment": dict(command.environment),
            "grace": GRACE,
            "leaves": leaves,
        }
        self._control().write(json.dumps(order).encode() + b"\n")

    def _control(self) -> asyncio.WriteTransport:
        control = self._transport.get_pipe_transport(0)
        assert isinstance(control, asyncio.WriteTransport)
        return control

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._tail.feed(data)
        else:
            self._report += data

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        self._closed.set()

    async def end(self) -> None:
        """The end of the pipe tells the guard to end the tree; nothing is left running when this returns."""
        self._control().close()
        try:
            async with asyncio.timeout(GRACE + _GUARD_PATIENCE):
                await self._closed.wait()
        except TimeoutError:
            self._transport.kill()
        finally:
            self._transport.close()

    def status(self, command: Command) -> int:
        records = [json.loads(line) for line in self._report.splitlines() if line.startswith(b"{")]
        said: dict[str, Any] = {key: value for record in records for key, value in record.items()}
        self.survivors = tuple(said.get("left", ()))
        if "failed" in said:
            raise _unstartable(command, said)
        if "started" not in said:
            raise _unguarded(command, self._transport.get_returncode())
        status = said.get("status")
        return -signal.SIGKILL if status is None else int(status)


def _unguarded(command: Command, status: int | None) -> CommandFailed:
    return CommandFailed(
        "the tool was not started: its guard ended, or did not answer, before",
        code=Reason.DEPLOY_INTERNAL,
        evidence=[f"wanted by: {command}", f"the guard's exit code: {status}", f"its Python: {sys.executable}"],
        next_steps=[f"see that this Python can read {_ROOT}, then try again"],
    )


def _unstartable(command: Command, said: Mapping[str, Any]) -> CommandFailed:
    what = (
        f"`{command.argv[0]}` cannot be executed" if said["failed"] == "program" else "its directory cannot be entered"
    )
    return CommandFailed(
        f"the tool was not started: {what}: {said['error']}",
        code=Reason.TOOL_MISSING,
        evidence=[f"wanted by: {command}", f"errno {said['errno']} ({said['error']})"],
        next_steps=[f"run it by hand as the same user: {command}"],
    )
