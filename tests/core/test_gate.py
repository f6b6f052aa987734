"""The gate: the only waiter. Time is virtual here; what is looked at is who asked when, and what is left running."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.check import Failed, Finding, Outcome, Passed, Skipped
from flawless.core.gate import GRACE, WHY_EVERY, Ending, Patience, Waiting, gate
from flawless.core.reason import Reason
from support.clock import ManualClock

pytestmark = pytest.mark.anyio


def refused(cause: str = "refused", reason: Reason = Reason.DB_REFUSED) -> Failed:
    return Failed(reason, cause, ("seen",), ("do this",))


class Scripted:
    """A check that answers with the outcomes of a script, the last one for ever; each may take its time."""

    id = "service.ready:web"
    claim = "web is ready"
    optional = False

    def __init__(self, clock: ManualClock, *script: Outcome | tuple[float, Outcome]) -> None:
        self._clock = clock
        self._script = [step if isinstance(step, tuple) else (0.0, step) for step in script]
        self.asked: list[float] = []
        self.limits: list[float] = []
        self.cut = 0

    async def ask(self, limit: float) -> Outcome:
        self.asked.append(self._clock.monotonic())
        self.limits.append(limit)
        takes, outcome = self._script[min(len(self.asked), len(self._script)) - 1]
        try:
            if takes:
                await self._clock.sleep(takes)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        return outcome


class Polite(Scripted):
    """A check that keeps its limit and says so in its own words."""

    async def ask(self, limit: float) -> Outcome:
        takes, _ = self._script[min(len(self.asked), len(self._script) - 1)]
        if takes < limit:
            return await super().ask(limit)
        self.asked.append(self._clock.monotonic())
        self.limits.append(limit)
        await self._clock.sleep(limit)
        return refused("timed out", Reason.DB_TIMEOUT)


@pytest.fixture
async def clock() -> AsyncIterator[ManualClock]:
    """Virtual time; and afterwards no gate has left a task behind, whatever its end was."""
    yield ManualClock()
    for _ in range(100):
        await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task)] == []


def failure(finding: Finding) -> Failed:
    assert finding.failure is not None
    return finding.failure


async def test_a_check_that_passes_at_once_is_asked_once(clock: ManualClock) -> None:
    """What is up costs one question and no wait."""
    check = Scripted(clock, Passed())
    finding = await gate(check, Patience(10.0), clock=clock)
    assert (finding.outcome, len(check.asked), clock.monotonic()) == (Passed(), 1, 1000.0)


async def test_a_skipped_check_settles_at_once(clock: ManualClock) -> None:
    """There is nothing to wait for in a question that is not asked."""
    finding = await gate(Scripted(clock, Skipped("not declared")), Patience(10.0), clock=clock)
    assert finding.outcome == Skipped("not declared")


async def test_it_asks_until_the_check_passes(clock: ManualClock) -> None:
    """A service that needs its time gets it."""
    check = Scripted(clock, *[refused()] * 40, Passed())
    finding = await gate(check, Patience(60.0), clock=clock)
    assert finding.outcome == Passed()
    assert len(check.asked) == 41


async def test_the_pauses_grow_by_half_up_to_the_ceiling(clock: ManualClock) -> None:
    """0.25 s rising to 1 s: quick for the quick, quiet for the slow; never a busy loop."""
    check = Scripted(clock, *[refused()] * 6, Passed())
    await gate(check, Patience(60.0), clock=clock)
    pauses = [round(after - before, 3) for before, after in itertools.pairwise(check.asked)]
    assert pauses == [0.25, 0.375, 0.562, 0.844, 1.0, 1.0]


async def test_a_permanent_failure_ends_it_at_once(clock: ManualClock) -> None:
    """A refused key does not get better by asking again."""
    check = Scripted(clock, refused("401", Reason.DB_AUTH))
    finding = await gate(check, Patience(60.0), clock=clock)
    assert (failure(finding).reason, len(check.asked), clock.monotonic()) == (Reason.DB_AUTH, 1, 1000.0)


async def test_a_check_may_overrule_whether_its_reason_is_permanent(clock: ManualClock) -> None:
    """The same code may be worth waiting for here and not there."""
    for_ever = Failed(Reason.DB_REFUSED, "cause", ("seen",), ("do",), permanent=True)
    check = Scripted(clock, for_ever)
    await gate(check, Patience(60.0), clock=clock)
    assert len(check.asked) == 1
    passing = Failed(Reason.DB_AUTH, "cause", ("seen",), ("do",), permanent=False)
    finding = await gate(Scripted(clock, passing, Passed()), Patience(60.0), clock=clock)
    assert finding.outcome == Passed()


async def test_the_deadline_ends_it_and_the_failure_says_how_long_was_waited(clock: ManualClock) -> None:
    """The last answer is the cause; how often and how long it was asked stands beside it."""
    check = Scripted(clock, refused())
    finding = await gate(check, Patience(20.0), clock=clock)
    assert failure(finding).cause == "refused"
    assert failure(finding).evidence == ("seen", f"asked {len(check.asked)} times in 20.0 s (limit 20.0 s)")
    assert 20.0 <= clock.monotonic() - 1000.0 <= 20.01


async def test_a_check_that_hangs_is_ended_by_the_gate(clock: ManualClock) -> None:
    """A check that forgets its own limit costs one second more, is cancelled, and is called a fault of ours."""
    check = Scripted(clock, (1e6, Passed()))
    finding = await gate(check, Patience(3.0, attempt=3.0), clock=clock)
    assert failure(finding).reason is Reason.DEPLOY_CHECK_HUNG
    assert (clock.monotonic() - 1000.0, check.cut) == (3.0 + GRACE, 1)


async def test_the_last_attempt_cut_short_by_the_deadline_keeps_the_more_telling_failure(clock: ManualClock) -> None:
    """'timed out after 0.2 s' says less than 'connection refused' before it."""
    check = Polite(clock, refused(), (9.0, Passed()))
    finding = await gate(check, Patience(1.0), clock=clock)
    assert check.limits[-1] < 3.0
    assert failure(finding).reason is Reason.DB_REFUSED


async def test_a_full_attempt_that_times_out_is_told_as_it_is(clock: ManualClock) -> None:
    """A time-out of the check's own counts when the deadline did not make it."""
    finding = await gate(Polite(clock, (9.0, Passed())), Patience(3.0), clock=clock)
    assert failure(finding).reason is Reason.DB_TIMEOUT


async def test_an_attempt_cut_short_does_not_hide_a_permanent_failure(clock: ManualClock) -> None:
    """401 in the last moment is still the cause."""
    check = Scripted(clock, refused(), (0.74, refused("401", Reason.DB_AUTH)))
    finding = await gate(check, Patience(1.0), clock=clock)
    assert failure(finding).reason is Reason.DB_AUTH


async def test_the_ending_during_an_attempt_cut_short_is_the_cause(clock: ManualClock) -> None:
    """That the process exited is the cause, though the deadline was near and another failure came before."""
    check = Scripted(clock, refused(), (9.0, Passed()))
    finding = await gate(check, Patience(1.0), clock=clock, ending=asyncio.ensure_future(ends(clock, 0.99)))
    assert failure(finding).reason is Reason.SERVICE_EXITED


async def ends(clock: ManualClock, after: float) -> Failed:
    await clock.sleep(after)
    return refused("exit status 3", Reason.SERVICE_EXITED)


@pytest.mark.parametrize("at", [0.0, 0.1, 5.0, 7.77])
async def test_the_ending_ends_it_at_once_whatever_is_under_way(clock: ManualClock, at: float) -> None:
    """During a question, during a pause, before the first question: the gate ends with the process."""
    check = Scripted(clock, refused(), refused(), (30.0, Passed()))
    ending = asyncio.ensure_future(ends(clock, at))
    finding = await gate(check, Patience(60.0, attempt=40.0), clock=clock, ending=ending)
    assert failure(finding).reason is Reason.SERVICE_EXITED
    assert clock.monotonic() - 1000.0 == pytest.approx(at)


async def test_an_ending_that_came_before_the_gate_asks_nothing(clock: ManualClock) -> None:
    """A process that is gone is not asked: another may answer on its port."""
    ending: Ending = asyncio.get_running_loop().create_future()
    ending.set_result(refused("exit status 0", Reason.SERVICE_EXITED))
    check = Scripted(clock, Passed())
    finding = await gate(check, Patience(60.0), clock=clock, ending=ending)
    assert (failure(finding).reason, check.asked) == (Reason.SERVICE_EXITED, [])


async def test_an_ending_beats_a_pass_of_the_same_moment(clock: ManualClock) -> None:
    """The answer of a process that is gone is no pass."""
    ending: Ending = asyncio.get_running_loop().create_future()

    class Last(Scripted):
        async def ask(self, limit: float) -> Outcome:
            ending.set_result(refused("gone", Reason.SERVICE_EXITED))
            return Passed()

    finding = await gate(Last(clock), Patience(60.0), clock=clock, ending=ending)
    assert failure(finding).reason is Reason.SERVICE_EXITED


async def test_an_ending_that_needs_no_waiting_for_a_temporary_reason(clock: ManualClock) -> None:
    """Whatever code an ending has, it ends the gate."""
    ending: Ending = asyncio.get_running_loop().create_future()
    ending.set_result(refused("gone", Reason.SERVICE_HUNG))
    finding = await gate(Scripted(clock, Passed()), Patience(60.0), clock=clock, ending=ending)
    assert failure(finding).reason is Reason.SERVICE_HUNG


async def test_success_needs_to_last(clock: ManualClock) -> None:
    """The first pass is not enough where stability is asked for; the last question is asked at its end."""
    check = Scripted(clock, Passed())
    finding = await gate(check, Patience(60.0, lasting=2.0), clock=clock)
    assert finding.outcome == Passed()
    assert clock.monotonic() - 1000.0 == pytest.approx(2.0)
    assert check.asked[-1] - check.asked[0] == pytest.approx(2.0)
    assert len(check.asked) >= 3


async def test_a_failure_between_begins_the_lasting_time_anew(clock: ManualClock) -> None:
    """N successes over a minimum time, without a failure between."""
    check = Scripted(clock, Passed(), Passed(), refused(), Passed())
    await gate(check, Patience(60.0, lasting=2.0), clock=clock)
    assert check.asked[-1] - check.asked[3] == pytest.approx(2.0)


async def test_what_passes_at_the_deadline_may_still_prove_that_it_lasts(clock: ManualClock) -> None:
    """The deadline is for becoming ready; the time of lasting comes on top, and a failure in it is the end."""
    late = [refused()] * 3
    good = await gate(Scripted(clock, *late, Passed()), Patience(1.2, lasting=2.0), clock=clock)
    assert good.outcome == Passed()
    bad = await gate(Scripted(clock, *late, *[Passed()] * 3, refused()), Patience(1.2, lasting=2.0), clock=clock)
    assert failure(bad).reason is Reason.DB_REFUSED


async def test_why_it_waits_is_said_at_once_and_every_five_seconds_at_least(clock: ManualClock) -> None:
    """Also while one long question is under way: nobody looks at a silent terminal."""
    told: list[tuple[float, Waiting]] = []
    check = Scripted(clock, refused(), (18.0, refused("slow")), Passed())
    await gate(
        check, Patience(60.0, attempt=20.0), clock=clock, on_wait=lambda why: told.append((clock.monotonic(), why))
    )
    moments = [1000.0, *(at for at, _ in told)]
    assert max(after - before for before, after in itertools.pairwise(moments)) <= WHY_EVERY
    assert told[0][1] == Waiting("service.ready:web", "web is ready", 0.0, 60.0, refused())
    assert len(told) == 4


async def test_a_gate_that_is_cancelled_cancels_its_question(clock: ManualClock) -> None:
    """Nothing outlives the gate (the fixture above looks at every task)."""
    check = Scripted(clock, (50.0, Passed()))
    task = asyncio.ensure_future(gate(check, Patience(100.0, attempt=100.0), clock=clock))
    await clock.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert check.cut == 1


async def test_a_check_that_breaks_breaks_the_gate(clock: ManualClock) -> None:
    """A fault of ours is no answer: it goes up, and leaves nothing running."""

    class Broken(Scripted):
        async def ask(self, limit: float) -> Outcome:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await gate(Broken(clock), Patience(10.0), clock=clock)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_jump_of_the_wall_clock_changes_nothing(clock: ManualClock, jump: float) -> None:
    """No gate ends early or late when the clock is set."""

    class Jumping(Scripted):
        async def ask(self, limit: float) -> Outcome:
            clock.jump_wall(jump)
            return await super().ask(limit)

    check = Jumping(clock, refused())
    await gate(check, Patience(10.0), clock=clock)
    assert 10.0 <= clock.monotonic() - 1000.0 <= 10.01


async def test_a_gate_never_turns_idly(clock: ManualClock) -> None:
    """Between two questions time passes, also at the very deadline and at the end of the lasting time."""
    script: list[Outcome] = [refused(), Passed()]
    check = Scripted(clock, *script * 300)
    await gate(check, Patience(60.0, lasting=0.5), clock=clock)
    assert len(check.asked) < 300
    assert all(after > before for before, after in itertools.pairwise(check.asked))


OUTCOMES: Sequence[Callable[[], Outcome]] = (Passed, refused, lambda: refused("401", Reason.DB_AUTH))


@given(
    script=st.lists(st.tuples(st.sampled_from((0.0, 0.3, 2.9, 7.0)), st.integers(0, 2)), min_size=1, max_size=12),
    lasting=st.sampled_from((0.0, 2.0)),
    end=st.none() | st.floats(0.0, 30.0),
)
def test_every_gate_keeps_its_bounds(script: list[tuple[float, int]], lasting: float, end: float | None) -> None:
    """Whatever is answered, however slowly: it ends by its deadline, never after the ending, and says yes only to a
    last answer that was a pass.
    """

    async def run() -> None:
        clock = ManualClock()
        check = Scripted(clock, *((takes, OUTCOMES[kind]()) for takes, kind in script))
        ending = asyncio.ensure_future(ends(clock, end)) if end is not None else None
        finding = await gate(check, Patience(20.0, lasting=lasting), clock=clock, ending=ending)
        waited = clock.monotonic() - 1000.0
        assert waited <= 20.0 + lasting + 3.0 + GRACE + 0.01
        if end is not None:
            assert waited <= end + 1e-6 or not ending or not ending.done() or finding.failure
        if isinstance(finding.outcome, Passed):
            assert script[min(len(check.asked), len(script)) - 1][1] == 0
            assert end is None or waited <= end + 1e-6
        if ending is not None:
            ending.cancel()
            await asyncio.wait([ending])
        await asyncio.sleep(0)

    asyncio.run(run())
