"""The server as a process: proved by its working directory, started as nobody's child, stopped in two steps."""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from flawless.adapters.postgres.account import Account, tool_environment

LAUNCHER: Final = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class PidFile:
    """What `postmaster.pid` says. The status is empty while the server is still writing the file."""

    pid: int
    port: int
    status: str


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The server of one data directory, whether it runs or not."""

    data: Path

    @property
    def mark(self) -> str:
        """The cluster's name: part of the title of each of its processes."""
        return f"flawless-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}"

    def pid_file(self) -> PidFile | None:
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            return PidFile(int(lines[0]), int(lines[3]), lines[7].strip() if len(lines) > 7 else "")
        except (FileNotFoundError, NotADirectoryError, ValueError, IndexError):
            return None

    def process(self) -> psutil.Process | None:
        """The running server. A zombie, a reused pid and a stranger are not it."""
        recorded = self.pid_file()
        if recorded is None:
            return None
        try:
            process = psutil.Process(recorded.pid)
        except (psutil.NoSuchProcess, ValueError):
            return None
        return process if self._owns(process) else None

    def is_ready(self, process: psutil.Process) -> bool:
        recorded = self.pid_file()
        return recorded is not None and recorded.pid == process.pid and recorded.status == "ready"

    async def clear(self) -> None:
        """Make way for a start: end what outlived a killed server, then remove its pid file.

        PostgreSQL refuses to start beside a backend that still works on the old shared memory, and on a pid file whose
        pid was given to somebody else. Only under the lock, and only when `process()` is None.
        """
        left = await asyncio.to_thread(self._left_behind)
        for order, timeout in ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0)):
            for process in left:
                send(process, order)
            left = [process for process in left if not await ended(process, timeout)]
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _left_behind(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return is_alive(process) and self._proves(process)
        except psutil.Error:
            return False  # it ended meanwhile, or it is somebody's whose secrets we may not see

    def _proves(self, process: psutil.Process) -> bool:
        if process.name() not in ("postgres", "initdb"):
            return False
        try:
            return Path(process.exe()).name in ("postgres", "initdb") and Path(process.cwd()) == self.data
        except psutil.AccessDenied:
            # Root in a container without CAP_SYS_PTRACE may not see another user's cwd; titles are public.
            return self.mark in " ".join(process.cmdline())


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. psutil calls a zombie running: where nobody reaps, it would do so for ever."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def send(process: psutil.Process, order: signal.Signals) -> None:
    """Signal a process; one that has ended needs none."""
    try:
        process.send_signal(order)
    except psutil.NoSuchProcess:
        return


async def ended(process: psutil.Process, limit: float) -> bool:
    """Wait until the process has ended, as a zombie too; False after `limit` seconds."""
    await asyncio.to_thread(_wait, process, limit)
    return not is_alive(process)


def _wait(process: psutil.Process, timeout: float) -> None:
    if not is_alive(process):
        return
    if not hasattr(os, "pidfd_open"):
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            return
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(timeout * 1000)
    finally:
        os.close(descriptor)


async def launch(argv: list[str], *, account: Account | None, errors: IO[bytes]) -> psutil.Process | None:
    """Start the server in a session of its own, detached from us; None when it ended at once."""
    identity = (str(account.uid), str(account.gid)) if account else ("-", "-")
    launcher = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        *identity,
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        cwd="/",
        env=tool_environment(),
        umask=0o077,
    )
    output, _ = await launcher.communicate()
    try:
        return psutil.Process(int(output))
    except (psutil.NoSuchProcess, ValueError):
        return None
