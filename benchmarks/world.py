"""A scratch folder and all that comes of it: processes, the pipe they speak through, and the end of them."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

LIMIT: Final = 30.0
"""Seconds that anything here is waited for."""
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_SHELL: Final = """echo born {name} $$ >{events}
test -z "$NOTIFY" || echo >&$NOTIFY
test -z "$NODE_CHANNEL_FD" || echo '"ready"' >&$NODE_CHANNEL_FD
: >{events}.{name}.ready
exec sleep 100000
"""
SERVICE: Final = Path(__file__).with_name("service.py")


class TooSlowError(Exception):
    """Something that must come did not come within the limit."""


@dataclass(frozen=True, slots=True)
class Task:
    """One service, as a peer and as Flawless are told to run it. Words of the command hold no blanks and no quotes."""

    name: str
    command: tuple[str, ...]
    port: int | None = None
    stop_timeout: float = 10.0
    """In seconds."""


class Events:
    """A named pipe into which services write a line each time something happens to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o666)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._pending: list[str] = []
        self._rest = b""

    def next(self, kind: str, name: str | None = None, limit: float = LIMIT) -> tuple[str, int]:
        """The service and the pid of the next event of this kind; others are dropped."""
        deadline = time.monotonic() + limit
        while True:
            while self._pending:
                said, who, pid = self._pending.pop(0).split()
                if said == kind and name in (None, who):
                    return who, int(pid)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise TooSlowError(f"{name or 'a service'}: no event {kind!r} within {limit:g} s")
            self._read()

    def all(self, kind: str, count: int, limit: float = LIMIT) -> dict[str, int]:
        """The pids of that many services, by name."""
        return dict(self.next(kind, limit=limit) for _ in range(count))

    def forget(self) -> None:
        """Drop what has been said so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 65536):
                pass
        self._pending, self._rest = [], b""

    def close(self) -> None:
        os.close(self._descriptor)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._descriptor, 65536)).split(b"\n")
        self._pending += [line.decode() for line in lines]


@dataclass
class World:
    """A folder of its own under the system's temporary one. Whatever mentions it is ended when the world ends."""

    folder: Path
    events: Events

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Self]:
        folder = Path(tempfile.mkdtemp(prefix="flawless-bench-")).resolve()
        folder.chmod(0o755)  # the embedded server of root runs as somebody else
        events = Events(folder / "events")
        try:
            yield cls(folder, events)
        finally:
            events.close()
            end_all(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def service(self, name: str, *options: str | float, port: int | None = None, stop_timeout: float = 10.0) -> Task:
        """The Python service of this benchmark: boots, listens, says so."""
        ports = ("--port", str(port)) if port else ()
        command = (sys.executable, "-I", "-S", str(SERVICE), name, str(self.events.path), *ports, *map(str, options))
        return Task(name, command, port, stop_timeout)

    def printer(self, name: str, lines: int, pause: float = 0.0) -> Task:
        """A service that prints, `pause` seconds between two lines, from the moment that `go` is called."""
        if not self.gate.exists():
            os.mkfifo(self.gate, 0o666)
        return self.service(name, "--gate", str(self.gate), "--lines", lines, "--pause", pause)

    def go(self) -> None:
        """Let the printer begin."""
        with self.gate.open("wb"):
            pass

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def shell(self, name: str) -> Task:
        """The lightest service there is: says its pid and sleeps. Its start takes a millisecond."""
        script = self.folder / f"{name}.sh"
        script.write_text(_SHELL.format(name=name, events=self.events.path), encoding="utf-8")
        return Task(name, ("/bin/sh", str(script)))


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    seconds: float
    cpu: float
    """Seconds of processor time: what stays the same while others keep the machine busy."""
    output: str
    errors: str
    code: int


def run(
    command: Sequence[str | Path],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    codes: tuple[int, ...] = (0,),
) -> Ran:
    """Runs a command to its end; any other exit code than those is an error with its last words."""
    used, began = _children_cpu(), time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment() | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
        check=False,
    )
    seconds = time.perf_counter() - began
    if codes and done.returncode not in codes:
        words = (done.stderr or done.stdout).strip()[-400:]
        raise RuntimeError(f"{' '.join(map(str, command[-3:]))} ended with {done.returncode}: {words}")
    return Ran(seconds, _children_cpu() - used, done.stdout, done.stderr, done.returncode)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def launch(command: Sequence[str | Path], folder: Path, **details: Any) -> subprocess.Popen[bytes]:
    """Starts what stays; it is ended with its world."""
    usual: dict[str, Any] = {
        "cwd": folder,
        "env": environment(),
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "start_new_session": True,
    }
    return subprocess.Popen([str(word) for word in command], **usual | details)


def environment() -> dict[str, str]:
    """What every contender is given: nothing of ours but the usual names."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], object], what: str, limit: float = LIMIT, pause: float = 0.002) -> None:
    """For what nothing announces."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            raise TooSlowError(f"{what}: not within {limit:g} s")
        time.sleep(pause)


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


# --- processes -------------------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    """Runs, and is more than a dead entry that nobody has collected."""
    return _state(pid) not in ("", "Z", "X")


def gone(awaited: Iterable[int], limit: float = LIMIT) -> None:
    """Returns once all of them have ended."""
    awaited = list(awaited)
    left = {pid for pid in awaited if is_alive(pid)}

    def none_left() -> bool:
        left.intersection_update([pid for pid in left if is_alive(pid)])
        return not left

    until(none_left, "processes end", limit, 0.0005)
    for pid in awaited:
        with contextlib.suppress(ChildProcessError):  # not ours to collect; monit takes a dead entry for a living one
            os.waitpid(pid, os.WNOHANG)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def pss(pids: Iterable[int]) -> float:
    """Megabytes that these processes take, what they share divided among its users."""
    return sum(_pss_kilobytes(pid) for pid in pids) / 1000


def cpu(pids: Iterable[int]) -> float:
    """Seconds of processor time that all threads of these processes have used."""
    return sum(_cpu_nanoseconds(pid) for pid in pids) / 1e9


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for each in pids():
        children.setdefault(_parent(each), []).append(each)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def mentioning(text: str | Path) -> list[int]:
    """The processes, ourselves aside, whose arguments, folder or environment name this text."""
    wanted = os.fsencode(text)
    return [pid for pid in pids() if pid != os.getpid() and any(wanted in part for part in _traces(pid))]


def end_all(folder: Path) -> None:
    """Kills whatever mentions the folder, again until nothing does: a supervisor may be among it."""
    deadline = time.monotonic() + 5
    while (left := [pid for pid in mentioning(folder) if is_alive(pid)]) and time.monotonic() < deadline:
        for pid in left:
            kill(pid)
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _traces(pid: int) -> Iterator[bytes]:
    yield _read(pid, "cmdline")
    with contextlib.suppress(OSError):
        yield os.fsencode(Path(f"/proc/{pid}/cwd").readlink())
    yield _read(pid, "environ")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _state(pid: int) -> str:
    return _read(pid, "stat").rpartition(b") ")[2][:1].decode()


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _pss_kilobytes(pid: int) -> int:
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def _cpu_nanoseconds(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(int((task / "schedstat").read_bytes().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    return 0
