"""The deploy lock: one holder, named to the others, and free the moment it dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flawless.adapters import locks
from flawless.adapters.locks import DeployLock, Holder
from flawless.core.errors import CommandFailed, LockHeld

NOW = datetime(2026, 11, 23, 14, 15, 2, 123000, tzinfo=UTC)
HOLD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from flawless.adapters.locks import DeployLock
with DeployLock(Path(sys.argv[1])).held("flawless deploy", datetime.now(UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""
CONTEND = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from flawless.adapters.locks import DeployLock
from flawless.core.errors import LockHeld
print("ready", flush=True)
sys.stdin.readline()
try:
    with DeployLock(Path(sys.argv[1])).held("flawless deploy", datetime.now(UTC)):
        print("won", flush=True)
        sys.stdin.read()
except LockHeld as held:
    print(held.evidence[0], flush=True)
"""


@contextmanager
def process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".flawless" / "lock"


def test_the_holder_is_known_as_long_as_it_holds(folder: Path) -> None:
    """Who, since when, with which command; nothing is left of it afterwards."""
    lock = DeployLock(folder)
    assert lock.holder() is None
    with lock.held("flawless deploy", NOW) as holder:
        assert lock.holder() == holder
        assert (holder.pid, holder.since, holder.command) == (
            os.getpid(),
            "2026-11-23T14:15:02.123Z",
            "flawless deploy",
        )
        assert stat.S_IMODE((folder / "deploy.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert lock.holder() is None
    assert not (folder / "deploy.json").exists()


def test_a_second_contender_is_told_who_holds_it(folder: Path) -> None:
    """Exit code 75, LOCK_HELD, with pid, user, since, command, and what to do."""
    with process(HOLD, folder) as holder:
        assert line(holder) == "held"
        with pytest.raises(LockHeld) as held, DeployLock(folder).held("flawless deploy", NOW):
            pass
    assert (held.value.exit_code, held.value.code) == (75, "LOCK_HELD")
    assert f"pid {holder.pid}, user " in held.value.cause
    assert held.value.next_steps[-1] == f"end it in good order: kill -INT {holder.pid}"


def test_two_locks_of_one_process_exclude_each_other_too(folder: Path) -> None:
    """It is no lock of a process, but of a holding."""
    with DeployLock(folder).held("one", NOW), pytest.raises(LockHeld), DeployLock(folder).held("two", NOW):
        pass


def test_it_is_free_the_moment_its_holder_is_killed(folder: Path) -> None:
    """Kill -9, and nobody has to run a command; the dead holder's note names nobody."""
    for _ in range(3):
        with process(HOLD, folder) as holder:
            assert line(holder) == "held"
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            before = time.monotonic()
            assert DeployLock(folder).holder() is None
            with DeployLock(folder).held("flawless deploy", NOW) as ours:
                assert time.monotonic() - before <= 0.1
                assert ours.pid == os.getpid()


def test_children_do_not_inherit_it(folder: Path) -> None:
    """A keeper that lives on does not hold the lock of the deploy that started it."""
    with DeployLock(folder).held("flawless deploy", NOW):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with DeployLock(folder).held("flawless deploy", NOW):
            pass
    finally:
        child.kill()
        child.wait()


def test_of_twenty_contenders_one_wins(folder: Path) -> None:
    """The others all name the winner."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(process(CONTEND, folder)) for _ in range(20)]
        assert {line(one) for one in contenders} == {"ready"}
        for one in contenders:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        said = {one.pid: line(one) for one in contenders}
    [winner] = [pid for pid, words in said.items() if words == "won"]
    assert all(words == "won" or words.startswith(f"pid {winner}, user ") for words in said.values())


def test_who_only_looks_does_not_keep_anybody_from_holding_it(folder: Path) -> None:
    """`flawless lock status` in a loop costs no deploy."""
    code = (
        "import sys; from pathlib import Path; from flawless.adapters.locks import DeployLock\n"
        "print('up', flush=True)\nwhile True: DeployLock(Path(sys.argv[1])).holder()"
    )
    DeployLock(folder)
    folder.mkdir(parents=True)
    with process(code, folder) as looking:
        assert line(looking) == "up"
        for _ in range(50):
            with DeployLock(folder).held("flawless deploy", NOW):
                pass


@pytest.mark.parametrize("note", [None, b"", b"{}", b"torn", b'{"pid": 1, "of": "another version"}'])
def test_a_holder_without_a_note_that_can_be_read_is_waited_for_a_moment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, note: bytes | None
) -> None:
    """Then it is somebody who has only just taken it."""
    monkeypatch.setattr(locks, "MOMENT", 0.05)
    with process(HOLD, folder) as holder:
        assert line(holder) == "held"
        (folder / "deploy.json").unlink()
        if note is not None:
            (folder / "deploy.json").write_bytes(note)
        with pytest.raises(LockHeld) as held, DeployLock(folder).held("flawless deploy", NOW):
            pass
    assert held.value.evidence == ("a process that has only just taken it",)
    assert len(held.value.next_steps) == 1


def test_a_dead_holders_note_names_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the lock and its note the note of a killed one is still there: nobody is told to kill its pid."""
    monkeypatch.setattr(locks, "MOMENT", 0.05)
    child = subprocess.Popen(["true"])
    child.wait()
    with process(HOLD, folder) as holder:
        assert line(holder) == "held"
        note = json.loads((folder / "deploy.json").read_bytes())
        (folder / "deploy.json").write_text(json.dumps(note | {"pid": child.pid}))
        assert DeployLock(folder).holder() is None or str(child.pid) not in str(DeployLock(folder).holder())


def test_an_error_in_the_block_frees_it_and_its_note(folder: Path) -> None:
    """Whatever happened to the deploy."""
    with pytest.raises(ZeroDivisionError), DeployLock(folder).held("flawless deploy", NOW):
        raise ZeroDivisionError
    assert not (folder / "deploy.json").exists()
    with DeployLock(folder).held("flawless deploy", NOW):
        pass


def test_on_a_full_disk_it_holds_without_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That nobody can be named is no reason for two deploys at once."""
    monkeypatch.setattr(locks, "MOMENT", 0.05)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks, "write_atomically", full)
    with DeployLock(folder).held("one", NOW), pytest.raises(LockHeld), DeployLock(folder).held("two", NOW):
        pass


def test_where_no_lock_can_be_kept_it_is_said(tmp_path: Path) -> None:
    """A refusal with a code and a next step, not a traceback."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CommandFailed) as refused, DeployLock(tmp_path / "file" / "lock").held("one", NOW):
        pass
    assert refused.value.code.startswith("DISK_")
    assert refused.value.next_steps


def test_trying_says_whether_it_is_ours(folder: Path) -> None:
    """For what may be done now or later."""
    folder.mkdir(parents=True)
    with DeployLock(folder).tried() as ours:
        assert ours
    with DeployLock(folder).held("one", NOW), DeployLock(folder).tried() as ours:
        assert not ours


def test_a_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container there is often no entry."""
    import getpass

    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert locks._user() == f"uid {os.getuid()}"
    monkeypatch.delattr(os, "getuid")
    assert locks._user() == "unknown"


def test_a_holder_reads_as_one_line() -> None:
    """As it is shown to the next one."""
    one = Holder(7, "ann", "2026-11-23T14:15:02.123Z", "flawless deploy", "0a1b2c3d")
    assert str(one) == "pid 7, user ann, since 2026-11-23T14:15:02.123Z: flawless deploy"
