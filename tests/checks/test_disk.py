"""FAILURE 14 on real folders: what cannot be written is named with its owner, mode and errno; nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flawless.checks import disk
from flawless.checks.disk import FolderWritable
from flawless.core.check import Failed, Passed
from flawless.core.reason import Reason

pytestmark = pytest.mark.anyio

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount, or to ask as another user")

QUESTION = """
import asyncio, json, os, sys
from pathlib import Path
from flawless.checks.disk import FolderWritable
def ask(folder): return asyncio.run(FolderWritable(Path(sys.argv[1]), folder).ask(5))
ask("warm"), ask("/proc")  # loads all modules, for which the other user may lack the right
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
outcome = ask(sys.argv[3])
told = [getattr(outcome, "reason", None), getattr(outcome, "cause", ""), outcome.evidence]
print(json.dumps([*told, getattr(outcome, "next_steps", None)]))
"""


def asked_as(uid: int, root: Path, folder: str) -> list[Any]:
    """What another user is told: reason, cause, evidence, next steps."""
    for parent in (root, *root.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    argv = [sys.executable, "-c", QUESTION, str(root), str(uid), folder]
    told: list[Any] = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    return told


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while file.write(b"x" * 65536):
            pass


def create_many(folder: Path) -> None:
    for number in range(100):
        (folder / str(number)).touch()


async def failed(check: FolderWritable) -> Failed:
    outcome = await check.ask(5)
    assert isinstance(outcome, Failed), outcome
    return outcome


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=64", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_folder_that_can_be_written(tmp_path: Path) -> None:
    """A file is really written, and the folder is as it was: same entries, same time of change."""
    before = tmp_path.stat().st_mtime_ns
    outcome = await FolderWritable(tmp_path, ".").ask(5)
    assert isinstance(outcome, Passed)
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == before


async def test_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system has no nameless files one is written and its name is gone before anything else is done."""
    monkeypatch.setattr(sys, "platform", "freebsd")
    seen: list[list[Path]] = []
    write = os.write

    def look_and_write(descriptor: int, data: bytes) -> int:
        seen.append(list(tmp_path.iterdir()))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", look_and_write)
    disk._write_in(tmp_path)
    assert seen == [[]]


async def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    """A folder of the project that does not exist passes when it can be created, and still does not exist."""
    outcome = await FolderWritable(tmp_path, "backend/storage").ask(5)
    assert isinstance(outcome, Passed)
    assert "does not exist yet" in outcome.evidence[0]
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_folder_outside(tmp_path: Path) -> None:
    """Outside of the project nothing is created, so what is missing there is a failure with the command."""
    project, outside = tmp_path / "project", tmp_path / "data" / "uploads"
    project.mkdir()
    failure = await failed(FolderWritable(project, str(outside)))
    assert failure.reason is Reason.DISK_NOT_WRITABLE
    assert failure.next_steps == (f"mkdir -p {outside}",)


@pytest.mark.parametrize("name", ["storage", "storage/uploads"])
async def test_a_file_in_its_place(tmp_path: Path, name: str) -> None:
    """A file where the folder should be is DISK_NOT_WRITABLE with ENOTDIR."""
    (tmp_path / "storage").write_text("")
    failure = await failed(FolderWritable(tmp_path, name))
    assert failure.reason is Reason.DISK_NOT_WRITABLE
    assert any("ENOTDIR" in line for line in failure.evidence)


async def test_where_not_even_root_may_write(tmp_path: Path) -> None:
    """A folder that nobody may write in is named with what the system said."""
    failure = await failed(FolderWritable(tmp_path, "/proc"))
    assert failure.reason is Reason.DISK_NOT_WRITABLE
    assert "/proc is of root, mode dr-xr-xr-x; asked as " in failure.evidence[-1]


@as_root
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """DISK_NOT_WRITABLE says whose it is, its mode, who asked, the errno and the line to paste."""
    (tmp_path / "storage").mkdir(mode=0o755)
    reason, cause, evidence, steps = asked_as(NOBODY, tmp_path, "storage")
    assert reason == "DISK_NOT_WRITABLE"
    assert cause == f"{tmp_path}/storage is not writable: no file can be written there"
    assert evidence[0].endswith("Permission denied (EACCES)")
    assert evidence[1] == f"{tmp_path}/storage is of root, mode drwxr-xr-x; asked as nobody"
    assert steps == [f"see whom it belongs to, then: sudo chown -R nobody {tmp_path}/storage"]


@as_root
def test_a_missing_folder_below_another_users(tmp_path: Path) -> None:
    """What does not exist and cannot be created is a failure."""
    reason, _, evidence, _ = asked_as(NOBODY, tmp_path, "logs")
    assert reason == "DISK_NOT_WRITABLE"
    assert evidence[0] == f"{tmp_path}/logs does not exist and cannot be created"


@as_root
def test_each_folder_of_a_pattern(tmp_path: Path) -> None:
    """`storage/*` means the folder and every folder in it."""
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage").chmod(0o777)
    assert asked_as(NOBODY, tmp_path, "storage/*")[0] is None
    (tmp_path / "storage" / "uploads").mkdir(mode=0o755)
    reason, cause, _, _ = asked_as(NOBODY, tmp_path, "storage/*")
    assert reason == "DISK_NOT_WRITABLE"
    assert "storage/uploads" in cause


@as_root
async def test_a_read_only_file_system(small_disk: Path) -> None:
    """A read-only mount is said to be one."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    failure = await failed(FolderWritable(small_disk, "logs"))
    assert failure.reason is Reason.DISK_NOT_WRITABLE
    assert failure.cause.endswith("the file system is read-only")
    assert "EROFS" in " ".join(failure.evidence)


@as_root
async def test_a_full_disk(small_disk: Path) -> None:
    """A disk without a free block is DISK_FULL; one with a little room passes with a warning."""
    nearly = await FolderWritable(small_disk, ".").ask(5)
    assert isinstance(nearly, Passed)
    assert nearly.concern is not None
    assert nearly.concern.reason is Reason.DISK_FULL
    with pytest.raises(OSError, match="No space"):
        fill(small_disk / "fill")
    failure = await failed(FolderWritable(small_disk, "."))
    assert failure.reason is Reason.DISK_FULL
    assert "ENOSPC" in failure.evidence[0]
    (small_disk / "fill").write_bytes(b"x" * 13_000_000)
    scarce = await failed(FolderWritable(small_disk, "."))
    assert scarce.reason is Reason.DISK_FULL
    assert "3 MB are free" in scarce.evidence[0] or "4 MB are free" in scarce.evidence[0]


@as_root
async def test_no_inode_left(small_disk: Path) -> None:
    """A disk that can take no further file is full too, whatever its free bytes."""
    with pytest.raises(OSError, match="No space"):
        create_many(small_disk)
    assert (await failed(FolderWritable(small_disk, "."))).reason is Reason.DISK_FULL
