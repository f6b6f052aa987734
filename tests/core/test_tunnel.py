"""The table of verdicts, walked whole: every combination of what can be seen has one verdict, and the right one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final

import pytest

from flawless.core.check import Failed, Passed, Skipped
from flawless.core.reason import Reason
from flawless.core.tunnel import (
    TABLE,
    Configuration,
    Connection,
    File,
    Kind,
    Local,
    Metrics,
    Name,
    Origin,
    Outside,
    Process,
    Public,
    Restart,
    Route,
    Row,
    Seen,
    judge,
    row_of,
)

States = Mapping[str, StrEnum]

KINDS: Final[Mapping[str, type[StrEnum]]] = {
    "configuration": Configuration,
    "process": Process,
    "metrics": Metrics,
    "kind": Kind,
    "connection": Connection,
    "file": File,
    "route": Route,
    "origin": Origin,
    "name": Name,
    "public": Public,
}

GOOD: Final[States] = {
    "configuration": Configuration.READY,
    "process": Process.OURS,
    "metrics": Metrics.ANSWERS,
    "kind": Kind.EXPECTED,
    "connection": Connection.READY,
    "file": File.CURRENT,
    "route": Route.RIGHT,
    "origin": Origin.ANSWERS,
    "name": Name.RESOLVES,
    "public": Public.OURS,
}
"""All is well."""

DEAD: Final[States] = {
    **GOOD,
    "process": Process.NONE,
    "metrics": Metrics.NONE,
    "kind": Kind.UNKNOWN,
    "connection": Connection.UNKNOWN,
    "file": File.UNKNOWN,
    "route": Route.UNKNOWN,
    "origin": Origin.UNKNOWN,
    "public": Public.NO_TUNNEL,
}
"""Nothing runs."""

HIDDEN: Final[States] = {**DEAD, "process": Process.FOREIGN}
"""Another user's cloudflared: it is there, and nothing can be asked."""

UNASKED: Final[States] = {**GOOD, "public": Public.UNASKED}
"""Nobody asked from outside."""


def classes(name: str) -> list[StrEnum]:
    """One state for all those of an observation that no row tells from one another."""
    found: dict[tuple[bool, ...], StrEnum] = {}
    for state in KINDS[name]:
        found.setdefault(tuple(state in row.when[name] for row in TABLE if name in row.when), state)
    return list(found.values())


def combinations() -> Iterator[States]:
    """Every combination there is, those that cannot occur included."""
    for states in itertools.product(*(classes(name) for name in KINDS)):
        yield dict(zip(KINDS, states, strict=True))


@cache
def examples() -> Mapping[str, States]:
    """A combination for each verdict; every other one was looked at on the way."""
    found: dict[str, States] = {}
    for states in combinations():
        row = row_of(states)
        assert (row.reason is None) is (states["public"] is Public.OURS), states
        found.setdefault(row.verdict, states)
    return found


def test_every_combination_has_one_verdict() -> None:
    """A quarter of a million of them: none is without a row, none is yes without the proof, and each row of the table
    is the verdict of some.
    """
    assert set(examples()) == {row.verdict for row in TABLE}


def test_a_row_is_decided_by_what_it_names() -> None:
    """It fits where each of its observations is as named, and no row before it does."""
    for at, row in enumerate(TABLE):
        states = examples()[row.verdict]
        assert [before.verdict for before in TABLE[: at + 1] if fits(before, states)] == [row.verdict]
        for name, allowed in row.when.items():
            others = [state for state in KINDS[name] if state not in allowed]
            assert all(row_of({**states, name: state}) is not row for state in others)


def fits(row: Row, states: States) -> bool:
    return all(states[name] in allowed for name, allowed in row.when.items())


def test_what_no_row_up_to_it_names_changes_nothing() -> None:
    """A verdict stands whatever the observations say that neither its row nor one before it looks at."""
    for at, row in enumerate(TABLE):
        named = {name for before in TABLE[: at + 1] for name in before.when}
        for name in set(KINDS) - named:
            for state in KINDS[name]:
                assert row_of({**examples()[row.verdict], name: state}) is row, (row.verdict, state)


def test_each_row_has_a_name_of_its_own() -> None:
    """Two rows may share a code, and never a verdict; what a row tells of is an observation."""
    verdicts = [row.verdict for row in TABLE]
    assert len(set(verdicts)) == len(verdicts)
    assert all(name in KINDS for row in TABLE for name in (*row.tells, *row.when))
    assert TABLE[-1].when == {}


def test_the_states_are_those_of_the_observations() -> None:
    """A row names states of the very observation, and no observation is never looked at."""
    for row in TABLE:
        for name, states in row.when.items():
            assert states <= set(KINDS[name]), row.verdict
    looked_at = {name for row in TABLE for name in (*row.when, *row.tells)}
    assert looked_at == set(KINDS)


# --- FAILURES 36 to 54, and 58 ---------------------------------------------------------------------------------------

Case = tuple[States, Mapping[str, StrEnum], Reason | None, Restart]

FAILURES: Final[Mapping[str, Case]] = {
    "all is well": (GOOD, {}, None, Restart.NO),
    "36 not installed": (DEAD, {"configuration": Configuration.NO_PROGRAM}, Reason.TOOL_MISSING, Restart.NO),
    "36 not configured": (
        DEAD,
        {"configuration": Configuration.MISSING},
        Reason.TUNNEL_CONFIG_MISSING,
        Restart.NO,
    ),
    "36 badly configured": (
        DEAD,
        {"configuration": Configuration.INVALID},
        Reason.TUNNEL_CONFIG_INVALID,
        Restart.NO,
    ),
    "37 not running": (DEAD, {}, Reason.TUNNEL_NOT_RUNNING, Restart.START),
    "38 no edge connection": (
        GOOD,
        {"connection": Connection.NONE, "public": Public.NO_TUNNEL},
        Reason.TUNNEL_NOT_CONNECTED,
        Restart.ONCE,
    ),
    "38 and nothing of it can be seen": (HIDDEN, {}, Reason.TUNNEL_NOT_CONNECTED, Restart.ONCE),
    "38 and nothing of it can be seen yet": (
        UNASKED,
        {"metrics": Metrics.NONE, "connection": Connection.UNKNOWN},
        Reason.TUNNEL_NOT_CONNECTED,
        Restart.ONCE,
    ),
    "39 unauthorized": (
        GOOD,
        {"connection": Connection.REFUSED, "public": Public.NO_TUNNEL},
        Reason.TUNNEL_CREDENTIALS,
        Restart.NO,
    ),
    "40 our service is down": (
        GOOD,
        {"origin": Origin.DOWN, "public": Public.BAD_GATEWAY},
        Reason.TUNNEL_ORIGIN_DOWN,
        Restart.NO,
    ),
    "41 another port": (
        GOOD,
        {"route": Route.OTHER_PORT, "origin": Origin.DOWN, "public": Public.BAD_GATEWAY},
        Reason.TUNNEL_ROUTE_MISMATCH,
        Restart.NO,
    ),
    "41 with somebody there": (
        GOOD,
        {"route": Route.OTHER_PORT, "public": Public.WRONG_SITE},
        Reason.TUNNEL_ROUTE_MISMATCH,
        Restart.NO,
    ),
    "42 localhost": (
        GOOD,
        {"route": Route.IPV6, "public": Public.BAD_GATEWAY},
        Reason.TUNNEL_IPV6_ORIGIN,
        Restart.NO,
    ),
    "42 that does no harm": (GOOD, {"route": Route.IPV6, "public": Public.STALE}, Reason.PUBLIC_STALE, Restart.NO),
    "43 edited": (
        GOOD,
        {"file": File.EDITED, "route": Route.NO_RULE, "public": Public.UNHEALTHY},
        Reason.TUNNEL_STALE_CONFIG,
        Restart.ONCE,
    ),
    "44 no rule": (
        GOOD,
        {"route": Route.NO_RULE, "origin": Origin.UNKNOWN, "public": Public.UNHEALTHY},
        Reason.TUNNEL_NO_RULE,
        Restart.NO,
    ),
    "45 the edge disagrees": (GOOD, {"public": Public.NO_TUNNEL}, Reason.TUNNEL_EDGE_DISAGREES, Restart.ONCE),
    "46 another connector": (GOOD, {"public": Public.MIXED}, Reason.TUNNEL_OTHER_CONNECTOR, Restart.NO),
    "47 a quick tunnel": (
        GOOD,
        {"process": Process.FOREIGN, "kind": Kind.TEMPORARY, "public": Public.NO_TUNNEL},
        Reason.TUNNEL_TEMPORARY,
        Restart.NO,
    ),
    "47 another named one": (GOOD, {"kind": Kind.OTHER, "public": Public.NO_TUNNEL}, Reason.TUNNEL_OTHER, Restart.NO),
    "48 frozen": (
        GOOD,
        {"metrics": Metrics.SILENT, "connection": Connection.UNKNOWN, "public": Public.UNREACHABLE},
        Reason.TUNNEL_HUNG,
        Restart.ONCE,
    ),
    "49 no such name": (GOOD, {"name": Name.NOWHERE, "public": Public.UNASKED}, Reason.PUBLIC_DNS, Restart.NO),
    "49 a name elsewhere": (
        GOOD,
        {"name": Name.ELSEWHERE, "public": Public.UNASKED},
        Reason.PUBLIC_DNS_SPLIT,
        Restart.NO,
    ),
    "49 not on the tunnel": (GOOD, {"public": Public.NOT_ON_TUNNEL}, Reason.PUBLIC_NOT_ON_TUNNEL, Restart.NO),
    "50 somebody else's page": (GOOD, {"public": Public.WRONG_SITE}, Reason.PUBLIC_WRONG_SITE, Restart.NO),
    "50 an older release": (GOOD, {"public": Public.STALE}, Reason.PUBLIC_STALE, Restart.NO),
    "51 scripts as html": (GOOD, {"public": Public.ASSET_TYPE}, Reason.PUBLIC_ASSET_TYPE, Restart.NO),
    "52 certificate": (GOOD, {"public": Public.TLS}, Reason.PUBLIC_TLS, Restart.NO),
    "52 redirect": (GOOD, {"public": Public.REDIRECT}, Reason.PUBLIC_REDIRECT, Restart.NO),
    "52 access wall": (GOOD, {"public": Public.ACCESS_WALL}, Reason.PUBLIC_ACCESS_WALL, Restart.NO),
    "502 though all is well here": (GOOD, {"public": Public.BAD_GATEWAY}, Reason.TUNNEL_ORIGIN_DOWN, Restart.NO),
    "an error of ours": (GOOD, {"public": Public.UNHEALTHY}, Reason.PUBLIC_UNHEALTHY, Restart.NO),
    "no way there": (GOOD, {"public": Public.UNREACHABLE}, Reason.PUBLIC_UNREACHABLE, Restart.NO),
    "nobody asked": (UNASKED, {}, Reason.TUNNEL_UNSEEN, Restart.NO),
    "58 offline": (
        GOOD,
        {"name": Name.OFFLINE, "connection": Connection.NONE, "public": Public.UNASKED},
        Reason.HOST_OFFLINE,
        Restart.NO,
    ),
    "58 offline, and nothing runs": (
        DEAD,
        {"name": Name.OFFLINE, "public": Public.UNASKED},
        Reason.HOST_OFFLINE,
        Restart.NO,
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_failures(case: str) -> None:
    """Each world has the code that FAILURES gives it, and a restart only where one can help."""
    base, changes, reason, restart = FAILURES[case]
    row = row_of({**base, **changes})
    assert (row.reason, row.restart) == (reason, restart), row.verdict


def test_every_row_is_one_of_these() -> None:
    """No verdict is without an example of its own."""
    shown = {row_of({**base, **changes}).verdict for base, changes, _, _ in FAILURES.values()}
    assert shown == {row.verdict for row in TABLE}


HELPS: Final = {
    "not running": Restart.START,
    "hung": Restart.ONCE,
    "not connected": Restart.ONCE,
    "not seen, not connected": Restart.ONCE,
    "still starting": Restart.ONCE,
    "stale configuration": Restart.ONCE,
    "edge disagrees": Restart.ONCE,
}


def test_where_a_restart_helps() -> None:
    """Nowhere else is anything restarted."""
    assert {row.verdict: row.restart for row in TABLE if row.restart is not Restart.NO} == HELPS


# --- one observation at a time: every cell ---------------------------------------------------------------------------

CELLS: Final[Mapping[tuple[str, StrEnum], str]] = {
    ("configuration", Configuration.INVALID): "configuration invalid",
    ("process", Process.NONE): "not running",
    ("metrics", Metrics.NONE): "still starting",
    ("metrics", Metrics.SILENT): "hung",
    ("kind", Kind.OTHER): "other tunnel",
    ("kind", Kind.TEMPORARY): "temporary",
    ("connection", Connection.NONE): "not connected",
    ("connection", Connection.REFUSED): "credentials refused",
    ("file", File.EDITED): "stale configuration",
    ("route", Route.OTHER_PORT): "route mismatch",
    ("route", Route.IPV6): "ipv6 origin",
    ("route", Route.NO_RULE): "no rule",
    ("origin", Origin.DOWN): "origin down",
    ("name", Name.ELSEWHERE): "name split",
    ("name", Name.NOWHERE): "name unknown",
    ("name", Name.OFFLINE): "offline",
    ("public", Public.OURS): "routed",
    ("public", Public.MIXED): "other connector",
    ("public", Public.NO_TUNNEL): "edge disagrees",
    ("public", Public.BAD_GATEWAY): "origin unreachable",
    ("public", Public.NOT_ON_TUNNEL): "not on the tunnel",
    ("public", Public.WRONG_SITE): "wrong site",
    ("public", Public.STALE): "stale",
    ("public", Public.ASSET_TYPE): "asset type",
    ("public", Public.TLS): "tls",
    ("public", Public.REDIRECT): "redirect",
    ("public", Public.ACCESS_WALL): "access wall",
    ("public", Public.UNREACHABLE): "unreachable",
    ("public", Public.UNHEALTHY): "unhealthy",
}
"""What one thing that is not as it should be makes of a tunnel that nobody asked from outside."""


@pytest.mark.parametrize(("name", "state"), [(name, state) for name, kind in KINDS.items() for state in kind])
def test_one_thing_is_wrong(name: str, state: StrEnum) -> None:
    """Each state alone: its own verdict, or that nothing is proved."""
    assert row_of({**UNASKED, name: state}).verdict == CELLS.get((name, state), "unproved")


@pytest.mark.parametrize(
    ("name", "state"), [(name, state) for name, kind in KINDS.items() for state in kind if name != "public"]
)
def test_the_proof_from_outside_stands_above(name: str, state: StrEnum) -> None:
    """Whatever is seen here, what its visitors get is the site."""
    assert row_of({**GOOD, name: state}).verdict == "routed"


# --- the failure that is told ----------------------------------------------------------------------------------------


def seen(states: States, outcomes: Mapping[str, Any]) -> tuple[Local, Outside]:
    made: dict[str, Any] = {
        name: Seen(state, outcomes.get(name, Passed((f"{name} is seen",)))) for name, state in states.items()
    }
    outside = Outside(name=made.pop("name"), public=made.pop("public"))
    return Local(**made), outside


def failed(states: States, **outcomes: Any) -> Failed:
    local, outside = seen(states, outcomes)
    verdict = judge(local, outside, "app.example.org")
    assert verdict.failed is not None
    return verdict.failed


@pytest.mark.parametrize("row", [row for row in TABLE if row.reason], ids=lambda row: row.verdict)
def test_each_verdict_can_be_told(row: Row) -> None:
    """With code, cause, evidence and a step, whatever its observations have to say for themselves."""
    states = examples()[row.verdict]
    mute = {name: Passed() for name in KINDS}
    failing = {name: Failed(Reason.DEPLOY_FAILED, f"{name} is wrong", (f"see {name}",), ("mend it",)) for name in KINDS}
    for outcomes in (mute, failing, {}):
        told = failed(states, **outcomes)
        assert told.reason is row.reason
        assert "{" not in "".join((told.cause, *told.evidence, *told.next_steps))


def test_a_row_without_a_cause_takes_that_of_its_observation() -> None:
    """The check that saw it tells it best; the evidence of the others stands beside it, each line once."""
    route = Failed(Reason.TUNNEL_NO_RULE, "no rule names it", ("live rules: a",), ("add one",))
    public = Failed(Reason.PUBLIC_UNHEALTHY, "404", ("asked 3 times",), ("look",))
    told = failed({**GOOD, "route": Route.NO_RULE, "public": Public.UNHEALTHY}, route=route, public=public)
    assert told.cause == "no rule names it"
    assert told.evidence == ("live rules: a", "404", "asked 3 times")
    assert told.next_steps == ("add one",)


def test_a_row_with_a_cause_names_the_host() -> None:
    """The sentence is about the public name, its steps can be pasted."""
    told = failed(DEAD, process=Failed(Reason.TUNNEL_NOT_RUNNING, "none", ("nothing found",), ("start it",)))
    assert "app.example.org" in told.cause
    assert "nothing found" in told.evidence
    assert told.next_steps[-1] == "what the code means: flawless explain TUNNEL_NOT_RUNNING"


def test_what_is_skipped_says_why() -> None:
    """An observation that was not made is evidence as well: why not."""
    told = failed(UNASKED, public=Skipped("[public] has no checks"))
    assert "[public] has no checks" in told.evidence


def test_the_site_that_is_proved_has_no_failure() -> None:
    """Routed is the one verdict without one."""
    local, outside = seen(GOOD, {})
    assert judge(local, outside, "app.example.org").failed is None
