"""What a deploy would do with each service, and why: a table."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.service import Change, ChangeAction, Exit, Running, ServiceState
from flawless.deploy.plan import change, late, ordered

WANTED = {"command": "1", "environment": "2", "artefacts": "3", "code": "4"}


def running(
    state: ServiceState = ServiceState.READY, *, pid: int | None = 7, parts: Mapping[str, str] | None = None
) -> Running:
    exit_ = Exit(3, None, 1.5, "") if pid is None else None
    return Running(
        "web",
        state,
        pid,
        3000,
        None,
        ready=True,
        deploy_id="x",
        fingerprint={**WANTED, **(parts or {})},
        last_exit=exit_,
    )


def test_what_runs_from_the_same_is_kept() -> None:
    """A second deploy with nothing changed restarts nothing."""
    assert change("web", running(), WANTED) == Change("web", ChangeAction.KEEP, ("nothing changed",))


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("command", "its command changed"),
        ("environment", "its environment changed"),
        ("artefacts", "an artefact of it changed"),
        ("code", "its code changed"),
    ],
)
def test_each_part_that_changed_replaces_it_and_is_named(part: str, why: str) -> None:
    """Nothing else restarts it."""
    assert change("web", running(parts={part: "other"}), WANTED) == Change("web", ChangeAction.REPLACE, (why,))


def test_all_reasons_are_named_together() -> None:
    """In one order."""
    found = change("web", running(parts={"code": "x", "command": "y"}), WANTED)
    assert found.why == ("its command changed", "its code changed")


def test_a_part_that_an_older_keeper_did_not_record_counts_as_changed() -> None:
    """Better one restart too many than old code that goes on."""
    old = Running("web", ServiceState.READY, 7, 3000, None, ready=True, deploy_id="x", fingerprint={})
    assert change("web", old, WANTED).action is ChangeAction.REPLACE


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (None, "it does not run"),
        (running(ServiceState.STOPPED, pid=None), "it does not run"),
        (running(ServiceState.GAVE_UP, pid=None), "it is gave_up, it ended with exit status 3 after 1.5 s"),
        (running(ServiceState.BACKOFF, pid=None), "it is backoff, it ended with exit status 3 after 1.5 s"),
        (running(ServiceState.HELD, pid=None), "it is held, it ended with exit status 3 after 1.5 s"),
        (running(ServiceState.READY, pid=None), "it is ready, it ended with exit status 3 after 1.5 s"),
        (running(ServiceState.STOPPING), "it is stopping"),
    ],
)
def test_what_does_not_run_is_started(now: Running | None, why: str) -> None:
    """Whatever its record says of readiness: without a process nothing runs."""
    assert change("web", now, WANTED) == Change("web", ChangeAction.START, (why,))


def test_each_stands_behind_what_it_comes_after() -> None:
    """And otherwise in the manifest's order."""
    after = {"web": ("api", "cache"), "api": ("cache",)}
    assert ordered(["web", "api", "cache", "mail"], after) == ["cache", "api", "web", "mail"]
    assert ordered(["web", "mail"], after) == ["web", "mail"]


@given(st.permutations("abcdefg"), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_order_holds_for_any_stack_without_a_cycle(names: list[str], pairs: list[tuple[int, int]]) -> None:
    """Every name once, dependencies first."""
    after: dict[str, list[str]] = {}
    for one, other in pairs:
        if one > other:
            after.setdefault("abcdefg"[one], []).append("abcdefg"[other])
    found = ordered(names, after)
    assert sorted(found) == sorted(names)
    assert all(found.index(other) < found.index(name) for name, others in after.items() for other in others)


def test_frontends_and_whatever_waits_for_one_come_late() -> None:
    """The backend's gate does not wait for what needs the page."""
    after = {"proxy": ("web",), "web": ("api",), "audit": ("proxy",)}
    assert late(["audit", "proxy", "web", "api"], after, ["web"]) == ["web", "proxy", "audit"]
    assert late(["api"], {}, []) == []
