"""The phases, as a table: every cell written."""

from __future__ import annotations

import itertools

from flawless.core.phase import Phase, PhaseStatus, after

WAY = [
    "PRECHECK",
    "DB_VALIDATE",
    "MIGRATE_VERIFY",
    "BACKEND_START",
    "BACKEND_READY_GATE",
    "FRONTEND_START",
    "TUNNEL_START_OR_VERIFY",
    "EXTERNAL_VERIFY",
    "SUCCESS",
]


def test_the_names_are_those_of_the_contract() -> None:
    """CONTRACTS 4, in their order."""
    assert [str(phase) for phase in Phase] == [*WAY, "FAILURE_ROLLBACK"]


def test_passed_and_skipped_go_on_and_failed_goes_back() -> None:
    """Each phase and each status has one follower; the rollback and a good end have none."""
    for name, follower in itertools.pairwise(WAY):
        assert after(Phase(name), PhaseStatus.PASSED) is Phase(follower)
        assert after(Phase(name), PhaseStatus.SKIPPED) is Phase(follower)
        assert after(Phase(name), PhaseStatus.FAILED) is Phase.FAILURE_ROLLBACK
    assert after(Phase.SUCCESS, PhaseStatus.PASSED) is None
    assert after(Phase.SUCCESS, PhaseStatus.SKIPPED) is None
    assert after(Phase.SUCCESS, PhaseStatus.FAILED) is Phase.FAILURE_ROLLBACK
    for status in PhaseStatus:
        assert after(Phase.FAILURE_ROLLBACK, status) is None
