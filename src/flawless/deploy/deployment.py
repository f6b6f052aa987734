"""One deploy from its lock to its report, whatever happens to it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from flawless.core.check import Status
from flawless.core.clock import from_stamp
from flawless.core.errors import FlawlessError, Interrupted
from flawless.core.event import Failure, RunEnded, RunStarted, Stamped, Stream, Verdict
from flawless.core.phase import DeployResult, Phase
from flawless.core.reason import Reason
from flawless.deploy import journal
from flawless.deploy.orchestrator import Orchestrator
from flawless.deploy.report import ReportBuilder, killed
from flawless.deploy.report_text import to_text
from flawless.deploy.run import Run, Step

DRAIN_LIMIT = 2.0
"""Seconds a command gives the outbox to reach the database before it ends."""


class Archive(Protocol):
    """Where journals and reports are kept."""

    def journals(self) -> list[Path]: ...

    def find_report(self, deploy_id: str) -> tuple[Path, Mapping[str, Any]] | None:
        """The report of that run, when all of it is there."""

    def write_report(self, report: Mapping[str, Any], text: str, now: datetime) -> Path: ...

    def prune(self, now: datetime) -> None: ...


class Incidents(Protocol):
    """Where a failed run's incident goes."""

    def open_for(self, failure: Mapping[str, Any], deploy_id: str) -> str | None:
        """Writes the incident to the outbox; its id."""

    def warn_for(self, outcome: Mapping[str, Any], deploy_id: str) -> str | None:
        """The same for an outcome of the report that did not fail the deploy: a WARN."""

    def resolve_for(self, deploy_id: str, but: Collection[str] = ()) -> None:
        """A good deploy ends what earlier deploys had opened, `but` what it has met again itself."""

    async def drain(self, limit: float) -> int:
        """Hands the outbox to the database; how many records are left."""


@dataclass
class Deployment:
    """The whole of one run. The caller holds the deploy lock."""

    run: Run
    steps: Mapping[Phase, Step]
    started: RunStarted
    builder: ReportBuilder
    archive: Archive
    incidents: Incidents
    on_good: Callable[[], Awaitable[None]]

    def __post_init__(self) -> None:
        self._orchestrator = Orchestrator(self.run, self.steps)

    def interrupt(self, interrupted: Interrupted) -> None:
        self._orchestrator.interrupt(interrupted)

    async def deploy(self) -> Verdict:
        """Walks the phases, writes the report and the incident, and answers with the verdict.

        The verdict and the report do not depend on what comes behind them: what a full disk keeps from being written
        then stands in the report as `unfinished`.
        """
        self._orchestrator.tell(self.started)
        try:
            verdict = await self._orchestrator.deploy()
        finally:
            await self.run.aclose()
        if verdict.exit_code in {0, 2}:
            with self._unfinished("what should run from now on was not written down"):
                await self.on_good()
        incident = None
        with self._unfinished("the incident was not written down"):
            incident = self._incident()
        report = write_report(self.builder, self.archive, self.run.clock.now(), incident)
        with self._unfinished("the outbox was not emptied"):
            await self.incidents.drain(DRAIN_LIMIT)
        with self._unfinished("the end of the run was not written down"):
            self.run.tell(RunEnded(str(report), incident, None))
        with self._unfinished("old reports were not removed"):
            self.archive.prune(self.run.clock.now())
        return verdict

    @contextmanager
    def _unfinished(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, FlawlessError) as error:
            said = error.cause if isinstance(error, FlawlessError) else str(error)
            with suppress(OSError, FlawlessError):  # the report's own reader has it even when the journal has not
                self.run.note("unfinished", [f"{what}: {said}"])

    def _incident(self) -> str | None:
        """That of the failure, else the first of what made the deploy partial."""
        deploy_id, failure = self.run.deploy_id, self.builder.failure
        opened = self.incidents.open_for(failure, deploy_id) if failure is not None else None
        warned = [self.incidents.warn_for(one, deploy_id) for one in self.builder.external if is_out(one)]
        if failure is not None:
            return opened
        met = [one for one in warned if one is not None]
        self.incidents.resolve_for(deploy_id, met)
        return met[0] if met else None


def is_out(outcome: Mapping[str, Any]) -> bool:
    """An interface that was refused or does not answer, and did not fail the deploy: that has an incident already."""
    return outcome["status"] == Status.FAIL and bool(outcome["makes_partial"])


def write_report(builder: ReportBuilder, archive: Archive, now: datetime, incident: str | None) -> Path:
    report = builder.build(now, incident_id=incident)
    return archive.write_report(report, to_text(report), now)


def settle_killed(archive: Archive, incidents: Incidents, stream_for: Callable[[Path], Stream]) -> list[Path]:
    """Writes the report and the incident of every run that could not do so itself. The caller holds the deploy lock.

    A journal without its last record, while nobody holds the lock, is a run that was killed.
    """
    return [
        _settle(events, archive, incidents, stream_for(path))
        for path in archive.journals()
        if not journal.is_ended(data := path.read_bytes()) and (events := journal.read(data))
    ]


def _settle(events: Sequence[Stamped], archive: Archive, incidents: Incidents, stream: Stream) -> Path:
    """Its end is its last sign of life, not the moment in which somebody noticed.

    One that was killed behind its report needs no other; one whose settling was killed is settled anew.
    """
    events = list(takewhile(lambda one: not _is_settling(one), events))
    builder, failure = killed(events)
    found = archive.find_report(builder.deploy_id)
    if found is not None:
        path, written = found
        stream.tell(RunEnded(str(path), written["incident_id"], None))
        return path
    stream.add(builder)
    stream.tell(failure)
    stream.tell(Verdict(DeployResult.ABORTED, None))
    incident = incidents.open_for(builder.failure or {}, builder.deploy_id)
    report = write_report(builder, archive, from_stamp(events[-1].at), incident)
    stream.tell(RunEnded(str(report), incident, None))
    return report


def _is_settling(stamped: Stamped) -> bool:
    return isinstance(stamped.event, Failure) and stamped.event.code == Reason.DEPLOY_KILLED
