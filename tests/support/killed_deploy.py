"""A deploy that is killed at a record of its journal, and what must be true of the world then.

    stack.run("deploy", mutation=killed_at(7, Moment.AFTER))

The real command line runs; only the file that journals are appended to is told when to end the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psutil

from support.stacks import Stack, until

CANARY: Final = "canary-5f1e0c77d2a94b"
"""A secret that every service of these stacks is given."""


class Moment(StrEnum):
    """When to kill, seen from one record of the journal."""

    BEFORE = "before"
    TORN = "torn"
    AFTER = "after"


LAST: Final = 0


def killed_at(number: int, moment: Moment) -> str:
    """Python that makes the process kill itself at its own record of that number; the first one is 1.

    How many there are differs from run to run with the waits that are told; the last one is `LAST`.
    """
    tests = str(Path(__file__).resolve().parents[1])
    return (
        f"import sys; sys.path.append({tests!r})\n"
        f"from support.killed_deploy import _die_at; _die_at({number}, {str(moment)!r})"
    )


def _die_at(number: int, moment: str) -> None:
    from flawless.adapters.files import AppendFile

    append: Callable[..., None] = AppendFile.append
    seen = 0

    def append_and_die(self: AppendFile, data: bytes, *, sync: bool) -> None:
        nonlocal seen
        seen += 1
        is_there = seen >= number if number != LAST else b'"event":"run.ended"' in data
        if not is_there:
            append(self, data, sync=sync)
            return
        part = {Moment.BEFORE: b"", Moment.TORN: data[: len(data) // 2], Moment.AFTER: data}[Moment(moment)]
        os.write(self._descriptor, part)
        os.kill(os.getpid(), signal.SIGKILL)

    AppendFile.append = append_and_die  # type: ignore[method-assign]  # the one place that is made to fail


# --- three ways to begin ---


def first(stack: Stack) -> None:
    """Nothing was ever deployed here."""
    _declare(stack)


def changed(stack: Stack) -> None:
    """A good release runs, and the next one starts its service anew."""
    _declare(stack)
    _deploy_well(stack)
    _declare(stack, "print=second")


def failing(stack: Stack) -> None:
    """A good release runs, and the next one exits at once."""
    _declare(stack)
    _deploy_well(stack)
    _declare(stack, "print=second", "exit=3")


VARIANTS: Final[dict[str, Callable[[Stack], None]]] = {"first": first, "changed": changed, "failing": failing}


def mend(stack: Stack) -> None:
    """What the next deploy is to bring up: the same as before, or for one that could not work what could have."""
    words = stack.manifest["services"]["api"]["command"]
    _declare(stack, *(["print=second"] if "print=second" in words else []))


def _declare(stack: Stack, *words: str) -> None:
    stack.timeouts(stable="0.1s", stop="1s")
    stack.manifest["env"] = {"secrets": ["CANARY"]}
    stack.environment["CANARY"] = CANARY
    stack.manifest["services"].clear()
    stack.service("api", *words, "print-env=CANARY" if "exit=3" not in words else "name=api", secrets=["CANARY"])


def _deploy_well(stack: Stack) -> None:
    done = stack.deploy("-q")
    assert done.exit_code == 0, done.output


# --- what must be true ---


def kill_and_recover(stack: Stack, number: int, moment: Moment) -> bool:
    """One deploy killed at that record, and the next one. False when it ended before it came to that record."""
    before = set(_journals(stack))
    done = stack.run("deploy", "-q", mutation=killed_at(number, moment))
    if done.exit_code != -signal.SIGKILL:
        return False
    check_lock_is_free(stack)
    until(lambda: not unowned(stack), "every process has an owner")
    assert len(copies(stack, "api")) <= 1
    [killed] = set(_journals(stack)) - before
    events = whole_records(killed)
    if number % 2:
        stack.run("status")  # a command that only reads tells of it as well as the next deploy does
        check_told_once(stack, killed.stem, events)
    mend(stack)
    again = stack.deploy("-q")
    assert again.exit_code == 0, again.output
    assert len(copies(stack, "api")) == 1
    assert not unowned(stack)
    check_told_once(stack, killed.stem, events)
    check_reports(stack)
    check_files(stack.folder)
    stack.kill()
    return True


def check_lock_is_free(stack: Stack) -> None:
    """Within 100 ms of the holder's death, and without a command."""
    deadline = time.monotonic() + 0.1
    with (stack.folder / ".flawless/lock/deploy.lock").open("rb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < deadline, "the lock outlives its holder"
                time.sleep(0.002)
            else:
                return


def unowned(stack: Stack) -> list[str]:
    """Processes of the stack that are neither a keeper with a record nor below one."""
    keepers = {record["keeper"]["pid"] for record in _records(stack)}
    found = []
    for process in stack.processes():
        with suppress(psutil.NoSuchProcess):
            if not keepers & {process.pid, *(parent.pid for parent in process.parents())}:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def copies(stack: Stack, service: str) -> list[int]:
    """The processes that run a service's program from its directory."""
    folder = str(stack.folder / service)
    found = []
    for process in stack.processes():
        with suppress(psutil.NoSuchProcess):
            if process.cwd() == folder:
                found.append(process.pid)
    return found


def check_told_once(stack: Stack, deploy_id: str, events: list[dict[str, Any]]) -> None:
    """The run has one report, which is true of it, and one incident when it was cut short."""
    if not events:
        return
    [report] = [one for one in reports(stack) if one["deploy_id"] == deploy_id]
    opened = [one for one in detected(stack) if one["opening"]["deploy_id"] == deploy_id]
    if report["result"] != "aborted":
        assert "run.verdict" in {one["event"] for one in events}, report["result"]
        assert len(opened) == (report["result"] == "failure")
        return
    assert report["exit_code"] is None
    assert report["failure"]["code"] == "DEPLOY_KILLED"
    assert report["incident_id"] is not None
    assert {one["opening"]["details"]["code"] for one in opened} >= {"DEPLOY_KILLED"}
    assert len(opened) == 1, opened


def check_reports(stack: Stack) -> None:
    """Every run that wrote a record has one report, and one only; every journal has its end."""
    wanted = sorted(path.stem for path in _journals(stack) if whole_records(path))
    assert sorted(one["deploy_id"] for one in reports(stack)) == wanted
    for path in _journals(stack):
        events = whole_records(path)
        assert not events or events[-1]["event"] == "run.ended", path


def check_files(folder: Path) -> None:
    """Nothing half-written is left, nobody else may read what is there, and no secret stands in it."""
    for path in sorted([*(folder / ".flawless").rglob("*"), *(folder / "logs").rglob("*")]):
        mode = path.lstat().st_mode
        assert stat.S_IMODE(mode) == (0o700 if path.is_dir() else 0o600), f"{path} has mode {oct(mode)}"
        assert not path.name.endswith(".tmp"), f"{path} is left"
        assert not path.name.startswith("record.json."), f"{path} is left"
        if stat.S_ISREG(mode):
            assert CANARY.encode() not in path.read_bytes(), f"a secret stands in {path}"


def reports(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((stack.folder / "logs").glob("deploy-report-*.json"))]


def detected(stack: Stack) -> list[dict[str, Any]]:
    """What the outbox holds of faults that were seen."""
    paths = sorted((stack.folder / ".flawless/outbox").glob("*.jsonl"))
    records = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    return [one for one in records if one.get("opening")]


def whole_records(journal: Path) -> list[dict[str, Any]]:
    """The records of a journal; only the last line may be torn."""
    *lines, _torn = journal.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines]


def _journals(stack: Stack) -> list[Path]:
    return sorted((stack.folder / ".flawless/journal").glob("*.jsonl"))


def _records(stack: Stack) -> Iterator[dict[str, Any]]:
    for path in (stack.folder / ".flawless/run").glob("*/record.json"):
        yield json.loads(path.read_bytes())
