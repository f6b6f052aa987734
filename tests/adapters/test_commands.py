"""Tools run under the guard: they die with us, and nothing they print does harm."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flawless.adapters.commands import LINE_LIMIT, Command, Completed, run
from flawless.adapters.keeper.tree import ProcessId, descendants, is_alive
from flawless.core.errors import CommandFailed
from flawless.core.redaction import Redactor
from support.eventually import eventually

pytestmark = pytest.mark.anyio
CANARY = "canary-7f3a9b2c5d8e"
PATH = os.environ["PATH"]

HIDDEN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
written, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
        os.close(told)
        signal.pause()
    os._exit(0)
os.close(told)
os.read(written, 1)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
print("ready", flush=True)
signal.pause()
"""
"""Ignores SIGTERM, and so does its grandchild, which has a session of its own; both write their pids."""


async def tool(*argv: str, directory: Path, limit: float = 20.0, keep_lines: int = 50) -> Completed:
    command = Command(argv, directory, {"PATH": PATH, "SECRET": CANARY})
    return await run(command, limit=limit, redactor=Redactor([CANARY]), keep_lines=keep_lines)


async def python(code: str, *arguments: str, directory: Path, limit: float = 20.0) -> Completed:
    return await tool(sys.executable, "-S", "-c", code, *arguments, directory=directory, limit=limit)


def written_pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


async def test_output_is_kept_in_order_with_the_exit_code(tmp_path: Path) -> None:
    """Standard output and error come as one stream; the exit code is the tool's own."""
    done = await tool("sh", "-c", "echo one; echo two >&2; echo three; pwd; exit 3", directory=tmp_path)
    assert (3, ("one", "two", "three", str(tmp_path))) == (done.status, done.output_tail)
    assert not done.succeeded
    assert not done.truncated


async def test_a_signal_is_a_negative_status(tmp_path: Path) -> None:
    """As in subprocess: minus the number of the signal."""
    assert (await tool("sh", "-c", "kill -9 $$", directory=tmp_path)).status == -signal.SIGKILL


async def test_the_tool_has_the_signals_a_program_expects_and_no_input(tmp_path: Path) -> None:
    """Nothing of the guard is inherited: no ignored or blocked signal, no descriptor but three, nothing to read."""
    code = "grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '; cat"
    done = await tool("sh", "-c", code, directory=tmp_path)
    assert all(line.split()[1] == "0" * 16 for line in done.output_tail[:2]), done.output_tail
    assert done.output_tail[2] == "0 1 2 3 "


async def test_the_environment_is_exactly_the_one_given(tmp_path: Path) -> None:
    """Nothing of ours leaks in, and the guard's own argv and environment hold no secret."""
    own = "tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' ' ' < /proc/$PPID/cmdline"
    done = await tool("sh", "-c", f"({own}) | grep -c {CANARY[:9]}; env | cut -d= -f1 | sort", directory=tmp_path)
    assert done.output_tail[0] == "0"
    assert {"PATH", "SECRET", "PWD"} >= set(done.output_tail[1:]) - {"_", "SHLVL", "OLDPWD"}


async def test_a_secret_is_gone_wherever_the_output_is_cut(tmp_path: Path) -> None:
    """Redaction comes before lines are cut, and sees across writes."""
    code = (
        "import os, sys, time; s = os.environ['SECRET'].encode()\n"
        "for i in range(1, len(s)): os.write(1, b'a' + s[:i]); os.write(1, s[i:] + b'\\n')\n"
        f"os.write(1, b'x' * ({LINE_LIMIT} - 5) + s)"
    )
    done = await python(code, directory=tmp_path)
    assert len(CANARY) == len(done.output_tail)
    assert not [line for line in done.output_tail if "canary" in line]


async def test_twenty_megabytes_neither_block_nor_fill_memory(tmp_path: Path) -> None:
    """Only the tail is kept, of lines and of one endless line; invalid UTF-8 is replaced."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = (
        "import sys; out = sys.stdout.buffer; out.write((b'x' * 99 + b'\\n') * 100_000)\n"
        "out.write(b'y' * 10_000_000); out.write(b'\\nlast \\xff\\n')"
    )
    done = await python(code, directory=tmp_path, limit=60)
    assert done.status == 0
    assert done.truncated
    assert len(done.output_tail) == 50
    assert done.output_tail[-2] == "y" * LINE_LIMIT
    assert done.output_tail[-1] == "last \ufffd"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


async def test_the_whole_tree_ends_at_the_limit(tmp_path: Path) -> None:
    """SIGTERM is ignored and a grandchild has left the session: both are gone when the run comes back."""
    file = tmp_path / "pids"
    done = await python(HIDDEN, str(file), directory=tmp_path, limit=1.0)
    assert done.timed_out
    assert done.output_tail == ("ready",)
    assert done.duration < 2.5
    assert len(written_pids(file)) == 2
    assert not [pid for pid in written_pids(file) if psutil.pid_exists(pid)]


async def test_what_a_tool_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """A background process that holds the output open does not hold up the run."""
    code = "(setsid sleep 60 & echo $! > pid); echo done"
    done = await tool("sh", "-c", code, directory=tmp_path)
    assert (done.status, done.output_tail) == (0, ("done",))
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_what_a_tool_is_run_to_leave_stays_when_it_has_ended_by_itself(tmp_path: Path) -> None:
    """A command that restarts something does so to leave it running; at its limit it is ended with all of it."""
    silent = "stdin=-3, stdout=-3, stderr=-3"
    child = f"import subprocess; print(subprocess.Popen(['sleep', '600'], {silent}).pid, flush=True)"
    command = Command((sys.executable, "-S", "-c", child), tmp_path, {"PATH": PATH})
    done = await run(command, limit=20.0, redactor=Redactor([]), leaves=True)
    left = psutil.Process(int(done.output_tail[0]))
    try:
        assert left.is_running()
        assert left.status() != psutil.STATUS_ZOMBIE
    finally:
        left.kill()
    stuck = Command((sys.executable, "-S", "-c", f"{child}; import signal; signal.pause()"), tmp_path, {"PATH": PATH})
    done = await run(stuck, limit=1.0, redactor=Redactor([]), leaves=True)
    assert done.timed_out
    assert not psutil.pid_exists(int(done.output_tail[0]))


async def test_cancelling_ends_the_tree(tmp_path: Path) -> None:
    """Nothing is left when a cancelled run has ended."""
    file = tmp_path / "pids"
    started = asyncio.Event()
    command = Command((sys.executable, "-S", "-c", HIDDEN, str(file)), tmp_path, {})
    running = asyncio.create_task(
        run(command, limit=60, redactor=Redactor([]), on_line=lambda line: started.set() if line == "ready" else None)
    )
    async with asyncio.timeout(10):
        await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(written_pids(file)) == 2
    assert not [pid for pid in written_pids(file) if psutil.pid_exists(pid)]


def test_killing_flawless_kills_the_tool_within_a_second(tmp_path: Path) -> None:
    """After SIGKILL of the process that runs it, the tool and its hidden grandchild are gone within 1 s."""
    file = tmp_path / "pids"
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from flawless.adapters.commands import Command, run; from flawless.core.redaction import Redactor\n"
        f"command = Command((sys.executable, '-S', '-c', {HIDDEN!r}, {str(file)!r}), Path({str(tmp_path)!r}), {{}})\n"
        "asyncio.run(run(command, limit=60, redactor=Redactor([]), on_line=lambda line: print(line, flush=True)))"
    )
    source = str(Path(__file__).parents[2] / "src")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={"PYTHONPATH": source, "PATH": PATH}
    ) as flawless:
        try:
            assert flawless.stdout is not None
            assert flawless.stdout.readline() == b"ready\n"
            tree = [psutil.Process(pid) for pid in written_pids(file)]
        finally:
            flawless.kill()
        killed = time.monotonic()
        _, alive = psutil.wait_procs(tree, timeout=5)
    assert not alive
    assert (took := time.monotonic() - killed) < 1.0, took


async def test_killing_the_guard_kills_the_tool(tmp_path: Path) -> None:
    """The system itself ends the tool when its guard is killed, and the run says that it was killed."""
    guards: list[int] = []
    command = Command(("sleep", "60"), tmp_path, {"PATH": PATH})
    running = asyncio.create_task(run(command, limit=60, redactor=Redactor([]), on_start=guards.append))
    asleep: list[ProcessId] = []

    async def is_asleep() -> bool:
        asleep[:] = [child for guard in guards for child in descendants(guard) if _name(child.pid) == "sleep"]
        return bool(asleep)

    async def has_ended() -> bool:
        return not is_alive(asleep[0])

    await eventually(is_asleep)
    os.kill(guards[0], signal.SIGKILL)
    assert (await running).status == -signal.SIGKILL
    await eventually(has_ended, limit=1)


async def test_a_guard_that_cannot_start_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of a tool that was never started."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(CommandFailed, match="was not started") as caught:
        await tool("true", directory=tmp_path)
    assert caught.value.code == "DEPLOY_INTERNAL"


async def test_a_guard_that_is_told_to_end_ends_the_tree(tmp_path: Path) -> None:
    """SIGTERM to every process of a unit, as a service manager sends it, leaves no hidden grandchild."""
    file = tmp_path / "pids"
    guards: list[int] = []
    command = Command((sys.executable, "-S", "-c", HIDDEN, str(file)), tmp_path, {})

    def on_line(line: str) -> None:
        if line == "ready":
            os.kill(guards[0], signal.SIGTERM)

    done = await run(command, limit=20, redactor=Redactor([]), on_line=on_line, on_start=guards.append)
    assert done.status == -signal.SIGKILL
    assert not done.timed_out
    assert not [pid for pid in written_pids(file) if psutil.pid_exists(pid)]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def test_a_missing_program_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """TOOL_MISSING names the program and every place."""
    command = Command(("no-such-tool",), tmp_path, {"PATH": "/first:/second"})
    with pytest.raises(CommandFailed) as caught:
        await run(command, limit=5, redactor=Redactor([]))
    assert caught.value.code == "TOOL_MISSING"
    assert "no-such-tool" in caught.value.cause
    assert "looked for in: /first, /second" in caught.value.evidence


async def test_a_program_by_path_is_found_from_the_directory(tmp_path: Path) -> None:
    """`./tool` is meant from the command's directory, not from ours; without its interpreter it is TOOL_MISSING."""
    own = tmp_path / "tool"
    own.write_text("#!/bin/sh\necho here\n")
    own.chmod(0o755)
    assert (await tool("./tool", directory=tmp_path)).output_tail == ("here",)
    own.write_text("#!/no/such/interpreter\n")
    with pytest.raises(CommandFailed) as caught:
        await tool("./tool", directory=tmp_path)
    assert caught.value.code == "TOOL_MISSING"
    with pytest.raises(CommandFailed, match="is not a directory"):
        await tool("true", directory=tmp_path / "missing")


def test_a_command_shows_what_to_paste_and_no_environment(tmp_path: Path) -> None:
    """Its text can be pasted; its repr shows no secret."""
    command = Command(("npx", "a b"), tmp_path, {"SECRET": CANARY})
    assert f"cd {tmp_path} && npx 'a b'" == str(command)
    assert CANARY not in repr(command)
