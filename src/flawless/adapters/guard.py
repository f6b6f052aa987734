"""The guard: a small program that runs one tool, and sees to it that the tool does not outlive whoever asked for it.

It reads one line of JSON from its standard input: argv, the program's path, the directory, the environment, the grace
in seconds, and whether what the tool leaves running, once it has ended by itself, is meant to stay. Secrets reach it
this way only, never through an argument. When the pipe ends (Flawless was killed, or has had enough) or the tool ends,
the guard ends what is left of the tree: SIGTERM, the grace, SIGKILL. As child subreaper it becomes the parent of every
orphan below it, so a grandchild in a session of its own does not get away. What happened goes to standard error as
JSON lines.

Standard library only, POSIX only. Where the system has no subreaper (macOS), a grandchild that both left the session
and lost its parent cannot be followed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

from flawless.adapters.keeper.tree import ProcessId, become_subreaper, descendants, send

KILL_PATIENCE = 3.0
"""Seconds that processes may take to disappear after SIGKILL; one in uninterruptible sleep may take longer."""

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main() -> None:
    """Runs the one order of standard input; every end is told on the report pipe."""
    control, report = _move_pipes()
    order = json.loads(_first_line(control))
    become_subreaper()
    _Guard(order, control, report).run()


def _move_pipes() -> tuple[int, int]:
    """Standard input and error are our own business; the tool gets nothing to read and one stream to write."""
    control, report = os.dup(0), os.dup(2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(1, 2)
    return control, report


def _first_line(control: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(control, 65536)
        if not chunk:
            sys.exit(0)
        line += chunk
    return bytes(line)


class _Guard:
    def __init__(self, order: dict[str, Any], control: int, report: int) -> None:
        self._order = order
        self._control = control
        self._report = report
        self._pid = 0
        self._status: int | None = None
        self._orphans_left = True
        self._is_asked_to_end = False
        self._waker, wake = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._ask_to_end)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def _ask_to_end(self, *_: object) -> None:
        self._is_asked_to_end = True

    def run(self) -> None:
        problem = self._start()
        if problem is not None:
            self._tell(problem)
            return
        self._tell({"started": self._pid})
        while self._status is None and not self._is_told_to_end():
            self._reap()
        left = [] if self._status is not None and self._order["leaves"] else self._end_all()
        self._tell({"status": self._status, "left": left})

    def _tell(self, record: dict[str, Any]) -> None:
        try:
            os.write(self._report, json.dumps(record).encode() + b"\n")
        except BrokenPipeError:
            # Flawless is gone; the tree still has to be ended.
            return

    def _start(self) -> dict[str, Any] | None:
        """Forks the tool; a program that cannot be started comes back as a record."""
        problem, told = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _become(self._order, told)
        os.close(told)
        with os.fdopen(problem, "rb") as pipe:
            words = pipe.read()
        return json.loads(words) if words else None

    def _is_told_to_end(self) -> bool:
        ready, _, _ = select.select([self._control, self._waker], [], [])
        return self._is_asked_to_end or (self._control in ready and not os.read(self._control, 4096))

    def _reap(self) -> None:
        """Takes up every child that has ended; the tool's own status is kept."""
        _drain(self._waker)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._orphans_left = False
                return
            if pid == 0:
                self._orphans_left = True
                return
            if pid == self._pid:
                self._status = os.waitstatus_to_exitcode(status)

    def _end_all(self) -> list[int]:
        self._reap()
        self._signal_all_until(signal.SIGTERM, self._order["grace"])
        self._signal_all_until(signal.SIGKILL, KILL_PATIENCE)
        return [process.pid for process in descendants(os.getpid())]

    def _signal_all_until(self, number: signal.Signals, patience: float) -> None:
        """Signals every descendant, those born meanwhile too, each once (SIGKILL: again and again)."""
        deadline = time.monotonic() + patience
        told: set[ProcessId] = set()
        while self._orphans_left and time.monotonic() < deadline:
            for process in descendants(os.getpid()):
                if number == signal.SIGKILL or process not in told:
                    told.add(process)
                    send(process, number)
            select.select([self._waker], [], [], 0.02)
            self._reap()


def _become(order: dict[str, Any], told: int) -> NoReturn:
    """The child: a session of its own, the signals as a program expects them, the tool."""
    stage = "directory"
    try:
        os.setsid()
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        for number in (*_IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(order["directory"])
        stage = "program"
        os.execve(order["program"], order["argv"], order["environment"])  # noqa: S606 - argv, no shell
    except OSError as error:
        os.write(told, json.dumps({"failed": stage, "errno": error.errno, "error": error.strerror}).encode())
    finally:
        os._exit(127)


def _die_with_parent() -> None:
    """Should the guard itself be killed, the system kills the tool (Linux; PR_SET_PDEATHSIG of prctl(2))."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _drain(waker: int) -> None:
    try:
        while os.read(waker, 4096):
            pass
    except BlockingIOError:
        return
