"""One run from its first record to its report, whatever happens behind the verdict; and the runs that were killed."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flawless.adapters.archive import Archive
from flawless.core.check import Failed, Finding, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.event import Event, RunEnded, RunStarted, Stamped, Stream, Verdict
from flawless.core.phase import DeployResult, Phase
from flawless.core.reason import Reason
from flawless.deploy import journal
from flawless.deploy.deployment import Deployment, settle_killed
from flawless.deploy.journal import Journal
from flawless.deploy.report import ReportBuilder
from flawless.deploy.run import Run
from support.clock import ManualClock

pytestmark = pytest.mark.anyio
FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Book:
    """Incidents that were opened and resolved; the disk below may be full."""

    opened: list[Mapping[str, Any]] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    warned: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    error: Exception | None = None
    drained: int = 0

    def open_for(self, failure: Mapping[str, Any], deploy_id: str) -> str | None:
        if self.error is not None:
            raise self.error
        self.opened.append(failure)
        return "0193"

    def warn_for(self, outcome: Mapping[str, Any], deploy_id: str) -> str | None:
        self.warned.append(outcome)
        return f"{len(self.warned):04}"

    def resolve_for(self, deploy_id: str, but: Collection[str] = ()) -> None:
        if self.error is not None:
            raise self.error
        self.resolved.append(deploy_id)
        self.kept += but

    async def drain(self, limit: float) -> int:
        self.drained += 1
        return 0


@dataclass
class Says:
    """A step with one outcome."""

    outcome: Outcome = field(default_factory=Passed)

    async def run(self, run: Run) -> Outcome:
        return self.outcome


class Stack:
    """A deploy of nothing, with a real journal and real reports in a folder."""

    def __init__(self, folder: Path, deploy_id: str = "20261123T141502Z-3f9c2a") -> None:
        self.clock = ManualClock()
        self.archive = Archive(folder / ".flawless", folder / "logs", "shop")
        self.book = Book()
        self.told: list[Event] = []
        self.good = 0
        self.on_good_error: Exception | None = None
        self.steps: dict[Phase, Says] = {phase: Says() for phase in Phase if phase is not Phase.FAILURE_ROLLBACK}
        builder = ReportBuilder()
        stream = Stream(
            self.clock, lambda tree: tree, Journal(self.archive.open_journal(deploy_id)), builder, self._read
        )
        versions = {
            "flawless": "1",
            "python": "3.11",
            "node": None,
            "os": "Linux",
            "git_commit": None,
            "git_dirty": None,
        }
        started = RunStarted(deploy_id, "shop", None, versions, 7, embedded=False)
        run = Run(deploy_id, self.clock, stream)
        self.deployment = Deployment(run, self.steps, started, builder, self.archive, self.book, self._on_good)

    def _read(self, stamped: Stamped) -> None:
        self.told.append(stamped.event)

    async def _on_good(self) -> None:
        if self.on_good_error is not None:
            raise self.on_good_error
        self.good += 1

    def fail(self, phase: Phase = Phase.BACKEND_START) -> None:
        self.steps[phase].outcome = Failed(Reason.SERVICE_EXITED, "it ended", ("exit status 3",), ("look",))

    def settle(self) -> list[Path]:
        def stream_for(path: Path) -> Stream:
            return Stream(self.clock, lambda tree: tree, Journal(self.archive.open_journal(path.stem)))

        return settle_killed(self.archive, self.book, stream_for)

    def report(self) -> dict[str, Any]:
        [path] = self.archive.reports()
        found: dict[str, Any] = json.loads(path.read_bytes())
        assert path.with_suffix(".txt").read_text().startswith("shop: ")
        return found


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


async def test_a_good_deploy_leaves_its_report_and_resolves_what_bad_ones_opened(stack: Stack) -> None:
    """Its journal has an end, and names the report."""
    assert await stack.deployment.deploy() == Verdict(DeployResult.SUCCESS, 0)
    assert (stack.report()["result"], stack.report()["incident_id"]) == ("success", None)
    assert (stack.good, stack.book.resolved, stack.book.opened) == (1, ["20261123T141502Z-3f9c2a"], [])
    [path] = stack.archive.journals()
    assert journal.is_ended(path.read_bytes())
    [ended] = [one for one in stack.told if isinstance(one, RunEnded)]
    assert Path(ended.report) == stack.archive.reports()[0]


async def test_a_failed_deploy_opens_one_incident_and_its_report_names_it(stack: Stack) -> None:
    """What should run stays what it was."""
    stack.fail()
    assert (await stack.deployment.deploy()).exit_code == 1
    assert stack.report()["incident_id"] == "0193"
    assert [one["code"] for one in stack.book.opened] == ["SERVICE_EXITED"]
    assert (stack.good, stack.book.drained) == (0, 1)


async def test_an_incident_that_cannot_be_written_costs_no_report(stack: Stack) -> None:
    """The exit code stays, and the report says what is unfinished."""
    stack.fail()
    stack.book.error = FULL
    assert (await stack.deployment.deploy()).exit_code == 1
    assert stack.report()["incident_id"] is None
    assert stack.report()["unfinished"] == [
        "the incident was not written down: [Errno 28] No space left on device",
    ]


@pytest.mark.parametrize("error", [FULL, CommandFailed("[Errno 28] No space left on device")])
async def test_a_good_deploy_that_cannot_be_remembered_is_still_good(stack: Stack, error: Exception) -> None:
    """It serves; what a restart of the machine would bring up is said to be old."""
    stack.on_good_error = error
    assert (await stack.deployment.deploy()).exit_code == 0
    assert stack.report()["unfinished"] == [
        "what should run from now on was not written down: [Errno 28] No space left on device"
    ]


async def test_a_run_whose_first_record_cannot_be_written_does_nothing_and_says_why(stack: Stack) -> None:
    """It ends with a code and a report, not with a traceback; no step runs."""
    untold: list[str] = []

    def full(stamped: Stamped) -> None:
        if not untold:
            untold.append(stamped.event.name)
            raise CommandFailed("the disk is full", code="DISK_FULL")

    stack.deployment.run.stream._readers.insert(0, full)
    assert await stack.deployment.deploy() == Verdict(DeployResult.FAILURE, 1)
    assert (untold, stack.report()["failure"]["code"]) == (["run.started"], "DISK_FULL")
    assert [one["name"] for one in stack.report()["phases"]] == ["PRECHECK", "FAILURE_ROLLBACK"]


async def test_a_run_killed_behind_its_report_needs_no_other(stack: Stack) -> None:
    """Its journal gets the end it lacks; no second report, no incident of a killed deploy."""
    await stack.deployment.deploy()
    [path] = stack.archive.journals()
    path.write_bytes(b"".join(records(stack)[:-1]))
    assert stack.settle() == stack.archive.reports()
    assert stack.report()["result"] == "success"
    assert stack.book.opened == []
    assert journal.is_ended(path.read_bytes())


def records(stack: Stack) -> list[bytes]:
    [path] = stack.archive.journals()
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("failing", [True, False])
async def test_a_run_killed_at_any_record_is_settled_once(tmp_path: Path, *, failing: bool) -> None:
    """Aborted, DEPLOY_KILLED, one incident, one report, a readable journal; a second settling finds nothing to do."""
    whole = Stack(tmp_path / "whole")
    if failing:
        whole.fail()
    await whole.deployment.deploy()
    lines = records(whole)
    for count in range(1, len(lines)):
        stack = Stack(tmp_path / str(count))
        [path] = stack.archive.journals()
        path.write_bytes(b"".join(lines[:count]) + lines[count][:-1])
        [report] = stack.settle()
        assert stack.report()["result"] == "aborted"
        assert stack.report()["failure"]["code"] == "DEPLOY_KILLED"
        assert stack.report()["finished_at"] == journal.read(lines[count - 1])[0].at
        assert [one["code"] for one in stack.book.opened] == ["DEPLOY_KILLED"]
        assert report == stack.archive.reports()[0]
        assert journal.is_ended(path.read_bytes())
        assert stack.settle() == []


async def test_a_run_that_ended_or_never_began_is_not_settled(stack: Stack) -> None:
    """Nor is a journal that nobody can read: it ends no command."""
    await stack.deployment.deploy()
    folder = stack.archive.journals()[0].parent
    (folder / "20261123T141503Z-000000.jsonl").write_bytes(b"")
    (folder / "20261123T141504Z-000000.jsonl").write_bytes(b"\0" * 100 + b"\n")
    assert stack.settle() == []


def interface(*, partial: bool) -> Finding:
    failed = Failed(Reason.API_UNAVAILABLE, "OpenAI is out of order", ("503",), ("wait",))
    return Finding("external.openai", "OpenAI accepts the key", failed, 0.1, tolerated=partial)


@dataclass
class Judges(Says):
    """A step that judges an interface."""

    finding: Finding = field(default_factory=lambda: interface(partial=True))

    async def run(self, run: Run) -> Outcome:
        run.record(self.finding)
        run.note("external", {**self.finding.to_json(), "next_steps": ["wait"], "base_url": None})
        return self.outcome


async def test_an_outage_opens_a_warning_that_the_same_deploy_does_not_resolve(stack: Stack) -> None:
    """Exit 2, the report names it, and what earlier deploys had opened is resolved but for this."""
    stack.steps[Phase.EXTERNAL_VERIFY] = Judges()
    assert await stack.deployment.deploy() == Verdict(DeployResult.PARTIAL, 2)
    assert [one["id"] for one in stack.book.warned] == ["external.openai"]
    assert (stack.book.opened, stack.book.kept) == ([], ["0001"])
    assert (stack.report()["incident_id"], stack.good) == ("0001", 1)


async def test_what_failed_the_deploy_has_its_incident_already(stack: Stack) -> None:
    """One cause, one incident."""
    failed = Judges(finding=interface(partial=False))
    failed.outcome = failed.finding.outcome
    stack.steps[Phase.EXTERNAL_VERIFY] = failed
    assert (await stack.deployment.deploy()).exit_code == 1
    assert ([one["code"] for one in stack.book.opened], stack.book.warned) == (["API_UNAVAILABLE"], [])


@pytest.mark.parametrize("failing", [True, False])
async def test_what_goes_on_beside_the_phases_ends_with_them(stack: Stack, *, failing: bool) -> None:
    """Whatever becomes of the run; where it fails, before anything is put back."""
    run = stack.deployment.run
    told: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            told.append("ended")

    async def undo() -> None:
        told.append("undone")

    task = run.beside(hangs())
    if failing:
        run.undo.push("undone", undo)
        stack.fail()
    await stack.deployment.deploy()
    assert task.cancelled()
    assert told == ["ended", "undone"][: 1 + failing]
