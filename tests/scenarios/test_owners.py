"""Two users in one folder: who may write there, and what the other is told."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.stacks import FAULTY, Stack, stacks

NOBODY: Final = 65534
PROGRAMS: Final = [f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}", sys.executable]
"""The interpreter of the tests may lie in root's home; that of the system reads the same packages."""

AS_NOBODY: Final = f"""
import os, sys, sysconfig
environment = dict(os.environ, PYTHONPATH=os.pathsep.join([os.environ["PYTHONPATH"], sysconfig.get_path("purelib")]))
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
for program in {PROGRAMS}:
    try:
        os.execve(program, [program, "-m", "flawless", *sys.argv[1:]], environment)
    except OSError:
        pass
os._exit(127)
"""
READING: Final = (
    "status",
    "logs",
    "incidents list",
    "lock status",
    "plan",
    "check",
    "reports list",
    "reports show last",
)

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root is two users")


@pytest.fixture
def shared() -> Iterator[Stack]:
    """A stack in a folder that nobody else may enter too."""
    folder = Path(tempfile.mkdtemp(prefix="flawless-owners-"))
    folder.chmod(0o755)
    try:
        with stacks(folder) as stack:
            for path in (folder, folder / "home", folder / "tmp"):
                os.chown(path, NOBODY, NOBODY)
            stack.service("backend", command=[str(next(filter(os.path.exists, PROGRAMS))), *FAULTY[1:]])
            stack.write()
            os.chown(folder / "backend", NOBODY, NOBODY)
            if stack.run("version", mutation=AS_NOBODY).exit_code != 0:
                pytest.skip("nobody may not read this checkout")
            yield stack
    finally:
        shutil.rmtree(folder)


def owners(stack: Stack) -> set[int]:
    kept = [stack.folder / ".flawless", stack.folder / "logs"]
    return {path.lstat().st_uid for folder in kept for path in (folder, *folder.rglob("*"))}


def test_root_writes_nothing_into_a_state_of_another_user(shared: Stack) -> None:
    """DISK_NOT_WRITABLE, whose it is, how to run it as that user; then that user's commands work as before."""
    assert shared.run("deploy", mutation=AS_NOBODY).exit_code == 0
    pid = shared.pid("backend")
    for words in ("deploy", "stop", "start", "restart", "incidents list", "status", "check", "plan", "lock status"):
        done = shared.run(*words.split())
        if words in {"status", "check", "plan", "lock status"}:
            assert done.exit_code == 0, done.output
            continue
        assert done.exit_code == 1, done.output
        assert "DISK_NOT_WRITABLE: the state of this stack belongs to user nobody" in done.stderr
        assert f"sudo -u nobody flawless {words}\n" in done.stderr
    assert (shared.pid("backend"), owners(shared)) == (pid, {NOBODY})
    assert shared.run("status", mutation=AS_NOBODY).exit_code == 0
    assert shared.run("stop", mutation=AS_NOBODY).exit_code == 0
    assert shared.pid("backend") is None


def test_what_only_root_may_read_is_never_called_empty(shared: Stack) -> None:
    """Every verb of another user names the owner, and none says that there is nothing."""
    assert shared.deploy().exit_code == 0
    for words in (*READING, "deploy", "stop"):
        done = shared.run(*words.split(), mutation=AS_NOBODY)
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        assert "DISK_NOT_WRITABLE: the state of this stack belongs to user root" in done.stderr
        assert f"sudo -u root flawless {words}\n" in done.stderr
    assert shared.is_served("backend")


def test_the_database_of_another_user_is_refused_by_name(shared: Stack) -> None:
    """Nothing is made in their state, nothing is stopped, and the password is not shown; root is no exception."""
    assert shared.run("deploy", mutation=AS_NOBODY).exit_code == 0
    shared.manifest["database"] = {"url": "embedded"}
    for words in ("db start", "db stop", "db url", "db psql", "db remove"):
        done = shared.run(*words.split())
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        assert "DISK_NOT_WRITABLE: the state of this stack belongs to user nobody" in done.stderr
        assert f"sudo -u nobody flawless {words}\n" in done.stderr
    assert owners(shared) == {NOBODY}
    assert not (shared.folder / ".flawless/postgres").exists()
    del shared.manifest["database"]
    assert shared.run("stop", mutation=AS_NOBODY).exit_code == 0


def test_the_owner_of_the_project_is_not_asked_for(shared: Stack) -> None:
    """As root, with a state of root's, in a folder of somebody else's, everything works."""
    assert shared.deploy().exit_code == 0
    assert shared.deploy().exit_code == 0
    assert shared.run("status").exit_code == 0
    assert owners(shared) == {0}


def test_reports_that_cannot_be_read_are_not_called_none(shared: Stack) -> None:
    """The state may be ours and the logs another's."""
    assert shared.deploy().exit_code == 0
    for path in ((state := shared.folder / ".flawless"), *state.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    done = shared.run("reports", mutation=AS_NOBODY)
    for path in (state, *state.rglob("*")):
        os.chown(path, 0, 0)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    assert "the logs folder of this stack belongs to user root" in done.stderr
