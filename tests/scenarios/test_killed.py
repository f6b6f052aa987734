"""A deploy killed with SIGKILL, at every record of its journal (FAILURES 62)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.killed_deploy import VARIANTS, Moment, kill_and_recover
from support.stacks import stacks

CHUNKS = 4


@pytest.mark.parametrize("chunk", range(1, CHUNKS + 1))
def test_a_first_deploy_killed_behind_any_record_leaves_no_orphan_and_the_next_one_converges(
    tmp_path: Path, chunk: int
) -> None:
    """Every record of the first deploy's journal, shared out: the lock is free, everything that runs has an owner,
    the killed run has a report and an incident, and one further deploy is all it takes.
    """
    number = chunk
    while _killed(tmp_path / str(number), "first", number, Moment.AFTER):
        number += CHUNKS
    assert number > 20, "a deploy has more records than that"


@pytest.mark.parametrize("variant", ["changed", "failing"])
@pytest.mark.parametrize("number", [16, 20, 22, 26])
def test_a_redeploy_that_is_killed_leaves_one_copy_and_the_next_one_converges(
    tmp_path: Path, variant: str, number: int
) -> None:
    assert _killed(tmp_path, variant, number, Moment.AFTER)


@pytest.mark.parametrize("number", [1, 2, 18])
def test_a_torn_last_record_is_dropped(tmp_path: Path, number: int) -> None:
    """The kill came in the middle of a write: the record before it stands, and what follows does not join it."""
    assert _killed(tmp_path, "first", number, Moment.TORN)


def _killed(folder: Path, variant: str, number: int, moment: Moment) -> bool:
    folder.mkdir(exist_ok=True)
    with stacks(folder) as stack:
        VARIANTS[variant](stack)
        return kill_and_recover(stack, number, moment)
