"""N of M: how often a good name is refused and a shared one passed, counted over many gates with chance from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from math import comb

import pytest

from flawless.checks.answer import Wanted
from flawless.checks.public.reachable import PublicReachable
from flawless.checks.public.sample import LEAST, ROUND, Reply, Sample, Weight, tolerated
from flawless.checks.public.site import Site
from flawless.core.answer import Answer
from flawless.core.gate import Patience, gate
from flawless.core.reason import Reason
from flawless.core.tunnel import Public
from support.clock import ManualClock

OURS = "20261123T141502Z-3f9c2a"
OLDER = "20261120T101500Z-0a1b2c"
REQUESTS = 120
GATES = 10_000
ATTEMPTS = 20
"""More than a gate of 20 s makes."""

Draw = Callable[[], Reply]


def reply(weight: Weight, state: Public = Public.UNREACHABLE) -> Reply:
    return Reply(weight, state, f"{weight}")


GOOD = reply(Weight.OURS, Public.OURS)
STRANGER = reply(Weight.FOREIGN, Public.STALE)
LOST = reply(Weight.BLIP, Public.BAD_GATEWAY)


def look(draw: Draw, *, wanted: int = REQUESTS, strict: bool = False) -> Sample:
    """A sample as the check takes it, one reply after the other."""
    sample = Sample(wanted * (2 if strict else 1), strict=strict)
    while sample.send():
        sample.add(draw())
    return sample


def shared(share: float, blips: float, seed: int) -> Draw:
    """A name whose other connector gets a share of the requests, while the edge loses some."""
    chance = random.Random(seed)  # noqa: S311 - chance that can be had again, no secret

    def draw() -> Reply:
        if chance.random() < blips:
            return LOST
        return STRANGER if chance.random() < share else GOOD

    return draw


def patient(draw: Draw, *, wanted: int = REQUESTS, attempts: int = ATTEMPTS) -> int | None:
    """In which attempt a gate would pass that nothing permanent ends; None when in none of them."""
    is_strict = False
    for attempt in range(1, attempts + 1):
        sample = look(draw, wanted=wanted, strict=is_strict)
        if sample.state(through_tunnel=True) is Public.OURS:
            return attempt
        is_strict = is_strict or bool(sample.of(Weight.FOREIGN))
    return None


def more_than(answers: int, chance: float, least: int) -> float:
    """How probable more than `least` of so many are."""
    return sum(comb(answers, n) * chance**n * (1 - chance) ** (answers - n) for n in range(least + 1, answers + 1))


# --- the numbers in the docstring are these ---


def test_what_is_missed_by_so_many_requests() -> None:
    """A connector with a tenth of the traffic: every eighth look of 20, three in a million of 120."""
    assert pytest.approx(0.12, abs=0.002) == 0.9**LEAST
    assert pytest.approx(3.2e-6, rel=0.02) == 0.9**REQUESTS
    assert pytest.approx(1e-15, rel=0.02) == 0.75**REQUESTS


def test_how_often_blips_alone_refuse_a_look() -> None:
    """With 4 % lost; and how often a connector that loses a quarter is let through."""
    assert (tolerated(LEAST), tolerated(REQUESTS)) == (3, 13)
    assert more_than(REQUESTS, 0.04, 13) == pytest.approx(3.3e-4, rel=0.02)
    assert more_than(REQUESTS, 0.04, 13) ** 3 == pytest.approx(4e-11, rel=0.1)
    assert 1 / more_than(LEAST, 0.04, 3) == pytest.approx(135, rel=0.01)
    assert more_than(LEAST, 0.04, 3) ** 3 == pytest.approx(4e-7, rel=0.05)
    assert 1 - more_than(REQUESTS, 0.25, 13) == pytest.approx(9e-5, rel=0.06)


# --- counted ---


@pytest.mark.parametrize("wanted", [LEAST, REQUESTS])
def test_four_of_a_hundred_lost_fail_no_gate(wanted: int) -> None:
    """2,995 gates pass, nearly all of them at their first look; the worst that is to be expected is their third."""
    draw = shared(0, 0.04, seed=20261130)
    attempts = [patient(draw, wanted=wanted) for _ in range(2995)]
    assert None not in attempts
    assert max(one for one in attempts if one) <= 3
    expected = more_than(wanted, 0.04, tolerated(wanted))
    assert sum(one != 1 for one in attempts) <= 2995 * expected * 2 + 3


@pytest.mark.parametrize("share", [1 / 2, 1 / 4, 1 / 10])
def test_a_second_connector_passes_no_gate(share: float) -> None:
    """10,000 gates with 4 % lost on top. Each asks again although its first failure ends it, some twenty times."""
    draw = shared(share, 0.04, seed=46)
    attempts = [2] * GATES + [ATTEMPTS] * 200
    assert [one for one in attempts if patient(draw, attempts=one) is not None] == []


def test_twenty_requests_would_be_too_few() -> None:
    """The test above can fail: with 20 requests in a look a tenth of the traffic goes unseen in every eighth gate."""
    draw = shared(1 / 10, 0, seed=46)
    passed = sum(patient(draw, wanted=LEAST) is not None for _ in range(200))
    assert passed > 20


def test_without_a_memory_asking_again_would_let_it_pass() -> None:
    """What a gate that forgets is worth: at 20 requests and a tenth, twenty attempts find a lucky one nearly always."""
    draw = shared(1 / 10, 0, seed=46)
    passed = sum(
        any(look(draw, wanted=LEAST).state(through_tunnel=True) is Public.OURS for _ in range(ATTEMPTS))
        for _ in range(200)
    )
    assert passed > 150


# --- when it is enough ---


def test_a_foreign_answer_is_counted_up_to_twenty() -> None:
    """The share is told from 20, and no more is asked of somebody else."""
    sample = look(lambda: STRANGER)
    assert len(sample.replies) == LEAST
    assert sample.state(through_tunnel=True) is Public.STALE


def test_what_is_lost_altogether_ends_after_a_round() -> None:
    """Five requests say that there is no tunnel."""
    sample = look(lambda: reply(Weight.BLIP, Public.NO_TUNNEL))
    assert len(sample.replies) == ROUND
    assert sample.state(through_tunnel=True) is Public.NO_TUNNEL


def test_what_no_second_answer_heals_ends_at_once() -> None:
    """One wall is one too many."""
    sample = look(lambda: reply(Weight.HARD, Public.ACCESS_WALL))
    assert len(sample.replies) == 1
    assert sample.state(through_tunnel=False) is Public.ACCESS_WALL


def test_nothing_at_all_is_no_proof() -> None:
    """A look without an answer."""
    assert Sample(REQUESTS).state(through_tunnel=True) is Public.UNREACHABLE


# --- the whole check in a real gate ---


class Edge:
    """A public edge without a network: it loses some requests, and hands a share of the others to somebody else."""

    def __init__(self, seed: int, *, share: float, blips: float) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - chance that can be had again, no secret
        self._share = share
        self._blips = blips
        self.asked = 0

    async def ask(self, method: str, url: str, *, limit: float, headers: Mapping[str, str] | None = None) -> Answer:
        self.asked += 1
        if self._chance.random() < self._blips:
            if self._chance.random() < 0.3:
                raise ConnectionResetError(104, "gone")
            return Answer(self._chance.choice((502, 504, 520, 522, 530)), "text/plain", b"error code: 1", {}, url)
        mine = self._chance.random() >= self._share
        return Answer(200, "text/plain", b"hello", {"x-flawless-deploy-id": OURS if mine else OLDER}, url)


async def nothing(path: str) -> Answer | None:
    return None


def gated(edge: Edge, *, requests: int = REQUESTS) -> tuple[Public | Reason, int]:
    """What a gate of 20 s ends with, and how many requests it took."""

    async def settle() -> Public | Reason:
        clock = ManualClock()
        site = Site(edge, frozenset({OURS}))
        check = PublicReachable("http://a.example/", Wanted(), site, nothing, clock, requests, through_tunnel=True)
        finding = await gate(check, Patience(20, attempt=10), clock=clock)
        return finding.failure.reason if finding.failure else Public.OURS

    before = edge.asked
    return asyncio.run(settle()), edge.asked - before


def test_gates_pass_with_four_of_a_hundred_lost() -> None:
    """The whole check, in the gate that the product uses."""
    edge = Edge(54, share=0, blips=0.04)
    assert {gated(edge)[0] for _ in range(100)} == {Public.OURS}


@pytest.mark.parametrize("share", [1 / 2, 1 / 4, 1 / 10])
def test_gates_name_the_second_connector(share: float) -> None:
    """At their first look, and at its cost."""
    edge = Edge(46, share=share, blips=0.04)
    ends = [gated(edge) for _ in range(150)]
    assert {reason for reason, _ in ends} == {Reason.TUNNEL_OTHER_CONNECTOR}
    assert max(asked for _, asked in ends) <= REQUESTS


def test_a_fifth_lost_is_not_called_a_missing_tunnel() -> None:
    """Nothing would be restarted for it."""
    edge = Edge(45, share=0, blips=0.3)
    assert {gated(edge)[0] for _ in range(5)} == {Reason.PUBLIC_UNREACHABLE}
