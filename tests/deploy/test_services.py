"""Bringing services up: order, gates, failures of one while others start, and nothing left under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from flawless.checks.service import Stays
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.event import Asked, Effected, Intended
from flawless.core.reason import Reason
from flawless.core.service import ChangeAction
from flawless.deploy.leaving import Leaver
from flawless.deploy.run import Run
from flawless.deploy.services import Group
from flawless.deploy.steps.success import ConfirmEndState
from support.kept import FakeCheck, FakeKeeper, FakeRecovery, Stage, unhealthy, up

pytestmark = pytest.mark.anyio


async def brought_up(stage: Stage) -> Outcome:
    names = list(stage.plans)
    spawned = await stage.group.spawn(names)
    return await stage.group.ready(names) if isinstance(spawned, Passed) else spawned


def later(stage: Stage, at: float) -> Callable[[], Outcome]:
    """Ready from that second on."""
    return lambda: Passed() if stage.clock.monotonic() - 1000.0 >= at else unhealthy()


def reason_of(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Failed)
    return outcome.reason


async def test_a_service_comes_up_when_those_it_waits_for_are_ready(stage: Stage) -> None:
    """Running is not ready: the second is started after the first passed its gate, independent ones side by side."""
    stage.add("api", answer=later(stage, 5.0))
    stage.add("web", after=("api",))
    stage.add("mail")
    assert await stage.group.spawn(list(stage.plans)) == Passed()
    assert stage.orders == ["start api", "start mail"]
    assert await stage.group.ready(list(stage.plans)) == Passed()
    assert stage.orders == ["start api", "start mail", "start web"]
    assert stage.clock.monotonic() >= 1005.0
    assert stage.keepers["web"].marked == [True]


async def test_the_keeper_of_what_waits_boots_while_that_does(stage: Stage) -> None:
    """It is made ready as soon as what the service waits for is started, long before its own turn."""
    stage.add("api", answer=later(stage, 5.0))
    stage.add("web", after=("api",))
    stage.add("shop", after=("web",))
    await stage.group.spawn(list(stage.plans))
    assert [len(stage.keepers[name].prepared_at) for name in ("api", "web", "shop")] == [0, 1, 0]
    await stage.group.ready(list(stage.plans))
    assert stage.keepers["web"].prepared_at < [1005.0] <= stage.keepers["shop"].prepared_at


async def test_spawning_returns_before_anything_is_ready(stage: Stage) -> None:
    """BACKEND_START is not the gate."""
    stage.add("api", answer=later(stage, 5.0)).boot = 1.0
    await stage.group.spawn(["api"])
    assert stage.clock.monotonic() < 1002.0
    assert stage.keepers["api"].marked == []


async def test_each_start_is_intended_undoable_and_then_told(stage: Stage) -> None:
    """The journal knows before the world changes; the report has the service with its pid."""
    stage.add("api")
    await brought_up(stage)
    acts = [type(one) for one in stage.told if isinstance(one, Intended | Effected)]
    assert acts == [Intended, Effected]
    assert stage.run.undo.pending() == ["api is stopped, as before this deploy"]
    entry = {"name": "api", "role": "backend", "pid": 101, "port": 3000, "started_at": None, "restarted": True}
    assert stage.noted("services") == [{"api": entry}]


async def test_what_is_kept_is_asked_and_not_touched(stage: Stage) -> None:
    """Same pid, no intent, no undo, no stability window; it must still be ready."""
    stage.add("api", ChangeAction.KEEP).now = up("api")
    assert await brought_up(stage) == Passed()
    assert stage.orders == []
    assert stage.run.undo.pending() == []
    assert stage.clock.monotonic() == 1000.0
    assert await stage.group.stable() == Passed()
    assert stage.clock.monotonic() == 1000.0


async def test_the_verdict_on_what_is_kept_reaches_its_keeper(stage: Stage) -> None:
    """Nobody calls it ready after this, and the failure says what helps: this run changes nothing of it."""
    hung = unhealthy("it hangs", Reason.SERVICE_HUNG)
    stage.add("api", ChangeAction.KEEP, answer=lambda: hung, limit=1.0).now = up("api")
    failed = await brought_up(stage)
    assert isinstance(failed, Failed)
    assert failed.next_steps == ("start it anew: flawless restart api", "look")
    assert (stage.keepers["api"].marked, stage.keepers["api"].why_not) == ([False], "SERVICE_HUNG: it hangs")
    assert stage.run.undo.pending() == []


async def test_what_this_run_started_is_not_told_to_be_restarted(stage: Stage) -> None:
    """It is taken back instead."""
    stage.add("api", answer=lambda: unhealthy("it hangs", Reason.SERVICE_HUNG), limit=1.0)
    failed = await brought_up(stage)
    assert isinstance(failed, Failed)
    assert failed.next_steps == ("look",)
    assert stage.keepers["api"].marked == []


@pytest.mark.parametrize("reason", [Reason.HOST_LIMITS, Reason.DEPLOY_CHECK_HUNG])
async def test_a_failure_of_this_machine_says_nothing_of_what_is_kept(stage: Stage, reason: Reason) -> None:
    """Its keeper is told nothing, and a restart would not help."""
    stage.add("api", ChangeAction.KEEP, answer=lambda: unhealthy("no", reason), limit=1.0).now = up("api")
    failed = await brought_up(stage)
    assert isinstance(failed, Failed)
    assert failed.next_steps == ("look",)
    assert stage.keepers["api"].marked == []


@pytest.mark.parametrize(("then", "marked"), [(Passed(), [False, True]), (unhealthy(), [False])])
async def test_what_failed_by_what_is_taken_back_is_ready_again(
    stage: Stage, then: Outcome, marked: list[bool]
) -> None:
    """What was kept is asked again behind the rollback, and goes on being called what it is then."""
    new = stage.add("api")
    stage.add("web", ChangeAction.KEEP, after=("api",), limit=1.0).now = up("web")
    stage.answers["web"] = lambda: then if new.now is None else unhealthy()
    assert reason_of(await brought_up(stage)) is Reason.SERVICE_UNHEALTHY
    await stage.run.undo.unwind()
    assert stage.keepers["web"].marked == marked


async def test_what_is_kept_and_falls_at_the_last_look_is_marked_too(stage: Stage) -> None:
    """SUCCESS is a verdict like the gate's."""
    stage.add("api", ChangeAction.KEEP).now = up("api")
    assert await brought_up(stage) == Passed()
    stage.answers["api"] = lambda: unhealthy("it hangs", Reason.SERVICE_HUNG)
    failed = await _confirm(stage, list)
    assert isinstance(failed, Failed)
    assert failed.next_steps[0] == "start it anew: flawless restart api"
    assert stage.keepers["api"].marked == [True, False]


async def test_what_is_kept_learns_at_the_verdict_how_it_is_kept_from_now_on(stage: Stage) -> None:
    """Of the fingerprint it was started from, and not before: a deploy that fails has nothing of it to undo."""
    keeper = stage.add("api", ChangeAction.KEEP)
    keeper.now = up("api", fingerprint={"code": "0"})
    stage.add("web")
    assert await brought_up(stage) == Passed()
    assert keeper.adopted == []
    for name in stage.group.started:
        await stage.group.commit(name)
    assert stage.orders == ["start web", "commit api", "adopt api", "commit web"]
    assert [dict(launch.fingerprint) for launch in keeper.adopted] == [{"code": "0"}]


async def test_what_was_to_be_kept_and_has_died_meanwhile_is_started_and_watched(stage: Stage) -> None:
    """It is started like any other: with an undo, as restarted, through its stability window."""
    stage.add("api", ChangeAction.KEEP).now = None
    assert await brought_up(stage) == Passed()
    assert stage.orders == ["start api"]
    assert stage.run.undo.pending() == ["api is stopped, as before this deploy"]
    [noted] = stage.noted("services")
    assert isinstance(noted, dict)
    assert noted["api"]["restarted"] is True
    assert await stage.group.stable() == Passed()
    assert stage.clock.monotonic() >= 1002.0


async def test_a_kept_service_whose_keeper_was_killed_is_adopted(stage: Stage) -> None:
    """Same pid, nothing to undo: a new keeper takes it over."""
    stage.add("api", ChangeAction.KEEP).now = up("api", fingerprint={"code": "1"}, keeper=None)
    assert await brought_up(stage) == Passed()
    now = stage.keepers["api"].now
    assert now is not None
    assert (now.pid, now.keeper_pid) == (7, 1)
    assert stage.orders == ["adopt api"]
    assert stage.run.undo.pending() == []


async def test_a_start_that_leaves_the_old_process_running_is_an_error(stage: Stage) -> None:
    """Nobody is told "restarted" of what was not."""
    keeper = stage.add("api", ChangeAction.REPLACE)
    keeper.now, keeper.keeps_its_process = up("api"), True
    with pytest.raises(CommandFailed, match="still runs") as refused:
        await brought_up(stage)
    assert refused.value.code == "SERVICE_KEEPER_FAILED"


async def test_an_orphan_of_other_code_is_replaced_with_a_way_back(stage: Stage) -> None:
    """`start` keeps what runs, but what nobody can keep as it is must be started anew."""
    stage.add("api", ChangeAction.KEEP).now = up("api", fingerprint={"code": "old"}, keeper=None)
    assert await brought_up(stage) == Passed()
    assert stage.run.undo.pending() == ["api is stopped, as before this deploy"]


@pytest.mark.parametrize(
    ("code", "orders"), [("1", ["adopt api"]), ("old", ["start api"])], ids=["the same", "from other code"]
)
async def test_one_that_its_keeper_has_started_since_the_plan_was_made(
    stage: Stage, code: str, orders: list[str]
) -> None:
    """It had crashed when the plan was made: a second start of the same would end what is well."""
    stage.add("api", ChangeAction.START).now = up("api", fingerprint={"code": code})
    assert await brought_up(stage) == Passed()
    assert stage.orders == orders


async def test_the_end_of_a_process_ends_its_gate_at_once(stage: Stage) -> None:
    """Not at the deadline; its last words are kept for the report."""
    stage.add("api", answer=unhealthy).dies = 3.0
    outcome = await brought_up(stage)
    assert reason_of(outcome) is Reason.SERVICE_EXITED
    assert stage.clock.monotonic() == pytest.approx(1003.0)
    assert stage.noted("log_tail") == [{"api": ["last words of api"]}]


async def test_an_end_before_the_first_question_is_no_pass(stage: Stage) -> None:
    """Another process may answer on its port."""
    stage.add("api").dies = 0.0
    outcome = await brought_up(stage)
    if isinstance(outcome, Passed):
        outcome = await stage.group.stable()
    assert reason_of(outcome) is Reason.SERVICE_EXITED


async def test_the_failure_of_one_ends_the_others_under_way(stage: Stage) -> None:
    """A start that was under way is over before the rollback begins, so that its undo finds it; no new one is begun."""
    stage.add("api", answer=lambda: unhealthy("no", Reason.SERVICE_WRONG_IDENTITY))
    stage.add("mail").boot = 30.0
    stage.add("late", after=("mail",))
    outcome = await stage.group.spawn(list(stage.plans))
    assert reason_of(outcome) is Reason.SERVICE_WRONG_IDENTITY
    assert stage.orders == ["start api", "start mail"]
    assert stage.keepers["mail"].now is not None
    await stage.run.undo.unwind()
    assert stage.orders[2:] == ["revert mail", "revert api"]
    assert stage.keepers["mail"].now is None


async def test_the_failure_of_a_dependency_is_the_cause(stage: Stage) -> None:
    """What waits for it is never started."""
    stage.add("web", after=("api",))
    stage.add("api").dies = 0.5
    stage.answers["api"] = unhealthy
    outcome = await brought_up(stage)
    assert isinstance(outcome, Failed)
    assert outcome.cause.startswith("api ended")
    assert "start web" not in stage.orders


@pytest.mark.parametrize("error", [CommandFailed("no keeper", code="SERVICE_KEEPER_FAILED"), ZeroDivisionError()])
async def test_an_error_that_is_no_gates_goes_up_and_leaves_nothing_under_way(stage: Stage, error: Exception) -> None:
    """The orchestrator makes a failure of it (the fixture looks for tasks)."""
    stage.add("api").refusal = error
    stage.add("mail", answer=unhealthy)
    with pytest.raises(type(error)):
        await brought_up(stage)
    assert all(task.done() for task in stage.group._ups.values())


async def test_a_service_that_cannot_even_be_put_together_is_not_undone(stage: Stage) -> None:
    """Undoing a replacement that was never made would stop what still serves."""
    stage.add("api", ChangeAction.REPLACE).now = up("api")
    stage.launch_error = CommandFailed("no such program", code="TOOL_MISSING")
    with pytest.raises(CommandFailed):
        await brought_up(stage)
    assert stage.run.undo.pending() == []
    assert stage.orders == []


async def test_a_cancellation_lets_a_start_under_way_end_and_leaves_nothing(stage: Stage) -> None:
    """The way back must find what was done."""
    stage.add("api").boot = 5.0
    task = asyncio.ensure_future(brought_up(stage))
    await stage.clock.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.keepers["api"].now is not None
    assert stage.clock.monotonic() == pytest.approx(1005.0)
    assert stage.run.undo.pending() == ["api is stopped, as before this deploy"]


async def test_an_early_service_that_falls_while_late_ones_start_ends_them(stage: Stage) -> None:
    """The stability window runs while later phases go on."""
    stage.add("api", stable=10.0).dies = 4.0
    stage.add("web", answer=unhealthy)
    assert await stage.group.spawn(["api"]) == Passed()
    assert await stage.group.ready(["api"]) == Passed()
    assert await stage.group.spawn(["web"]) == Passed()
    outcome = await stage.group.ready(["web"])
    assert isinstance(outcome, Failed)
    assert outcome.cause.startswith("api ended")
    assert stage.clock.monotonic() == pytest.approx(1004.0)


async def test_all_probes_share_the_deadline_and_each_gets_some_room(stage: Stage) -> None:
    """Two probes do not wait twice as long as the manifest says."""
    stage.add("api", answer=unhealthy, limit=10.0)
    outcome = await brought_up(stage)
    assert reason_of(outcome) is Reason.SERVICE_UNHEALTHY
    assert stage.clock.monotonic() == pytest.approx(1010.0, abs=0.1)


async def test_an_unhealthy_service_is_recovered_once_and_asked_again(stage: Stage) -> None:
    """Its statistics, the order, the same questions; what came of it stands in the report."""
    healthy: list[bool] = []
    stage.add("api", answer=lambda: Passed() if healthy else unhealthy(), limit=3.0)
    stage.recoveries["api"] = FakeRecovery(stage.orders, lambda: healthy.append(True))
    assert await brought_up(stage) == Passed()
    assert stage.orders == ["start api", "stats", "recover"]
    assert stage.noted("recovery") == [
        {"stats": {"total": 0}, "attempted": True, "result": "POST answered 200; ready after it"}
    ]


async def test_a_recovery_that_does_not_help_is_tried_once_and_said(stage: Stage) -> None:
    """`success` is what a check said after it."""
    stage.add("api", answer=unhealthy, limit=3.0)
    stage.recoveries["api"] = FakeRecovery(stage.orders, lambda: None)
    outcome = await brought_up(stage)
    assert isinstance(outcome, Failed)
    assert outcome.evidence[-1] == "one recovery was attempted: POST answered 200"
    assert stage.orders.count("recover") == 1
    [noted] = stage.noted("recovery")
    assert isinstance(noted, dict)
    assert noted["result"] == "POST answered 200; no help"


async def test_a_recovery_that_was_refused_is_not_waited_for(stage: Stage) -> None:
    """401 or 409 makes nothing better in a while."""
    stage.add("api", answer=unhealthy, limit=3.0)
    stage.recoveries["api"] = FakeRecovery(stage.orders, lambda: None, taken=False)
    assert reason_of(await brought_up(stage)) is Reason.SERVICE_UNHEALTHY
    assert stage.clock.monotonic() == pytest.approx(1003.0, abs=0.1)


async def test_what_leaves_makes_room_and_comes_back(stage: Stage) -> None:
    """A renamed service: the old one is held before the new one needs its port, and resumed in the rollback."""
    old = FakeKeeper("old", stage.clock, stage.orders)
    elsewhere = FakeKeeper("elsewhere", stage.clock, stage.orders)
    stage.leavers |= {"old": Leaver(old, 3000), "elsewhere": Leaver(elsewhere, 3001)}
    stage.add("new", answer=lambda: unhealthy("no", Reason.SERVICE_WRONG_IDENTITY))
    await brought_up(stage)
    assert stage.orders == ["hold old", "start new"]
    await stage.run.undo.unwind()
    assert stage.orders[2:] == ["revert new", "resume old"]


async def test_only_an_unhealthy_service_is_recovered(stage: Stage) -> None:
    """A process that is gone, or a stranger, is not asked to recover."""
    stage.add("api", answer=lambda: unhealthy("html", Reason.SERVICE_WRONG_IDENTITY))
    stage.recoveries["api"] = FakeRecovery(stage.orders, lambda: None)
    await brought_up(stage)
    assert stage.orders == ["start api"]


async def test_ready_and_then_dead_within_the_window_is_a_failure(stage: Stage) -> None:
    """The first pass does not win."""
    stage.add("api").dies = 1.0
    assert await brought_up(stage) == Passed()
    assert reason_of(await stage.group.stable()) is Reason.SERVICE_EXITED


async def test_one_fall_within_the_window_is_forgiven_and_the_second_is_flapping(stage: Stage) -> None:
    """Up 2 s, down 1 s for ever must not pass; one slow answer must."""
    downs = [(1000.5, 1001.0)]

    def answer() -> Outcome:
        now = stage.clock.monotonic()
        return unhealthy("down") if any(since <= now < until for since, until in downs) else Passed()

    stage.add("api", answer=answer)
    assert await brought_up(stage) == Passed()
    assert await stage.group.stable() == Passed()
    assert stage.clock.monotonic() >= 1003.0
    await stage.group.aclose()
    now = stage.clock.monotonic()
    downs.extend((now + 1.5 * turn, now + 1.5 * turn + 0.7) for turn in range(1, 20))
    stage.add("flap", answer=answer)
    await stage.group.spawn(["flap"])
    await stage.group.ready(["flap"])
    outcome = await stage.group.stable()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.SERVICE_FLAPPING
    assert outcome.evidence[:2] == ("SERVICE_UNHEALTHY: down", "SERVICE_UNHEALTHY: down")
    assert outcome.next_steps[-1] == "what the code means: flawless explain SERVICE_FLAPPING"


@pytest.mark.parametrize("reason", [Reason.PORT_STOLEN, Reason.HOST_LIMITS])
async def test_what_has_a_name_of_its_own_is_not_called_flapping(stage: Stage, reason: Reason) -> None:
    """A thief of the port, or this machine's own want, however often it comes."""
    answers: list[Outcome] = [
        Passed(),
        unhealthy("first"),
        Passed(),
        unhealthy("second", reason),
        Passed(),
        unhealthy("third", reason),
    ]
    stays = Stays("api", [FakeCheck("one", lambda: answers.pop(0), 0.0, stage.clock)])
    outcomes = [await stays.ask(1.0) for _ in range(6)]
    assert [one.reason for one in outcomes if isinstance(one, Failed)] == [Reason.SERVICE_UNHEALTHY, reason, reason]


async def test_slow_probes_of_a_window_are_asked_side_by_side(stage: Stage) -> None:
    """Three probes of 2.9 s each are no fault of a limit of 3 s."""
    probes = [FakeCheck(str(number), Passed, 2.9, stage.clock) for number in range(3)]
    assert await Stays("api", probes).ask(3.0) == Passed()
    assert stage.clock.monotonic() == pytest.approx(1002.9)


async def test_the_last_look_asks_every_service_as_one_that_is_ready(stage: Stage) -> None:
    """Kept ones too; what a log line proved once is not asked of the log again."""
    stage.add("api")
    stage.add("web", ChangeAction.KEEP).now = up("web")
    await brought_up(stage)
    looks = {check.id: ending for _, check, ending in stage.group.last_look()}
    assert set(looks) == {"service.ready:api", "service.ready:web"}
    assert looks["service.ready:api"] is not None, "what this run started is not brought back: its end ends the wait"
    assert looks["service.ready:web"] is None, "the keeper of what is kept brings it back"
    assert all(running.ready for running in stage.asked_of[-2:])


async def test_what_ends_while_the_end_state_is_looked_at_has_ended(stage: Stage) -> None:
    """Its closed connection is not the cause, and nobody waits until the look's deadline."""
    dying: list[bool] = []

    def answer() -> Outcome:
        if dying:
            keeper.end()
            return unhealthy("closed without an answer", Reason.SERVICE_HUNG)
        return Passed()

    keeper = stage.add("api", answer=answer)
    await brought_up(stage)
    await stage.group.stable()
    before = stage.clock.monotonic()

    def nothing() -> Sequence[Check]:
        dying.append(True)
        return ()

    outcome = await _confirm(stage, nothing)
    assert reason_of(outcome) is Reason.SERVICE_EXITED
    assert stage.clock.monotonic() - before < 1.0
    assert keeper.committed == 0


async def test_one_that_ends_behind_its_last_answer_has_ended(stage: Stage) -> None:
    """Its keeper refuses to call it ready: told is the end, not the refusal."""
    stage.add("api").ends_before_the_mark = True
    assert reason_of(await brought_up(stage)) is Reason.SERVICE_EXITED


async def test_what_has_passed_the_last_look_and_ends_before_the_others_have_has_ended(stage: Stage) -> None:
    """The verdict is what is true now."""
    keeper = stage.add("api")

    def slow() -> Outcome:
        keeper.end()
        return Passed()

    await brought_up(stage)
    outcome = await _confirm(stage, lambda: [FakeCheck("db.reachable", slow, 3.0, stage.clock)])
    assert reason_of(outcome) is Reason.SERVICE_EXITED


async def _confirm(stage: Stage, database: Callable[[], Sequence[Check]]) -> Outcome:
    async def group(run: Run) -> Group:
        return stage.group

    return await ConfirmEndState(group, stage.leaving, database).run(stage.run)


async def test_a_replacement_is_taken_back_through_the_same_gate(stage: Stage) -> None:
    """Rollback is not done before what ran before is ready again."""
    healthy: list[bool] = []
    keeper = stage.add("api", ChangeAction.REPLACE, answer=lambda: Passed() if healthy else unhealthy("no"), limit=5.0)
    keeper.now = keeper.revert_to = up("api", pid=55)
    assert reason_of(await brought_up(stage)) is Reason.SERVICE_UNHEALTHY
    healthy.append(True)
    [unwound] = await stage.run.undo.unwind()
    assert unwound.error is None
    assert unwound.sentence.startswith("api runs again as it did before")
    assert (keeper.marked, keeper.committed) == ([True], 1)


async def test_what_was_taken_back_and_does_not_become_ready_fails_the_rollback(stage: Stage) -> None:
    """And at once when it ends: its gate has the same ending."""
    keeper = stage.add("api", ChangeAction.REPLACE, answer=unhealthy, limit=60.0)
    keeper.revert_to = up("api", pid=55)
    keeper.dies = 1.0
    await brought_up(stage)
    before = stage.clock.monotonic()
    [unwound] = await stage.run.undo.unwind()
    assert "api ended" in str(unwound.error)
    assert stage.clock.monotonic() - before == pytest.approx(1.0)
    assert keeper.committed == 0


async def test_what_cannot_be_brought_back_at_all_fails_the_rollback(stage: Stage) -> None:
    """Its program may be gone: nothing that is not there is said to run again."""
    keeper = stage.add("api", ChangeAction.REPLACE, answer=lambda: unhealthy("no", Reason.SERVICE_WRONG_IDENTITY))
    keeper.now, keeper.revert_to = up("api", pid=55), None
    await brought_up(stage)
    [unwound] = await stage.run.undo.unwind()
    assert "could not be started again" in str(unwound.error)


async def test_every_probe_of_a_phase_is_told_with_its_finding(stage: Stage) -> None:
    """The report shows what was asked."""
    stage.add("api")
    await brought_up(stage)
    assert [one.finding["id"] for one in stage.told if isinstance(one, Asked)] == ["service.ready:api"]
