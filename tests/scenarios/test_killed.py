"""A deploy killed with SIGKILL, at every record of its journal (FAILURES 62)."""

from __future__ import annotations

import itertools
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.killed_deploy import (
    LAST,
    VARIANTS,
    Moment,
    check_files,
    check_reports,
    first,
    kill_and_recover,
    killed_at,
    reports,
)
from support.mutants import failing
from support.stacks import Stack, stacks, until

SHARES = 2
"""Of the records, so that two workers of the test runner have one each."""

SIDE_BY_SIDE = 4
"""Stacks in one share: most of the time each waits."""


@pytest.mark.parametrize("share", range(SHARES))
def test_a_first_deploy_killed_behind_any_record_leaves_no_orphan_and_the_next_one_converges(
    tmp_path: Path, share: int
) -> None:
    """Every record of the first deploy's journal: the lock is free, everything that runs has an owner, the killed run
    has a report and an incident, and one further deploy is all it takes.
    """
    step = SHARES * SIDE_BY_SIDE
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        starts = range(1 + share * SIDE_BY_SIDE, 1 + (share + 1) * SIDE_BY_SIDE)
        kills = list(pool.map(lambda begin: _kill_every(tmp_path, begin, step), starts))
    assert sum(kills) >= 10, "a deploy has more records than that"


def _kill_every(folder: Path, begin: int, step: int) -> int:
    """How many records there were."""
    numbers = itertools.count(begin, step)
    return sum(
        1
        for _ in itertools.takewhile(lambda at: _killed(folder / f"record-{at:03}", "first", at, Moment.AFTER), numbers)
    )


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


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.TORN])
def test_a_deploy_killed_behind_its_report_keeps_that_one(tmp_path: Path, moment: Moment) -> None:
    """Only the journal's last record is missing: the report that is there is true, and no second one is written."""
    with stacks(tmp_path) as stack:
        first(stack)
        assert kill_and_recover(stack, LAST, moment)
        assert {report["result"] for report in reports(stack)} == {"success"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_command_killed_while_it_tells_of_a_killed_run_tells_it_only_once(stack: Stack, number: int) -> None:
    """The next one begins anew, and writes one report."""
    first(stack)
    stack.run("deploy", "-q", mutation=killed_at(20, Moment.AFTER))
    assert stack.run("status", mutation=killed_at(number, Moment.AFTER)).exit_code == -signal.SIGKILL
    assert stack.deploy("-q").exit_code == 0
    check_reports(stack)
    [killed] = [report for report in reports(stack) if report["result"] == "aborted"]
    assert not any("DEPLOY_KILLED" in line for line in killed["failure"]["evidence"])


@pytest.mark.parametrize("moment", ["action.intended", "state.json", "postmaster.pid"])
def test_a_deploy_killed_while_the_embedded_database_starts_for_the_first_time(stack: Stack, moment: str) -> None:
    """Before anything of it is there, while it is made, and while it starts: the next deploy goes on from there."""
    first(stack)
    stack.manifest["database"] = {"url": "embedded"}
    with stack.deploying("-q") as deploy:
        until(lambda: has_come_to(stack, moment) or deploy.poll() is not None, moment)
        deploy.kill()
        deploy.wait()
    again = stack.deploy("-q")
    assert again.exit_code == 0, again.output
    assert [report["result"] for report in reports(stack)] == ["aborted", "success"]
    check_reports(stack)
    check_files(stack.folder)


def has_come_to(stack: Stack, moment: str) -> bool:
    if moment == "action.intended":
        return any(b'"action.intended"' in path.read_bytes() for path in stack.folder.glob(".flawless/journal/*"))
    state = stack.folder / ".flawless/postgres/state.json"
    if moment == "state.json" or not state.exists():
        return state.exists()
    data = state.parent / str(json.loads(state.read_bytes())["data_directory"])
    return (data / moment).exists()


def _killed(folder: Path, variant: str, number: int, moment: Moment) -> bool:
    folder.mkdir(exist_ok=True)
    with stacks(folder) as stack:
        VARIANTS[variant](stack)
        return kill_and_recover(stack, number, moment)


def test_what_a_killed_deploy_left_running_is_not_called_healthy(tmp_path: Path) -> None:
    """It is ready, but no verdict was given and no crash would be answered: status says so, and what to do."""
    with stacks(tmp_path) as stack:
        first(stack)
        stack.timeouts(stable="60s")
        with stack.deploying() as deploy:
            until(lambda: (record := stack.record("api")) is not None and record["ready"], "it is ready")
            deploy.kill()
            deploy.wait()

        status = stack.run("status")

        assert status.exit_code == 2, status.output
        assert "no verdict yet" in status.stdout
        assert "flawless deploy" in status.stdout
        stack.timeouts(stable="0.1s")
        assert stack.deploy("-q").exit_code == 0
        assert stack.run("status").exit_code == 0


# --- without what settles it ---

NEVER_SETTLED = "from flawless.deploy import deployment\ndeployment.settle_killed = lambda *given: []"
TORN_IS_KEPT = "import os\nos.ftruncate = lambda *given: None"
NEVER_FOUND = "from flawless.adapters.archive import Archive\nArchive.find_report = lambda self, deploy_id: None"
NEVER_SETTLING = "from flawless.deploy import deployment\ndeployment._is_settling = lambda stamped: False"


@pytest.mark.parametrize(
    ("mutation", "number", "moment", "told"),
    [
        (NEVER_SETTLED, 20, Moment.AFTER, "expected 1, got 0"),
        (TORN_IS_KEPT, 18, Moment.TORN, "Expecting|Extra data|delimiter|Unterminated"),
        (NEVER_FOUND, LAST, Moment.BEFORE, "too many values"),
    ],
    ids=["settling", "cutting", "finding"],
)
def test_without_it_a_killed_deploy_would_be_told_wrongly(
    stack: Stack, mutation: str, number: int, moment: Moment, told: str
) -> None:
    """Not at all, in a journal that cannot be read, or twice."""
    first(stack)
    with failing(stack, mutation, told=told):
        kill_and_recover(stack, number, moment)


def test_without_the_mark_of_settling_a_killed_settling_would_be_told_of_itself(stack: Stack) -> None:
    with failing(stack, NEVER_SETTLING, told="assert not True"):
        test_a_command_killed_while_it_tells_of_a_killed_run_tells_it_only_once(stack, 2)
