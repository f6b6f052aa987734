"""The report: every field of CONTRACTS 5, from the stream as from the journal, valid wherever a run was killed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from flawless.core.check import Concern, Failed, Finding, Passed, Skipped
from flawless.core.clock import from_stamp
from flawless.core.event import (
    Asked,
    Effected,
    Event,
    Failure,
    Intended,
    Noted,
    PhaseEnded,
    PhaseStarted,
    RolledBack,
    RunEnded,
    RunStarted,
    Stamped,
    Stream,
    Verdict,
    WaitingFor,
)
from flawless.core.phase import DeployResult, Phase
from flawless.core.reason import Reason
from flawless.deploy.journal import Journal, read
from flawless.deploy.report import ReportBuilder, killed
from flawless.deploy.report_text import WIDTH, to_text
from support.clock import ManualClock

END = datetime(2026, 11, 23, 14, 16, 2, 123000, tzinfo=UTC)
VERSIONS = {"flawless": "1", "python": "3.11", "node": None, "os": "Linux", "git_commit": "a" * 40, "git_dirty": True}
STARTED = RunStarted("20261123T141502Z-3f9c2a", "shop", "staging", VERSIONS, 7, embedded=True, last_good="before")
FIELDS = {
    "schema_version", "deploy_id", "environment", "started_at", "finished_at", "duration_ms", "result", "exit_code",
    "versions", "phases", "services", "database", "health", "tunnel", "external", "recovery", "failure", "rollback",
    "incident_id", "changes_since_last_good", "log_tail",
}  # fmt: skip
RESULTS = {"success", "partial", "failure", "aborted"}


def asked(outcome: Passed | Failed | Skipped, id_: str = "db.reachable", *, optional: bool = False) -> Asked:
    return Asked.of(Phase.DB_VALIDATE, Finding(id_, "the database answers", outcome, 0.25, optional))


FAILED = Failed(Reason.DB_REFUSED, "refused on 127.0.0.1:5432", ("errno 111",), ("start it", "or look"))
WALK: list[Event] = [
    STARTED,
    PhaseStarted(Phase.PRECHECK),
    PhaseEnded(Phase.PRECHECK, "passed", 0.3, None),
    PhaseStarted(Phase.DB_VALIDATE),
    Intended("start", "embedded database"),
    Effected("start", "embedded database"),
    WaitingFor(Phase.DB_VALIDATE, "db.reachable", "the database answers", 0.0, 20.0, "refused"),
    WaitingFor(Phase.DB_VALIDATE, "db.reachable", "the database answers", 5.0, 15.0, "refused"),
    asked(Passed(("3 pings",), Concern(Reason.DB_SLOW, "look"))),
    Noted("database", {"latency_ms": {"average": 1.5, "samples": [1.0, 1.5, 2.0]}}),
    Noted("database", {"migrations": {"applied": ["0002"], "pending": []}}),
    Noted("health", {"live": {"status": "alive"}}),
    Noted("health", {"db": {"ready": True}}),
    Noted("log_tail", {"api": ["last words"]}),
    Noted("unfinished", ["one"]),
    Noted("unfinished", ["two"]),
    asked(FAILED, "external.stripe", optional=True),
    asked(Skipped("not supported yet", declared=True), "tunnel.routing"),
    PhaseEnded(Phase.DB_VALIDATE, "failed", 20.0, FAILED.cause),
    Failure(Phase.DB_VALIDATE, FAILED.reason, FAILED.cause, FAILED.evidence, FAILED.next_steps),
    PhaseStarted(Phase.FAILURE_ROLLBACK),
    RolledBack("done", ("the embedded database is stopped",)),
    PhaseEnded(Phase.FAILURE_ROLLBACK, "passed", 0.1, None),
    Verdict(DeployResult.FAILURE, 1),
]


class File:
    """A journal in memory."""

    def __init__(self) -> None:
        self.data = b""

    def append(self, data: bytes, *, sync: bool) -> None:
        self.data += data


def run(events: list[Event]) -> tuple[ReportBuilder, bytes]:
    """The stream's own report, and the journal."""
    file, builder = File(), ReportBuilder()
    stream = Stream(ManualClock(), lambda tree: tree, Journal(file), builder)
    for event in events:
        stream.tell(event)
    return builder, file.data


def test_every_field_of_the_contract_is_there_in_every_report() -> None:
    """From the first record on: a program that reads it never has to ask whether a key exists."""
    for upto in range(1, len(WALK) + 1):
        report = run(WALK[:upto])[0].build(END, incident_id=None)
        assert set(report) >= FIELDS
        assert report["result"] in RESULTS
        assert set(report["database"]) == {"latency_ms", "migrations", "tables"}
        assert set(report["health"]) == {"live", "db", "status"}
        assert set(report["tunnel"]) >= {"verdict", "observations"}
        assert set(report["recovery"]) == {"stats", "attempted", "result"}
        json.dumps(report, allow_nan=False)


def test_the_report_tells_the_run() -> None:
    """Each fact in its place."""
    report = run(WALK)[0].build(END, incident_id="0193")
    assert (report["result"], report["exit_code"], report["incident_id"]) == ("failure", 1, "0193")
    assert (report["environment"], report["deploy_id"]) == ("staging", STARTED.deploy_id)
    assert [(one["name"], one["status"]) for one in report["phases"]] == [
        ("PRECHECK", "passed"),
        ("DB_VALIDATE", "failed"),
        ("FAILURE_ROLLBACK", "passed"),
    ]
    validate = report["phases"][1]
    assert validate["waited_for"] == ["the database answers"]
    assert validate["duration_ms"] == 20_000
    assert [(one["id"], one["status"]) for one in validate["checks"]] == [
        ("db.reachable", "WARN"),
        ("external.stripe", "FAIL"),
        ("tunnel.routing", "SKIP"),
    ]
    assert report["database"]["latency_ms"]["samples"] == [1.0, 1.5, 2.0]
    assert report["database"]["migrations"]["applied"] == ["0002"]
    assert report["health"] == {"live": {"status": "alive"}, "db": {"ready": True}, "status": None}
    assert report["failure"] == {
        "phase": "DB_VALIDATE",
        "code": "DB_REFUSED",
        "cause": "refused on 127.0.0.1:5432",
        "evidence": ["errno 111"],
        "next_steps": ["start it", "or look"],
    }
    assert report["rollback"] == {
        "status": "done",
        "actions": ["the embedded database is stopped"],
        "next_steps": [],
    }
    assert report["log_tail"] == {"api": ["last words"]}
    assert report["unfinished"] == ["one", "two"]
    assert report["changes_since_last_good"]["last_good"] == "before"


def test_a_good_run_has_neither_failure_nor_rollback() -> None:
    """Null, not absent."""
    report = run([STARTED, Verdict(DeployResult.SUCCESS, 0)])[0].build(END, incident_id=None)
    assert (report["result"], report["exit_code"]) == ("success", 0)
    assert (report["failure"], report["rollback"]) == (None, None)


def test_the_journal_read_back_builds_the_same_report() -> None:
    """To the last field: why it waited as well."""
    builder, data = run(WALK)
    again = ReportBuilder()
    for stamped in read(data):
        again(stamped)
    assert again.build(END, incident_id=None) == builder.build(END, incident_id=None)


def test_the_duration_is_the_time_that_passed_whatever_the_wall_clock_says() -> None:
    """The clock may be set an hour back in the middle of a run."""
    builder = ReportBuilder()
    builder(Stamped("2026-11-23T14:15:02.123Z", 0.0, STARTED))
    builder(Stamped("2026-11-23T13:15:12.123Z", 10.0, Verdict(DeployResult.SUCCESS, 0)))
    assert builder.build(from_stamp("2026-11-23T13:15:12.123Z"), incident_id=None)["duration_ms"] == 10_000


@pytest.mark.parametrize("upto", range(1, len(WALK) + 1))
def test_a_run_killed_at_any_record_has_a_valid_report(upto: int) -> None:
    """`aborted`, no exit code, DEPLOY_KILLED, and where it stood; what had failed before stands in the evidence."""
    _, data = run(WALK[:upto])
    builder, failure = killed(read(data + b'{"at":"2026'))
    stream = Stream(ManualClock(), lambda tree: tree, builder)
    stream.tell(failure)
    stream.tell(Verdict(DeployResult.ABORTED, None))
    stream.tell(RunEnded("x", None, None))
    report: dict[str, Any] = builder.build(END, incident_id="0193")
    assert set(report) >= FIELDS
    assert (report["result"], report["exit_code"], report["failure"]["code"]) == ("aborted", None, "DEPLOY_KILLED")
    walked = [one.phase for one in WALK[:upto] if isinstance(one, PhaseStarted)]
    assert report["failure"]["phase"] == (walked[-1] if walked else "PRECHECK")
    assert ("DB_REFUSED" in " ".join(report["failure"]["evidence"])) == any(
        isinstance(one, Failure) for one in WALK[:upto]
    )
    assert all(one["status"] in {"passed", "failed", "skipped"} for one in report["phases"])
    assert all(len(line) <= WIDTH for line in to_text(report).splitlines())
