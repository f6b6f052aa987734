"""TUNNEL_START_OR_VERIFY in virtual time: who is started, what is waited for, and when a restart is ordered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from flawless.checks.routing import Routed, View
from flawless.core.budget import Spent
from flawless.core.check import Failed, Finding, Outcome, Passed, Skipped
from flawless.core.errors import CommandFailed
from flawless.core.event import Asked
from flawless.core.reason import Reason
from flawless.core.service import ChangeAction, Running
from flawless.core.tunnel import (
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
    Route,
    Seen,
)
from flawless.deploy.run import Run
from flawless.deploy.services import Group
from flawless.deploy.steps.tunnel import CONFIRMING, REGISTERING, Tunnel, VerifyTunnel
from flawless.recovery import Rule
from support.kept import FakeKeeper, Stage, up

pytestmark = pytest.mark.anyio

BROKEN: Mapping[str, Any] = {
    "connection": Connection.NONE,
    "public": Public.NO_TUNNEL,
}
SECRETIVE = Failed(Reason.PUBLIC_UNREACHABLE, "seen so", ("evidence",), ("look",))


@dataclass
class World:
    """What is seen at each second. `states`: those that differ from those of a tunnel that routes."""

    stage: Stage
    states: Callable[[float], Mapping[str, Any]]
    foreigner: str | None = None
    command: CommandFailed | None = None
    has_tunnel: bool = True
    name: str = "tunnel"
    seen: str | None = None

    def __post_init__(self) -> None:
        self.ledger = FakeLedger(self.stage)
        self.rule = Rule(1, 300.0, Reason.TUNNEL_RESTART_REFUSED, "flawless tunnel restart")

    @property
    def now(self) -> float:
        return self.stage.clock.monotonic() - 1000.0

    async def look(self, limit: float) -> View:
        seen: dict[str, Any] = {
            name: Seen(state, _outcome(name, state)) for name, state in {**GOOD, **self.states(self.now)}.items()
        }
        self.seen = f"pid {self.pid}"
        outside = Outside(seen.pop("name"), seen.pop("public"))
        finding = Finding("public.reachable:x", "it answers", Passed(), 0.0)
        return View(Local(**seen, pid=self.pid) if self.has_tunnel else None, outside, [finding])

    async def foreign(self) -> str | None:
        return self.foreigner

    async def incarnation(self) -> str | None:
        return f"pid {self.pid}"

    async def restart_foreign(self) -> None:
        if self.command is not None:
            raise self.command

    @property
    def pid(self) -> int:
        """Another one after each restart."""
        return 7 + len(self.ledger.charged)

    @property
    def restarts(self) -> list[float]:
        return self.ledger.charged


@dataclass
class FakeLedger:
    """The lock and the budget, in memory (recovery.Ledger). `charged`: at which second each restart was."""

    stage: Stage
    before: tuple[float, ...] = ()
    charged: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def held(self, limit: float) -> AsyncIterator[None]:
        yield

    def spent(self) -> Spent:
        return Spent(self.before)

    def charge(self, restarts: Sequence[float]) -> None:
        self.charged.append(self.stage.clock.monotonic() - 1000.0)


GOOD: Mapping[str, Any] = {
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


def _outcome(name: str, state: object) -> Outcome:
    return Passed((f"{name} {state}",)) if GOOD[name] == state else SECRETIVE


async def verified(world: World, *, total: float = 30.0) -> Outcome:
    async def group(run: Run) -> Group:
        return world.stage.group

    there: Tunnel | None = world if world.has_tunnel else None
    step = VerifyTunnel(group, there, Routed("app.example.org", world.look, has_tunnel=world.has_tunnel), total)
    return await step.run(world.stage.run)


def ours(stage: Stage, action: ChangeAction = ChangeAction.START) -> FakeKeeper:
    keeper = stage.add("tunnel", action)
    keeper.now = up("tunnel") if action is ChangeAction.KEEP else None
    return keeper


def reason_of(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Failed), outcome
    return outcome.reason


async def test_a_tunnel_that_does_not_run_is_started_and_passes_when_the_name_leads_here(stage: Stage) -> None:
    """Registering takes its time (15 s were measured); nothing is restarted for that."""
    keeper = ours(stage)
    world = World(stage, lambda now: {} if now >= 14.5 else BROKEN)
    assert await verified(world) == Passed()
    assert (stage.orders, world.restarts, keeper.marked) == (["start tunnel"], [], [True])


async def test_a_tunnel_that_runs_is_kept(stage: Stage) -> None:
    """As any service of which nothing changed."""
    ours(stage, ChangeAction.KEEP)
    assert await verified(World(stage, lambda now: {})) == Passed()
    assert stage.orders == []


async def test_one_that_somebody_else_runs_is_verified_and_left_alone(stage: Stage) -> None:
    """A second one beside it would take half of the requests."""
    ours(stage)
    world = World(stage, lambda now: {"process": Process.FOREIGN}, foreigner="pid 7 runs it")
    assert await verified(world) == Passed()
    assert stage.orders == []
    assert stage.noted("tunnel")[0] == {"foreign": "pid 7 runs it"}


@pytest.mark.parametrize(
    ("action", "after"), [(ChangeAction.START, REGISTERING), (ChangeAction.KEEP, CONFIRMING)], ids=["new", "old"]
)
async def test_what_a_restart_can_cure_is_restarted_once(stage: Stage, action: ChangeAction, after: float) -> None:
    """A new one is given the time it takes to register; an old one would wait for minutes by itself."""
    ours(stage, action)
    world = World(stage, lambda now: {} if world.ledger.charged else BROKEN)
    assert await verified(world) == Passed()
    [at] = world.restarts
    assert at == pytest.approx(after, abs=0.5)
    assert stage.orders[-1] == "restart tunnel"


async def test_a_look_that_the_deadline_cut_short_does_not_hide_what_a_restart_can_cure(stage: Stage) -> None:
    """The failure that counts is the one before it, and so is its verdict."""
    ours(stage, ChangeAction.KEEP)

    def seen(now: float) -> Mapping[str, Any]:
        last = {"origin": Origin.DOWN, "public": Public.BAD_GATEWAY}
        return {} if world.ledger.charged else last if now > CONFIRMING / 2 else {"public": Public.NO_TUNNEL}

    class Hurried(World):
        async def look(self, limit: float) -> View:
            view = await super().look(limit)
            await stage.clock.sleep(min(limit, CONFIRMING / 2))
            return view

    world = Hurried(stage, seen)
    assert await verified(world) == Passed()
    assert len(world.restarts) == 1


async def test_what_is_no_better_after_the_restart_fails_and_is_not_restarted_again(stage: Stage) -> None:
    """The failure tells that it was tried."""
    ours(stage)
    world = World(stage, lambda now: BROKEN)
    outcome = await verified(world)
    assert reason_of(outcome) is Reason.TUNNEL_NOT_CONNECTED
    assert len(world.restarts) == 1
    assert isinstance(outcome, Failed)
    assert "restarted tunnel (1 of 1 within 300 s)" in outcome.evidence[-1]


async def test_a_restart_that_is_refused_ends_the_wait(stage: Stage) -> None:
    """The budget of restarts is everybody's: it says so, and that stands in the evidence."""
    ours(stage)
    world = World(stage, lambda now: BROKEN)
    world.ledger.before = (stage.clock.now().timestamp(),)
    outcome = await verified(world)
    assert reason_of(outcome) is Reason.TUNNEL_NOT_CONNECTED
    assert isinstance(outcome, Failed)
    assert "1 restarts within 300 s are enough" in "\n".join(outcome.evidence)
    assert world.restarts == []


async def test_one_that_somebody_else_runs_is_restarted_by_the_manifests_command_alone(stage: Stage) -> None:
    """With one it is; without one the failure says that nobody here may."""
    ours(stage)
    seen = {**BROKEN, "process": Process.FOREIGN}
    world = World(
        stage, lambda now: {"process": Process.FOREIGN} if world.restarts else seen, foreigner="pid 7 runs it"
    )
    assert await verified(world) == Passed()
    assert (len(world.restarts), stage.orders) == (1, [])
    refusing = World(stage, lambda now: seen, foreigner="pid 7 runs it", command=CommandFailed("no [tunnel] restart"))
    outcome = await verified(refusing)
    assert isinstance(outcome, Failed)
    assert outcome.evidence[-1] == "no [tunnel] restart"


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"connection": Connection.REFUSED, "public": Public.NO_TUNNEL}, Reason.TUNNEL_CREDENTIALS),
        ({"route": Route.OTHER_PORT, "public": Public.WRONG_SITE}, Reason.TUNNEL_ROUTE_MISMATCH),
        ({"public": Public.WRONG_SITE}, Reason.PUBLIC_WRONG_SITE),
    ],
    ids=lambda value: str(value) if isinstance(value, Reason) else "",
)
async def test_what_neither_a_restart_nor_a_wait_can_cure_fails_at_once(
    stage: Stage, seen: Mapping[str, Any], reason: Reason
) -> None:
    """No restart, no second look."""
    ours(stage)
    world = World(stage, lambda now: seen)
    assert reason_of(await verified(world)) is reason
    assert (world.restarts, world.now) == ([], 0.0)


async def test_what_a_wait_may_cure_is_waited_for_without_a_restart(stage: Stage) -> None:
    """The origin behind the tunnel may still be coming up."""
    ours(stage)
    world = World(stage, lambda now: {} if now > 20 else {"origin": Origin.DOWN, "public": Public.BAD_GATEWAY})
    assert await verified(world) == Passed()
    assert world.restarts == []


async def test_the_end_of_its_process_ends_the_wait(stage: Stage) -> None:
    """What cloudflared printed last says more than a name that leads nowhere."""
    keeper = ours(stage)
    keeper.dies = 2.0
    world = World(stage, lambda now: BROKEN)
    assert reason_of(await verified(world)) is Reason.SERVICE_EXITED
    assert (world.restarts, world.now) == ([], 2.0)


@pytest.mark.parametrize("action", [ChangeAction.START, ChangeAction.KEEP], ids=["new", "old"])
@pytest.mark.parametrize("at", [1.0, CONFIRMING + REGISTERING], ids=["first", "last"])
async def test_a_process_that_somebody_else_has_put_in_its_place_is_waited_for(
    stage: Stage, action: ChangeAction, at: float
) -> None:
    """A person's `flawless tunnel restart`, or its keeper, was quicker: the end of the old one is no failure."""
    keeper = ours(stage, action)

    def seen(now: float) -> Mapping[str, Any]:
        if now >= at and not replaced:
            replaced.append(keeper.put_another())
        return {} if now > at + 5 else {"origin": Origin.DOWN, "public": Public.BAD_GATEWAY}

    replaced: list[Running] = []
    assert await verified(World(stage, seen)) == Passed()
    assert stage.group.started["tunnel"].pid == replaced[0].pid
    assert "restart tunnel" not in stage.orders


async def test_without_a_tunnel_the_public_name_is_asked_all_the_same(stage: Stage) -> None:
    """The phase is the public name's alone, and waits as long as that is given."""
    world = World(stage, lambda now: {} if now > 5 else {"public": Public.UNREACHABLE}, has_tunnel=False)
    assert await verified(world, total=20.0) == Passed()
    assert [one.finding["id"] for one in stage.told if isinstance(one, Asked)] == [
        "public.routing",
        "public.reachable:x",
    ]
    failing = World(stage, lambda now: {"public": Public.UNREACHABLE}, has_tunnel=False)
    assert reason_of(await verified(failing, total=20.0)) is Reason.PUBLIC_UNREACHABLE


async def test_nothing_declared_is_nothing_asked(stage: Stage) -> None:
    """And said."""

    async def group(run: Run) -> Group:
        raise AssertionError("nobody is asked")

    assert await VerifyTunnel(group, None, None, 1.0).run(stage.run) == Skipped("not declared")
