"""What the kernel says of killing for want of memory, in the form in which it says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flawless.adapters.keeper.memory import oom_kills_in

UNIFIED = "low 0\nhigh 12\nmax 861\noom 3\noom_kill 2\noom_group_kill 0\n"
LEGACY = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
OLD_KERNEL = "oom_kill_disable 0\nunder_oom 0\n"


@pytest.mark.parametrize(
    ("said", "count"), [(UNIFIED, 2), (LEGACY, 2), (OLD_KERNEL, None), ("oom_kill many\n", None), ("", None)]
)
def test_the_count_is_that_of_kills_and_not_of_shortages(tmp_path: Path, said: str, count: int | None) -> None:
    """`memory.events` of the unified hierarchy, `memory.oom_control` of the other; before Linux 4.13 there is none."""
    file = tmp_path / "memory.events"
    file.write_text(said)
    assert oom_kills_in(str(file)) == count


def test_a_group_without_such_a_file_says_nothing(tmp_path: Path) -> None:
    """The root group has none."""
    assert oom_kills_in(str(tmp_path / "memory.events")) is None
