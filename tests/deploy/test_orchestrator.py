"""The state machine of a deploy: every phase fails, is interrupted, breaks; always the way back, always a verdict."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawless.core.check import Failed, Finding, Outcome, Passed, Skipped
from flawless.core.errors import CommandFailed, Interrupted
from flawless.core.event import Event, Failure, PhaseEnded, PhaseStarted, RolledBack, Stamped, Stream, Verdict
from flawless.core.phase import DeployResult, Phase
from flawless.core.reason import Reason
from flawless.deploy.journal import Journal
from flawless.deploy.orchestrator import Orchestrator
from flawless.deploy.run import Run
from support.clock import ManualClock

pytestmark = pytest.mark.anyio

FORWARD: list[Phase] = [phase for phase in Phase if phase is not Phase.FAILURE_ROLLBACK]
FAILED = Failed(Reason.SERVICE_EXITED, "it ended", ("exit status 3",), ("look",))
Act = Callable[["World", Run], None]


@dataclass
class Doing:
    """A step: pushes its undo, waits a second, then does what it was told."""

    world: World
    phase: Phase
    outcome: Outcome = field(default_factory=Passed)
    error: BaseException | None = None
    changes: bool = True
    undo_error: Exception | None = None
    undo_takes: float = 1.0

    async def run(self, run: Run) -> Outcome:
        if self.changes:
            run.undo.push(f"{self.phase} is undone", self._undo)
            self.world.changed.append(self.phase)
        await self.world.clock.sleep(1.0)
        if self.error is not None:
            raise self.error
        if self.phase is Phase.SUCCESS and isinstance(self.outcome, Passed):
            run.is_committed = True
            await self.world.clock.sleep(1.0)
        return self.outcome

    async def _undo(self) -> None:
        await self.world.clock.sleep(self.undo_takes)
        if self.undo_error is not None:
            raise self.undo_error
        self.world.changed.remove(self.phase)


class World:
    """A run of ten steps, what it has changed, and all it has told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[Event] = []
        self.changed: list[Phase] = []
        self.stream = Stream(self.clock, lambda tree: tree, self._read)
        self.run = Run("20261123T141502Z-3f9c2a", self.clock, self.stream)
        self.steps = {phase: Doing(self, phase) for phase in FORWARD}
        self.orchestrator = Orchestrator(self.run, self.steps)

    def _read(self, stamped: Stamped) -> None:
        self.told.append(stamped.event)

    async def deploy(self, *interruptions: tuple[float, signal.Signals]) -> Verdict:
        bells = [asyncio.ensure_future(self._interrupt(at, number)) for at, number in interruptions]
        try:
            async with asyncio.timeout(20):
                return await self.orchestrator.deploy()
        finally:
            for bell in bells:
                bell.cancel()
            await asyncio.gather(*bells, return_exceptions=True)

    async def _interrupt(self, at: float, number: signal.Signals) -> None:
        await self.clock.sleep(at)
        self.orchestrator.interrupt(Interrupted(number, number.name))

    @property
    def failure(self) -> Failure:
        [failure] = [one for one in self.told if isinstance(one, Failure)]
        return failure

    @property
    def rollback(self) -> RolledBack:
        [rolled_back] = [one for one in self.told if isinstance(one, RolledBack)]
        return rolled_back

    @property
    def walked(self) -> list[str]:
        return [one.phase for one in self.told if isinstance(one, PhaseStarted)]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_run_walks_all_phases_and_undoes_nothing(world: World) -> None:
    """Success, exit code 0."""
    verdict = await world.deploy()
    assert verdict == Verdict(DeployResult.SUCCESS, 0)
    assert world.told[-1] == verdict
    assert world.walked == [str(phase) for phase in FORWARD]
    assert world.changed == FORWARD
    assert not any(isinstance(one, Failure | RolledBack) for one in world.told)


async def test_a_phase_that_is_skipped_says_why_and_the_run_goes_on(world: World) -> None:
    """Never shown as passed."""
    world.steps[Phase.DB_VALIDATE].outcome = Skipped("not declared")
    verdict = await world.deploy()
    ended = [one for one in world.told if isinstance(one, PhaseEnded) and one.phase == "DB_VALIDATE"]
    assert verdict.exit_code == 0
    assert ended == [PhaseEnded("DB_VALIDATE", "skipped", 1.0, "not declared")]


@pytest.mark.parametrize(
    ("outcome", "optional"), [(FAILED, True), (Skipped("not supported yet", declared=True), False)]
)
async def test_an_optional_failure_makes_it_partial(world: World, outcome: Outcome, *, optional: bool) -> None:
    """The release serves: exit code 2, and nothing is undone."""
    world.run.findings.append(Finding("a.b", "a is b", outcome, 0.0, optional))
    assert await world.deploy() == Verdict(DeployResult.PARTIAL, 2)
    assert world.changed == FORWARD


@pytest.mark.parametrize("phase", FORWARD)
async def test_a_failure_in_any_phase_undoes_everything_newest_first(world: World, phase: Phase) -> None:
    """Failure, exit code 1, the cause told once with its phase; no later phase was entered."""
    world.steps[phase].outcome = FAILED
    verdict = await world.deploy()
    entered = FORWARD[: FORWARD.index(phase) + 1]
    assert verdict == Verdict(DeployResult.FAILURE, 1)
    assert world.walked == [*map(str, entered), "FAILURE_ROLLBACK"]
    assert (world.failure.phase, world.failure.code, world.failure.cause) == (phase, "SERVICE_EXITED", "it ended")
    assert world.changed == []
    assert world.rollback == RolledBack("done", [f"{one} is undone" for one in reversed(entered)], [])


async def test_a_failure_before_anything_was_changed_needs_no_rollback(world: World) -> None:
    """The report says so."""
    world.steps[Phase.PRECHECK].changes = False
    world.steps[Phase.PRECHECK].outcome = FAILED
    assert (await world.deploy()).exit_code == 1
    assert world.rollback == RolledBack("not needed", [], [])


async def test_a_step_that_refuses_is_a_failure_with_its_code(world: World) -> None:
    """What an adapter raises keeps its own words."""
    refusal = CommandFailed("no keeper", code="SERVICE_KEEPER_FAILED", evidence=["nobody answers"], next_steps=["look"])
    world.steps[Phase.BACKEND_START].error = refusal
    assert (await world.deploy()).exit_code == 1
    assert world.failure == Failure("BACKEND_START", "SERVICE_KEEPER_FAILED", "no keeper", ["nobody answers"], ["look"])
    assert world.changed == []


async def test_a_refusal_without_evidence_still_has_some(world: World) -> None:
    """When it says no, the reader knows what to do next."""
    world.steps[Phase.BACKEND_START].error = CommandFailed("no keeper")
    await world.deploy()
    assert world.failure.evidence == ["no keeper"]
    assert world.failure.next_steps == ["flawless explain DEPLOY_FAILED"]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), asyncio.CancelledError()])
async def test_a_step_that_breaks_ends_in_a_rollback_and_no_traceback(world: World, error: BaseException) -> None:
    """A fault of our own, or a task of ours that somebody cancelled, is DEPLOY_INTERNAL."""
    world.steps[Phase.MIGRATE_VERIFY].error = error
    assert await world.deploy() == Verdict(DeployResult.FAILURE, 1)
    assert world.failure.code == "DEPLOY_INTERNAL"
    assert world.failure.evidence[0].startswith(type(error).__name__)
    assert "Doing.run, line" in world.failure.evidence[1]
    assert world.failure.next_steps[-1] == "try again: flawless deploy"
    assert world.changed == []


async def test_a_fault_without_a_traceback_is_told_too(world: World) -> None:
    """An error that was never raised has no place."""

    class Broken(Doing):
        def run(self, run: Run) -> asyncio.Future[Outcome]:  # type: ignore[override]  # a future fails without a frame
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            future.set_exception(ZeroDivisionError())
            return future

    world.steps[Phase.PRECHECK] = Broken(world, Phase.PRECHECK)
    await world.deploy()
    assert world.failure.code == "DEPLOY_INTERNAL"


async def test_an_undo_that_fails_stops_no_older_one_and_is_said(world: World) -> None:
    """An incomplete rollback is 1, and says what was not done."""
    world.steps[Phase.BACKEND_START].undo_error = CommandFailed("the keeper is gone")
    world.steps[Phase.FRONTEND_START].outcome = FAILED
    assert await world.deploy() == Verdict(DeployResult.FAILURE, 1)
    assert world.changed == [Phase.BACKEND_START]
    assert world.rollback.status == "failed"
    assert "NOT DONE: the keeper is gone (what was meant: BACKEND_START is undone)" in world.rollback.actions
    assert world.rollback.actions[-1] == "PRECHECK is undone"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("phase", FORWARD)
async def test_an_interruption_in_any_phase_rolls_back_in_good_order(
    world: World, phase: Phase, number: signal.Signals, exit_code: int
) -> None:
    """130, 143, 129; DEPLOY_INTERRUPTED; nothing is left."""
    verdict = await world.deploy((FORWARD.index(phase) + 0.5, number))
    assert verdict == Verdict(DeployResult.FAILURE, exit_code)
    assert (world.failure.phase, world.failure.code) == (phase, "DEPLOY_INTERRUPTED")
    assert world.failure.cause == f"interrupted by {number.name}"
    assert world.changed == []
    assert world.rollback.status == "done"


async def test_an_interruption_between_two_phases_is_heard(world: World) -> None:
    """No step of the next phase runs."""

    class Rings(Doing):
        async def run(self, run: Run) -> Outcome:
            outcome = await super().run(run)
            asyncio.get_running_loop().call_soon(world.orchestrator.interrupt, Interrupted(2, "SIGINT"))
            return outcome

    world.steps[Phase.DB_VALIDATE] = Rings(world, Phase.DB_VALIDATE)
    assert (await world.deploy()).exit_code == 130
    assert world.failure.phase in {"DB_VALIDATE", "MIGRATE_VERIFY"}
    assert world.changed == []


async def test_an_interruption_before_the_walk_changes_nothing(world: World) -> None:
    """Not even the first step runs."""
    world.orchestrator.interrupt(Interrupted(signal.SIGTERM, "SIGTERM"))
    assert (await world.deploy()).exit_code == 143
    assert world.changed == []
    assert world.rollback == RolledBack("not needed", [], [])


async def test_after_the_commit_an_interruption_comes_too_late(world: World) -> None:
    """What ran before is forgotten: the run tells its good end."""
    assert await world.deploy((9.5, signal.SIGINT)) == Verdict(DeployResult.SUCCESS, 0)
    assert world.changed == FORWARD


async def test_the_second_interruption_abandons_the_rollback_and_says_what_is_left(world: World) -> None:
    """What was undone, what failed, and what was not done, each is named."""
    world.steps[Phase.BACKEND_START].undo_error = CommandFailed("the keeper is gone")
    verdict = await world.deploy((4.5, signal.SIGINT), (7.0, signal.SIGINT))
    assert verdict == Verdict(DeployResult.FAILURE, 130)
    assert world.rollback.status == "failed"
    assert list(world.rollback.actions) == [
        "BACKEND_READY_GATE is undone",
        "NOT DONE: the keeper is gone (what was meant: BACKEND_START is undone)",
        "NOT DONE: MIGRATE_VERIFY is undone",
        "NOT DONE: DB_VALIDATE is undone",
        "NOT DONE: PRECHECK is undone",
        "the rollback was abandoned by a second interruption",
    ]


async def test_two_interruptions_before_the_rollback_begins_abandon_it_as_well(world: World) -> None:
    """Who presses Ctrl-C twice in a row means it."""
    verdict = await world.deploy((1.5, signal.SIGINT), (1.5, signal.SIGTERM))
    assert verdict == Verdict(DeployResult.FAILURE, 143)
    assert world.changed == [Phase.PRECHECK, Phase.DB_VALIDATE]
    assert world.rollback.actions[0] == "NOT DONE: DB_VALIDATE is undone"


async def test_an_interruption_during_the_rollback_of_a_failure_lets_it_end(world: World) -> None:
    """The first Ctrl-C is never the one that abandons."""
    world.steps[Phase.BACKEND_START].outcome = FAILED
    verdict = await world.deploy((4.5, signal.SIGINT))
    assert verdict == Verdict(DeployResult.FAILURE, 130)
    assert world.failure.code == "SERVICE_EXITED"
    assert world.changed == []


async def test_a_failure_behind_the_commit_leaves_what_runs(world: World) -> None:
    """What ran before is forgotten: undoing would only stop what serves. It is said."""

    class Half(Doing):
        async def run(self, run: Run) -> Outcome:
            run.is_committed = True
            raise CommandFailed("it does not run", code="SERVICE_KEEPER_FAILED")

    world.steps[Phase.SUCCESS] = Half(world, Phase.SUCCESS)
    assert await world.deploy() == Verdict(DeployResult.FAILURE, 1)
    assert world.changed == FORWARD[:-1]
    assert world.rollback.status == "failed"
    assert "committed" in world.rollback.actions[-1]


async def test_who_ends_the_whole_command_ends_the_walk(world: World) -> None:
    """Without an interruption of ours a cancellation is not turned into an answer."""
    task = asyncio.ensure_future(world.orchestrator.deploy())
    await world.clock.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class FullDisk:
    """A journal's file that takes so many records and no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def append(self, data: bytes, *, sync: bool) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("room", range(19))
async def test_a_disk_that_becomes_full_at_any_record_ends_in_a_rollback(room: int) -> None:
    """DISK_FULL; everything is undone, and every event reaches the report's reader."""
    world = World()
    world.stream._readers.insert(0, Journal(FullDisk(room)))
    verdict = await world.deploy()
    if room >= 17:  # the last records are told behind the commit
        assert verdict == Verdict(DeployResult.SUCCESS, 0)
        return
    assert verdict == Verdict(DeployResult.FAILURE, 1)
    assert world.failure.code == "DISK_FULL"
    assert world.changed == []
    ends = [one.phase for one in world.told if isinstance(one, PhaseEnded)]
    assert ends == world.walked


async def test_a_reader_that_breaks_fails_the_run_and_not_its_end(world: World) -> None:
    """A fault of a reader is told like any other."""

    def broken(stamped: Stamped) -> None:
        if isinstance(stamped.event, PhaseEnded):
            raise ZeroDivisionError

    world.stream.add(broken)
    assert await world.deploy() == Verdict(DeployResult.FAILURE, 1)
    assert (world.failure.phase, world.failure.code) == ("DB_VALIDATE", "DEPLOY_INTERNAL")
    assert world.changed == []


STEP = st.sampled_from(["pass", "skip", "fail", "refuse", "break"])


@settings(max_examples=150)
@given(
    st.lists(STEP, min_size=9, max_size=9),
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.lists(st.sampled_from([None, "refuse", "break"]), min_size=9, max_size=9),
    st.lists(st.floats(0, 20).map(lambda at: round(at, 1)), max_size=3).map(sorted),
)
def test_any_walk_ends_as_it_should(
    ways: list[str], changes: list[bool], undos: list[str | None], interruptions: list[float]
) -> None:
    """Whatever happens, and whenever it is interrupted: one verdict, told last; success only when every phase passed;
    and what is changed at the end is what the verdict and the rollback say.
    """

    async def walk() -> None:
        world = World()
        for phase, way, change, undo in zip(FORWARD, ways, changes, undos, strict=True):
            step = world.steps[phase]
            step.changes = change
            outcomes: dict[str, Outcome] = {"fail": FAILED, "skip": Skipped("not declared")}
            step.outcome = outcomes.get(way, Passed())
            step.error = {"refuse": CommandFailed("no"), "break": ZeroDivisionError()}.get(way)
            step.undo_error = {"refuse": CommandFailed("no"), "break": ZeroDivisionError()}.get(undo or "")
        verdict = await world.deploy(*((at, signal.SIGINT) for at in interruptions))
        assert world.told[-1] == verdict
        assert [one for one in world.told if isinstance(one, Verdict)] == [verdict]
        ends = [one.phase for one in world.told if isinstance(one, PhaseEnded)]
        assert ends == world.walked
        if verdict.exit_code == 0:
            assert ends == FORWARD
            assert world.changed == [phase for phase, change in zip(FORWARD, changes, strict=True) if change]
            assert not any(isinstance(one, Failure) for one in world.told)
            return
        assert verdict.exit_code in ({1, 130} if interruptions else {1})
        assert world.failure.next_steps
        left = {phase for phase in world.changed if f"{phase} is undone" not in world.rollback.actions}
        assert left == set(world.changed), "what is said to be undone is undone"
        assert (world.rollback.status == "failed") == bool(world.changed)

    asyncio.run(walk())
