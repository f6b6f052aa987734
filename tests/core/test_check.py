"""What a check can answer, and how that stands in a report."""

from __future__ import annotations

import pytest

from flawless.core.check import Concern, Failed, Finding, Outcome, Passed, Skipped, Status, ask
from flawless.core.reason import Reason

FAILED = Failed(Reason.DB_REFUSED, "cause", ("seen",), ("do this", "or that"))


def finding(outcome: Outcome, *, optional: bool = False) -> Finding:
    return Finding("db.reachable", "the database answers", outcome, 0.01234, optional)


@pytest.mark.parametrize(("cause", "evidence", "steps"), [("", ("e",), ("s",)), ("c", (), ("s",)), ("c", ("e",), ())])
def test_a_failure_without_cause_evidence_or_next_step_cannot_be_built(
    cause: str, evidence: tuple[str, ...], steps: tuple[str, ...]
) -> None:
    """When it says no, the reader knows what to do next: the type sees to it."""
    with pytest.raises(ValueError, match="needs a cause"):
        Failed(Reason.DB_REFUSED, cause, evidence, steps)


def test_a_skip_says_why() -> None:
    """Nothing is skipped silently."""
    with pytest.raises(ValueError, match="says why"):
        Skipped("")


def test_whether_waiting_helps_is_the_reasons_unless_the_failure_knows_better() -> None:
    """Permanent or not is data."""
    assert not FAILED.is_permanent
    assert Failed(Reason.DB_AUTH, "c", ("e",), ("s",)).is_permanent
    assert Failed(Reason.DB_REFUSED, "c", ("e",), ("s",), permanent=True).is_permanent
    assert not Failed(Reason.DB_AUTH, "c", ("e",), ("s",), permanent=False).is_permanent


def test_more_evidence_goes_behind_what_is_there() -> None:
    """The first failure stays the first line."""
    assert FAILED.because("a", "b").evidence == ("seen", "a", "b")
    assert FAILED.because("a").cause == FAILED.cause


@pytest.mark.parametrize(
    ("outcome", "status", "code", "evidence", "step"),
    [
        (Passed(("3 pings",)), Status.PASS, None, ["3 pings"], None),
        (Passed(("slow",), Concern(Reason.DB_SLOW, "look")), Status.WARN, "DB_SLOW", ["slow"], "look"),
        (FAILED, Status.FAIL, "DB_REFUSED", ["cause", "seen"], "do this"),
        (Skipped("not declared"), Status.SKIP, None, ["not declared"], None),
    ],
)
def test_the_outcome_of_a_report_has_every_field_of_the_contract(
    outcome: Outcome, status: Status, code: str | None, evidence: list[str], step: str | None
) -> None:
    """`{id, status, code, latency_ms, evidence, next_step, optional}`; the claim stands beside it."""
    assert finding(outcome).status is status
    assert finding(outcome).to_json() == {
        "id": "db.reachable",
        "status": status,
        "code": code,
        "latency_ms": 12.3,
        "evidence": evidence,
        "next_step": step,
        "optional": False,
        "makes_partial": False,
        "claim": "the database answers",
    }


@pytest.mark.parametrize(
    ("outcome", "optional", "partial"),
    [
        (FAILED, True, True),
        (FAILED, False, False),
        (Passed(), True, False),
        (Passed(("slow",), Concern(Reason.DB_SLOW, "look")), True, False),
        (Skipped("not declared"), True, False),
        (Skipped("not yet", declared=True), False, True),
    ],
)
def test_partial_is_an_optional_failure_or_a_declared_part_that_was_not_asked(
    outcome: Outcome, *, optional: bool, partial: bool
) -> None:
    """A warning changes no exit code; what is not declared does not either."""
    assert finding(outcome, optional=optional).makes_partial is partial


@pytest.mark.anyio
async def test_asking_once_notes_the_check_and_how_long_it_took() -> None:
    """The finding is the check's answer under its id."""

    class Answers:
        id, claim, optional = "a.b", "a is b", True

        async def ask(self, limit: float) -> Outcome:
            assert limit == 2.0
            return FAILED

    found = await ask(Answers(), 2.0)
    assert (found.id, found.claim, found.optional, found.failure) == ("a.b", "a is b", True, FAILED)
    assert 0 <= found.latency < 1
