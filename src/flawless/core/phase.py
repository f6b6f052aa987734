"""The states of a deploy, as data: the names, and one pure function that says what comes after what."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The states of CONTRACTS 4, in their order."""

    PRECHECK = "PRECHECK"
    DB_VALIDATE = "DB_VALIDATE"
    MIGRATE_VERIFY = "MIGRATE_VERIFY"
    BACKEND_START = "BACKEND_START"
    BACKEND_READY_GATE = "BACKEND_READY_GATE"
    FRONTEND_START = "FRONTEND_START"
    TUNNEL_START_OR_VERIFY = "TUNNEL_START_OR_VERIFY"
    EXTERNAL_VERIFY = "EXTERNAL_VERIFY"
    SUCCESS = "SUCCESS"
    FAILURE_ROLLBACK = "FAILURE_ROLLBACK"


class PhaseStatus(StrEnum):
    """How a phase ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class DeployResult(StrEnum):
    """The verdict of a run, which is not the state it ended in."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    ABORTED = "aborted"


_ORDER = tuple(phase for phase in Phase if phase is not Phase.FAILURE_ROLLBACK)


def after(phase: Phase, status: PhaseStatus) -> Phase | None:
    """The next phase, or None at the end. SUCCESS can fail too: its last look at the world may say no."""
    match phase, status:
        case Phase.FAILURE_ROLLBACK, _:
            return None
        case _, PhaseStatus.FAILED:
            return Phase.FAILURE_ROLLBACK
        case Phase.SUCCESS, _:
            return None
        case _:
            return _ORDER[_ORDER.index(phase) + 1]
