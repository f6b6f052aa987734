"""The interfaces beside the deploy: asked early, once more where it helps, judged at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from flawless.checks.interfaces.declared import Declared, Interface
from flawless.core.check import Check, Failed, Finding, Outcome, Passed, Skipped
from flawless.core.event import Event, Noted, Stamped, Stream, WaitingFor
from flawless.core.phase import Phase
from flawless.core.reason import Reason
from flawless.deploy.run import Run
from flawless.deploy.steps.external import Interfaces, ThenAsk, UnlessRefused, VerifyInterfaces
from flawless.deploy.steps.undeclared import Unsupported
from support.clock import ManualClock

pytestmark = pytest.mark.anyio


def failed(reason: Reason, retry_after: float | None = None) -> Failed:
    return Failed(reason, f"it is {reason}", ("seen",), ("look",), retry_after=retry_after)


OUT = failed(Reason.API_UNAVAILABLE, 0.25)
REFUSED = failed(Reason.API_UNAUTHORIZED)
UNCONNECTED = failed(Reason.TUNNEL_NOT_CONNECTED)


@dataclass
class Says:
    """Answers in turn, the last one for ever; each takes `takes` seconds."""

    clock: ManualClock
    answers: Sequence[Outcome] = (Passed(),)
    takes: float = 0.0
    optional: bool = False
    id: str = "external.one"
    claim: str = "one accepts the key"
    asked: list[float] = field(default_factory=list)

    async def ask(self, limit: float) -> Outcome:
        self.asked.append(self.clock.monotonic())
        if self.takes:
            await self.clock.sleep(self.takes)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@dataclass
class Does:
    """A phase that takes a while."""

    clock: ManualClock
    takes: float = 0.0
    outcome: Outcome = field(default_factory=Passed)
    runs: int = 0

    async def run(self, run: Run) -> Outcome:
        self.runs += 1
        await self.clock.sleep(self.takes)
        return self.outcome


class World:
    """A run, and the interfaces it asks."""

    def __init__(self, *settled: Finding) -> None:
        self.clock = ManualClock()
        self.told: list[Event] = []
        self.run = Run("20261123T141502Z-3f9c2a", self.clock, Stream(self.clock, lambda tree: tree, self._read))
        self.asked: list[Interface] = []
        self.settled = settled
        self.interfaces = Interfaces(lambda: Declared(tuple(self.asked), self.settled), self._opened)

    def _read(self, stamped: Stamped) -> None:
        self.told.append(stamped.event)

    async def _opened(self) -> None:
        """Nothing has to be loaded."""

    def declare(self, accepts: Check, *further: Check, strict: bool = False, base_url: str = "") -> None:
        self.asked.append(Interface(accepts, further, 10.0, strict, base_url))

    async def precheck(self, outcome: Outcome | None = None) -> Outcome:
        step = Does(self.clock, outcome=outcome or Passed())
        return await ThenAsk(step, self.interfaces).run(self.run)

    async def verify(self, *unsupported: Unsupported) -> Outcome:
        self.run.phase = Phase.EXTERNAL_VERIFY
        try:
            return await VerifyInterfaces(self.interfaces, unsupported).run(self.run)
        finally:
            await self.run.aclose()

    async def both(self) -> Outcome:
        await self.precheck()
        return await self.verify()

    def statuses(self) -> list[tuple[str, str, bool]]:
        return [(one.id, one.status, one.makes_partial) for one in self.run.findings]


@pytest.fixture
async def world(anyio_backend: str) -> World:
    return World()


async def test_it_is_asked_when_precheck_has_passed_and_costs_no_time(world: World) -> None:
    """Three that take 300 ms beside a phase that takes a second: at the end nothing is left to wait for."""
    for name in ("one", "two", "three"):
        world.declare(Says(world.clock, takes=0.3, id=f"external.{name}"))
    await world.precheck()
    await Does(world.clock, 1.0).run(world.run)
    before = world.clock.monotonic()
    assert isinstance(await world.verify(), Passed)
    assert world.clock.monotonic() == before
    assert len(world.run.findings) == 3


async def test_a_precheck_that_failed_asks_nobody(world: World) -> None:
    """A key of the wrong form, or in another one's place, is sent to no host."""
    check = Says(world.clock)
    world.declare(check)
    assert isinstance(await world.precheck(REFUSED), Failed)
    await asyncio.sleep(0)
    assert check.asked == []


async def test_a_refusal_that_is_known_keeps_the_next_phase_from_its_work(world: World) -> None:
    """It is told with the report, and the phase is not begun."""
    world.declare(Says(world.clock, [REFUSED]))
    await world.precheck()
    await Does(world.clock, 1.0).run(world.run)
    phase = Does(world.clock)
    outcome = await UnlessRefused(phase, world.interfaces).run(world.run)
    await world.run.aclose()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_UNAUTHORIZED
    assert phase.runs == 0
    assert world.statuses() == [("external.one", "FAIL", False)]
    assert len([one for one in world.told if isinstance(one, Noted) and one.key == "external"]) == 1


@pytest.mark.parametrize("kind", ["out", "strict and out", "optional and refused", "still asked"])
async def test_nothing_else_keeps_it(world: World, kind: str) -> None:
    """An outage may be over by the end, and nobody is waited for."""
    answers = [REFUSED if "refused" in kind else OUT]
    takes = 100.0 if kind == "still asked" else 0.0
    world.declare(Says(world.clock, answers, takes, optional="optional" in kind), strict="strict" in kind)
    await world.precheck()
    await Does(world.clock, 1.0).run(world.run)
    phase = Does(world.clock)
    assert isinstance(await UnlessRefused(phase, world.interfaces).run(world.run), Passed)
    await world.run.aclose()
    assert phase.runs == 1
    assert world.run.findings == []


async def test_it_is_asked_once_more_after_the_pause_that_it_names(world: World) -> None:
    """And not sooner, and not a third time."""
    check = Says(world.clock, [failed(Reason.API_RATE_LIMITED, 7.0)])
    world.declare(check)
    assert isinstance(await world.both(), Passed)
    first, second = check.asked
    assert second - first == pytest.approx(7.0)
    assert world.statuses() == [("external.one", "FAIL", True)]
    assert "asked 2 times" in world.run.findings[0].to_json()["evidence"][-1]


async def test_what_the_second_answer_says_counts(world: World) -> None:
    """A bad moment is forgotten."""
    check = Says(world.clock, [OUT, Passed()])
    world.declare(check)
    assert isinstance(await world.both(), Passed)
    assert len(check.asked) == 2
    assert not world.run.is_partial


async def test_where_it_does_not_help_it_is_asked_once(world: World) -> None:
    """A refusal, a certificate, a name: and a limit without a time."""
    for reason in (Reason.API_UNAUTHORIZED, Reason.API_TLS, Reason.API_DNS, Reason.API_RATE_LIMITED):
        check = Says(world.clock, [failed(reason)], id=f"external.{reason}")
        world.declare(check)
    await world.both()
    assert [len(one.accepts.asked) for one in world.asked if isinstance(one.accepts, Says)] == [1, 1, 1, 1]


async def test_two_attempts_and_a_pause_are_the_most_it_takes(world: World) -> None:
    """Thrice its own limit."""
    world.declare(Says(world.clock, [failed(Reason.API_TIMEOUT, 10.0)], takes=10.0))
    before = world.clock.monotonic()
    await world.both()
    assert world.clock.monotonic() - before == pytest.approx(30.0, abs=0.1)
    [waited] = {one.check for one in world.told if isinstance(one, WaitingFor)}
    assert waited == "external.one", "whoever looks sees what the deploy waits for"


@pytest.mark.parametrize(
    ("answer", "optional", "strict", "wanted"),
    [
        (REFUSED, False, False, "fails"),
        (failed(Reason.API_FORBIDDEN), False, False, "fails"),
        (failed(Reason.API_KEY_MODE), False, False, "fails"),
        (REFUSED, True, False, "partial"),
        (OUT, False, False, "partial"),
        (OUT, True, False, "partial"),
        (OUT, False, True, "fails"),
        (OUT, True, True, "partial"),
        (failed(Reason.PUBLIC_NOT_ON_TUNNEL), False, False, "partial"),
    ],
)
async def test_what_it_costs_the_deploy(
    world: World, answer: Failed, wanted: str, *, optional: bool, strict: bool
) -> None:
    """Refused: the deploy; out: exit 2; `optional` and `strict` say otherwise, and optional has the last word."""
    world.declare(Says(world.clock, [answer], optional=optional), strict=strict)
    outcome = await world.both()
    assert isinstance(outcome, Failed) is (wanted == "fails")
    assert world.run.is_partial is (wanted == "partial")


async def test_what_needs_the_key_is_not_asked_without_it(world: World) -> None:
    """It is skipped with that reason, which makes nothing partial."""
    further = Says(world.clock, id="external.further")
    world.declare(Says(world.clock, [OUT]), further)
    await world.both()
    assert further.asked == []
    assert world.statuses() == [("external.one", "FAIL", True), ("external.further", "SKIP", False)]


async def test_a_tunnel_that_this_deploy_brings_up_is_looked_at_again(world: World) -> None:
    """Asked for at the start it was down; at the end the API has seen it after two seconds."""
    tunnel = Says(world.clock, [UNCONNECTED, UNCONNECTED, UNCONNECTED, Passed()], id="external.tunnel")
    world.declare(Says(world.clock), tunnel)
    assert isinstance(await world.both(), Passed)
    assert world.statuses()[1] == ("external.tunnel", "PASS", False)
    assert len(tunnel.asked) == 4


async def test_a_tunnel_that_stays_down_is_told(world: World) -> None:
    """After its limit, not for ever."""
    world.declare(Says(world.clock), Says(world.clock, [UNCONNECTED], id="external.tunnel"))
    before = world.clock.monotonic()
    assert isinstance(await world.both(), Passed)
    assert world.clock.monotonic() - before == pytest.approx(10.0, abs=0.1)
    assert world.statuses()[1] == ("external.tunnel", "FAIL", True)


async def test_several_failures_are_told_with_the_first() -> None:
    """The catalog's order decides which gives the code."""
    world = World()
    world.declare(Says(world.clock, [failed(Reason.API_FORBIDDEN)]))
    world.declare(Says(world.clock, [REFUSED], id="external.two"))
    outcome = await world.both()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_FORBIDDEN
    assert "also API_UNAUTHORIZED: it is API_UNAUTHORIZED" in outcome.evidence


async def test_the_report_has_every_outcome_with_its_address() -> None:
    """Those that were not asked too; the address where it is not the interface's own."""
    world = World(Finding("external.openai", "OpenAI accepts the key", Skipped("disabled: later"), 0.0))
    world.declare(Says(world.clock), base_url="https://proxy.example.org")
    assert isinstance(await world.both(), Passed)
    noted = [one.value for one in world.told if isinstance(one, Noted) and one.key == "external"]
    assert [(one["id"], one["base_url"]) for one in noted] == [
        ("external.openai", None),
        ("external.one", "https://proxy.example.org"),
    ]


async def test_where_nothing_is_asked_the_phase_is_skipped() -> None:
    """With the reasons, or as not declared."""
    assert await World().both() == Skipped("not declared")
    world = World(Finding("external.openai", "OpenAI accepts the key", Skipped("disabled: later"), 0.0))
    await world.precheck()
    outcome = await world.verify(Unsupported("metrics.served", "metrics are served", "not yet"))
    assert outcome == Skipped("external.openai: disabled: later; metrics.served: not yet")
    assert world.run.is_partial


async def test_a_fault_of_ours_in_a_question_is_raised_where_it_is_judged(world: World) -> None:
    """Not swallowed: the orchestrator makes a failure of it. Until then no phase is kept from its work."""

    class Broken(Says):
        async def ask(self, limit: float) -> Outcome:
            raise ZeroDivisionError

    world.declare(Broken(world.clock))
    await world.precheck()
    await Does(world.clock, 1.0).run(world.run)
    assert world.interfaces.refusal(world.run) is None
    with pytest.raises(ZeroDivisionError):
        await world.verify()
