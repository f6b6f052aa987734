"""Who is who among processes: told apart by pid, start time and boot, with their kin; signals reach nobody else.

Linux is read through /proc (proc(5)); elsewhere psutil is asked. There is no cgroup here: what leaves the tree by
forking twice is found because the keeper is the subreaper of all it starts (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

from flawless.adapters.keeper.value import Value

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36


class ProcessId(Value):
    """One process and no other: a pid alone is reused, and so is a pid with its start time after a reboot."""

    pid: int
    start_time: int
    """In clock ticks since the boot."""
    boot_id: str


class Stat(Value):
    """What the process table says of one process."""

    pid: int
    dead: bool
    parent: int
    group: int
    session: int
    start_time: int


def boot_id() -> str:
    """Names this boot of this machine."""
    if sys.platform != "linux":
        import psutil

        return str(int(psutil.boot_time()))
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip().decode()


def identity(pid: int) -> ProcessId | None:
    """The process that has this pid now, a zombie too; None when there is none."""
    stat = read_stat(pid)
    return ProcessId(pid, stat.start_time, boot_id()) if stat else None


def is_alive(process: ProcessId) -> bool:
    """A zombie is dead, and so is one whose pid was given to another, or whose machine has rebooted since."""
    stat = read_stat(process.pid)
    if stat is None or stat.dead:
        return False
    return stat.start_time == process.start_time and boot_id() == process.boot_id


def read_stat(pid: int) -> Stat | None:
    """One row of the process table; None when the process is gone."""
    if sys.platform != "linux":
        return _stat_by_psutil(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            raw = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    state, *fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(pid, state in b"ZXx", int(fields[0]), int(fields[1]), int(fields[2]), int(fields[18]))


def _stat_by_psutil(pid: int) -> Stat | None:
    import psutil

    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        started = int(process.create_time() * 100)
        return Stat(pid, dead, process.ppid(), os.getpgid(pid), os.getsid(pid), started)
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None


def processes() -> list[Stat]:
    """The whole process table, as far as it can be seen."""
    if sys.platform == "linux":
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        import psutil

        pids = psutil.pids()
    return [stat for stat in map(read_stat, pids) if stat]


def descendants(*pids: int) -> list[ProcessId]:
    """The living children of these processes, and theirs, parents first."""
    children: dict[int, list[Stat]] = {}
    for stat in processes():
        children.setdefault(stat.parent, []).append(stat)
    found: list[Stat] = []
    queue = list(pids)
    while queue:
        born = children.get(queue.pop(0), [])
        found += born
        queue += [stat.pid for stat in born]
    return _living(found)


def offspring(pid: int) -> list[int]:
    """The pids below this one, read from the kernel's own lists of children: quick, for asking often.

    A process that forks meanwhile may be missed, so who means to end a tree asks `descendants`.
    """
    found: list[int] = []
    queue = [pid]
    while queue:
        born = _children(queue.pop())
        found += born
        queue += born
    return found


def _children(pid: int) -> list[int]:
    """Each thread has a list of its own (proc(5), /proc/PID/task/TID/children)."""
    born: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                born += [int(word) for word in file.read().split()]
    except OSError:  # it has ended; or a system, or a kernel, without these lists
        return born if sys.platform == "linux" else [process.pid for process in descendants(pid)]
    return born


def children() -> list[int]:
    """The pids of our own children, zombies too. Until we reap them no other process can have these pids."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or no Linux
        return [stat.pid for stat in processes() if stat.parent == os.getpid()]


def session_members(session: int) -> list[ProcessId]:
    """The living processes of a session. Its number is not given to another while one of them lives."""
    return _living(stat for stat in processes() if stat.session == session)


def writers_to(wanted: os.stat_result) -> list[ProcessId]:
    """The living processes, save this one, whose standard output or error is that very file."""
    return _living(stat for stat in processes() if stat.pid != os.getpid() and _writes_to(stat.pid, wanted))


def _writes_to(pid: int, wanted: os.stat_result) -> bool:
    for number in (1, 2):
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                return True
        except OSError:  # gone, closed, or another user's, whom we did not start
            continue
    return False


def _living(stats: Iterable[Stat]) -> list[ProcessId]:
    boot = boot_id()
    return [ProcessId(stat.pid, stat.start_time, boot) for stat in stats if not stat.dead]


def send(process: ProcessId, signal_number: int) -> bool:
    """Signal exactly this process; False when it is gone or not ours to signal. A reused pid is never signalled."""
    descriptor = open_pidfd(process)
    if descriptor is None and not is_alive(process):
        return False
    try:
        if descriptor is None:
            os.kill(process.pid, signal_number)
        else:
            signal.pidfd_send_signal(descriptor, signal_number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def open_pidfd(process: ProcessId) -> int | None:
    """A descriptor of exactly this process, readable when it ends; None when it is gone or the system has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if is_alive(process):  # asked after opening: from here on the pid cannot come to mean another process
        return descriptor
    os.close(descriptor)
    return None


def become_subreaper() -> bool:
    """Make orphans of this tree our children instead of init's; False where the system cannot do it."""
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
