"""The process that is kept, its whole tree, and how they are started and ended."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.loop import Loop
from flawless.adapters.keeper.record import ExitKind
from flawless.adapters.keeper.spec import KeeperSpec
from flawless.adapters.keeper.tree import ProcessId

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Final

_AGAIN: Final = 0.02
"""Seconds between two looks at processes whose end nothing announces, only while they are being ended."""
_ROUNDS: Final = 200
_RESTORED: Final = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXFSZ)
_COMMON: Final = (b"PATH", b"HOME", b"LANG", b"LC_", b"TZ", b"TMPDIR", b"PORT", b"FLAWLESS_DEPLOY_ID")

Ended = Callable[[ExitKind, int | None], None]


class CannotStart(Exception):
    """The program cannot be run; the status is the one a shell would give: 126 or 127."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Child:
    """One process at a time, and all that came of it. `ended` is called when the process itself has ended."""

    def __init__(self, loop: Loop, ended: Ended) -> None:
        self.process: ProcessId | None = None
        self.started = 0.0
        """On the monotonic clock."""
        self._loop = loop
        self._ended = ended
        self._adopted: set[ProcessId] = set()
        self._adopted_session: int | None = None
        self._adopted_end: int | None = None
        """The pidfd that tells of the end of the adopted process, as long as nobody was told of it."""
        self._fifo: os.stat_result | None = None
        self._has_orphans = tree.become_subreaper()

    def start(self, spec: KeeperSpec, output: int) -> None:
        """Run it in a session of its own; raise CannotStart."""
        try:
            os.chdir(spec.directory)
        except OSError as error:
            raise _refusal(error, spec.directory) from None
        try:
            pid = _spawn(spec, output)
        except OSError as error:
            raise _refusal(error, spec.command[0]) from None
        finally:
            os.chdir("/")  # a keeper holds no file system of others busy
        self.started = time.monotonic()
        self.process = tree.identity(pid)

    def adopt(self, process: ProcessId | None, age: float, fifo: os.stat_result) -> None:
        """Take over what another keeper started. It is not our child: a pidfd tells its end, nothing its status."""
        self._fifo = fifo
        self._adopted = set(tree.writers_to(fifo))
        pidfd = tree.open_pidfd(process) if process else None
        if process is None or pidfd is None:
            return
        self.process = process
        self.started = time.monotonic() - age
        self._adopted_session = process.pid
        self._adopted.add(process)
        self._adopted_end = pidfd
        self._loop.watch(pidfd, select.POLLIN, lambda _events: self.reap())

    def reap(self) -> None:
        """Bury our dead: the child, the orphans of its tree that became ours, and one that was adopted."""
        if self._adopted_end is not None and select.select([self._adopted_end], [], [], 0)[0]:
            self._bury_adopted()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.process and pid == self.process.pid:
                self.process = None
                code = os.waitstatus_to_exitcode(status)
                self._ended(ExitKind.SIGNAL if code < 0 else ExitKind.EXIT, abs(code))

    def family(self) -> list[ProcessId]:
        """Every living process of the tree, those that made a session of their own too."""
        roots = [process.pid for process in self._adopted if tree.is_alive(process)]
        members = {*tree.descendants(os.getpid(), *roots), *filter(tree.is_alive, self._adopted)}
        if self._adopted_session is not None:
            members.update(tree.session_members(self._adopted_session))
        if self._fifo is not None:
            members.update(tree.writers_to(self._fifo))
            self._adopted = members
        return list(members)

    def is_gone(self) -> bool:
        """Whether nothing of the tree is left. As the subreaper we need not search: no child, no tree."""
        if _has_children():
            return False
        if self._has_orphans and self._fifo is None:
            return True
        if self.family():
            return False
        self._adopted, self._adopted_session, self._fifo = set(), None, None
        self._bury_adopted()  # seen in the process table before its pidfd was looked at: what is started next lives
        return True

    def _bury_adopted(self) -> None:
        """Tell once that the adopted process has ended."""
        pidfd, self._adopted_end = self._adopted_end, None
        if pidfd is None:
            return
        self._loop.forget(pidfd)
        os.close(pidfd)
        self.process = None
        self._ended(ExitKind.UNKNOWN, None)

    def kill_children(self) -> None:
        """What forks and exits faster than the process table can be read becomes our child at each step: wait there."""
        for _ in range(_ROUNDS):
            pids = tree.children()
            if not pids:
                return
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self.reap()

    @property
    def is_announced(self) -> bool:
        """Whether SIGCHLD tells of every end in this tree."""
        return self._has_orphans and self._fifo is None


class Ending:
    """SIGTERM to a whole tree, SIGKILL to what is left of it at the deadline; `finished` once, when nothing is left."""

    def __init__(self, loop: Loop, child: Child, finished: Callable[[], None]) -> None:
        self._loop = loop
        self._child = child
        self._finished = finished
        self._is_over = False

    def begin(self, timeout: float) -> None:
        """Ask politely, and not for longer than `timeout` seconds."""
        for process in self._child.family():
            tree.send(process, signal.SIGTERM)
            tree.send(process, signal.SIGCONT)  # one that is stopped would not hear it
        self._loop.after(timeout, self._kill)
        self._loop.after(0, self.look)
        if not self._child.is_announced:
            self._loop.after(_AGAIN, self._look_again)

    def look(self) -> None:
        """Something ended: perhaps it was the last."""
        if not self._is_over and self._child.is_gone():
            self._is_over = True
            self._finished()

    def _kill(self) -> None:
        """All that is there now; again until nothing is, as what forks meanwhile was not seen."""
        if self._is_over:
            return
        for process in self._child.family():
            tree.send(process, signal.SIGKILL)
        self._child.kill_children()
        self.look()
        self._loop.after(_AGAIN, self._kill)

    def _look_again(self) -> None:
        self.look()
        if not self._is_over:
            self._loop.after(_AGAIN, self._look_again)


def environment_values(process: ProcessId) -> list[str]:
    """What it was started with, the variables aside that every child has; nothing when it is gone."""
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            pairs = [pair.partition(b"=") for pair in file.read().split(b"\0")]
    except OSError:
        return []
    if not tree.is_alive(process):
        return []
    return [os.fsdecode(value) for name, _, value in pairs if value and not name.startswith(_COMMON)]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _spawn(spec: KeeperSpec, output: int) -> int:
    return os.posix_spawn(
        spec.command[0],
        spec.command,
        spec.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_RESTORED,
    )


def _refusal(error: OSError, path: str) -> CannotStart:
    status = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
    return CannotStart(status, f"{path}: {os.strerror(error.errno or 0)}")
