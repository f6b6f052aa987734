"""A control group of our own with little memory, where this machine lets us make one (cgroups(7), both versions)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from support.stacks import until

LIMIT: Final = 256_000_000
"""Bytes: a command and its keepers need a third of it."""

_LEGACY: Final = Path("/sys/fs/cgroup/memory")
_UNIFIED: Final = Path("/sys/fs/cgroup")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Whoever enters its `cgroup.procs` has, with all its children, no more than `LIMIT` and no swap.

    To be asked for before a stack that enters it, which then leaves first.
    """
    folder = (_LEGACY if _LEGACY.is_dir() else _UNIFIED) / f"flawless-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error.strerror}")
    try:
        if not _is_limited(folder, LIMIT):
            pytest.skip("the memory of a control group cannot be limited here")
        yield folder
    finally:
        until(lambda: _is_removed(folder), "the control group is empty")


def entering(group: Path) -> str:
    """Python that puts the process, and so all that it starts, into the group."""
    return f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"


def _is_limited(folder: Path, limit: int) -> bool:
    for name in ("memory.swap.max", "memory.swappiness"):  # without swap the end of the memory comes at once
        with suppress(OSError):
            _tell(folder / name, 0)
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError):
            _tell(folder / name, limit)
            return True
    return False


def _tell(file: Path, value: int) -> None:
    """No such file is made: the kernel's are there, or the group has no such setting."""
    with file.open("r+") as setting:
        setting.write(str(value))


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
