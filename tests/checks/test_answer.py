"""What an answer has to look like, as a table; a degraded body never passes, whatever its status says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.checks.answer import Wanted, complaints, matches, reasons_of
from flawless.core.answer import Answer


def answer(body: Any, status: int = 200) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, "application/json", data, {}, "http://127.0.0.1:3001/health/status")


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        ({"status": "alive"}, {"status": "alive", "more": 1}, True),
        ({"status": "alive"}, {"status": "dead"}, False),
        ({"status": "alive"}, {}, False),
        ({"status": "alive"}, [], False),
        ({"status": "alive"}, None, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}, True),
        ({"a": {"b": 1}}, {"a": 1}, False),
        ({"status": ["healthy", "ready"]}, {"status": "ready"}, True),
        ({"status": ["healthy", "ready"]}, {"status": "degraded"}, False),
        ({"status": []}, {"status": "ready"}, False),
        ({"ready": True}, {"ready": 1}, False),
        ({"ready": True}, {"ready": "true"}, False),
        ({"ready": 1}, {"ready": True}, False),
        ({"count": 1}, {"count": 1.0}, True),
        ({"count": 0}, {"count": False}, False),
        ({"count": "1"}, {"count": 1}, False),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a": {"c": 2, "d": 3}}, True),
        ({}, {"anything": 1}, True),
        (None, "anything", True),
    ],
)
def test_a_body_matches_when_it_holds_at_least_what_is_wanted(wanted: Any, found: Any, *, holds: bool) -> None:
    """An object is a subset, a list means any of, true is not 1."""
    assert matches(wanted, found) is holds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_whatever_is_wanted_matches_itself(body: Any) -> None:
    """A subset of itself."""
    assert matches(body, json.loads(json.dumps(body)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"status": "healthy", "services": {"db": {"healthy": True}, "storage": {"healthy": True}}}, []),
        ({"status": "ready", "services": {"db": {"ok": True}, "storage": {"ok": True}}}, []),
        ({"status": "healthy", "services": {"db": {"healthy": True}, "storage": {"ok": False}}},
         ["services.storage is not healthy"]),
        ({"status": "healthy", "services": {"db": {"healthy": True, "ok": False}, "storage": {"ok": True}}},
         ["services.db is not healthy"]),
        ({"status": "healthy", "services": {"db": {"healthy": 1}, "storage": {"ok": "yes"}}},
         ["services.db is not healthy", "services.storage is not healthy"]),
        ({"status": "healthy", "services": {"db": {"healthy": False, "error": "refused"}, "storage": {"ok": True}}},
         ["services.db is not healthy: refused"]),
        ({"status": "healthy", "services": {"db": {"healthy": True}}}, ["services.storage is missing"]),
        ({"status": "healthy", "services": {"db": {}, "storage": True}},
         ["services.db is not healthy", "services.storage is missing"]),
        ({"status": "healthy"}, ["services.db is missing", "services.storage is missing"]),
        ({"status": "degraded", "services": {"db": {"ok": True}, "storage": {"ok": True}}},
         ['status is "degraded", not "healthy" or "ready"']),
        ({"status": "healthy", "degraded": {"enabled": True, "reason": "demo"},
          "services": {"db": {"ok": True}, "storage": {"ok": True}}}, ["degraded.enabled is true: demo"]),
        ({"status": "healthy", "degraded": {"enabled": False},
          "services": {"db": {"ok": True}, "storage": {"ok": True}}}, []),
        ([], ["the body is [], not an object", "the body is not an object"]),
    ],
)  # fmt: skip
def test_both_dialects_of_the_status_pass_when_they_mean_healthy(body: Any, said: list[str]) -> None:
    """And no other: every complaint is a sentence of its own."""
    wanted = Wanted(json={"status": ["healthy", "ready"]}, required=("db", "storage"))
    assert list(complaints(wanted, answer(body))) == said


def test_a_degraded_body_does_not_pass_though_only_its_status_code_was_asked_for() -> None:
    """If the system status shows degraded, nobody gets a green light."""
    degraded = answer({"status": "healthy", "degraded": {"enabled": True}})
    assert list(complaints(Wanted(status=(200,)), degraded)) == ["degraded.enabled is true"]
    assert list(complaints(Wanted(), degraded)) == ["degraded.enabled is true"]


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ((), 200, []),
        ((), 204, []),
        ((), 302, ["status 302, not a 2xx"]),
        ((200, 401), 401, []),
        ((200, 401), 204, ["status 204, not 200 or 401"]),
    ],
)
def test_without_a_wanted_status_any_2xx_will_do(wanted: tuple[int, ...], status: int, said: list[str]) -> None:
    """With one, only that."""
    assert list(complaints(Wanted(status=wanted), answer(b"<html>", status))) == said


def test_the_reasons_in_a_body_come_before_its_status_code() -> None:
    """A health route may say 'not yet' with 503 and tell why."""
    found = complaints(Wanted(json={"ready": True}), answer({"ready": False}, 503))
    assert list(found) == ["ready is false, not true", "status 503, not a 2xx"]
    assert list(complaints(Wanted(json={"ready": True}), answer(b"starting", 503))) == ["status 503, not a 2xx"]


def test_a_status_of_503_may_be_wanted_and_its_json_still_counts() -> None:
    """Both must hold."""
    assert not complaints(Wanted(status=(503,), json={"ready": False}), answer({"ready": False}, 503))


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({"degradedReasons": ["a", 7]}, ["a", "7"]),
        ({"degradedReasons": "a"}, []),
        ({"degradedReasons": ["x" * 500]}, ["x" * 200]),
        ({}, []),
        (None, []),
        ([], []),
    ],
)
def test_the_reasons_it_gives_are_passed_on(body: Any, reasons: list[str]) -> None:
    """As far as they are a list, and not without end."""
    assert list(reasons_of(body)) == reasons


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[" * 200_000, b"1" * 5000])
def test_what_is_no_json_raises_one_kind_of_error(body: bytes) -> None:
    """However hostile."""
    try:
        answer(body).json()
    except ValueError:
        return
    raise AssertionError("it was read")
