"""Services without processes, for the state machines above them: what a keeper does, in memory and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.event import Event, Noted, Stamped, Stream
from flawless.core.reason import Reason
from flawless.core.service import Change, ChangeAction, Exit, Launch, Ordered, Running, ServiceState
from flawless.deploy.leaving import Leaver, Leaving
from flawless.deploy.run import Run
from flawless.deploy.services import Group, Plan, Recovery
from support.clock import ManualClock


def unhealthy(cause: str = "it is not ready", reason: Reason = Reason.SERVICE_UNHEALTHY) -> Failed:
    return Failed(reason, cause, ("seen",), ("look",))


@dataclass
class FakeKeeper:
    """One service (core.service.Keeper). `boot`: seconds a start takes; `dies`: seconds a process lives."""

    name: str
    clock: ManualClock
    orders: list[str]
    now: Running | None = None
    boot: float = 0.0
    dies: float | None = None
    refusal: Exception | None = None
    revert_to: Running | None = None
    refuses_commit: bool = False
    ends_before_the_mark: bool = False
    keeps_its_process: bool = False
    marked: list[bool] = field(default_factory=list)
    why_not: str | None = None
    adopted: list[Launch] = field(default_factory=list)
    prepared_at: list[float] = field(default_factory=list)
    committed: int = 0
    _pid: int = 100
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    def _order(self, order: str) -> None:
        self.orders.append(f"{order} {self.name}")

    async def look(self) -> Running | None:
        return self.now

    def prepare(self) -> None:
        self.prepared_at.append(self.clock.monotonic())

    async def start(self, launch: Launch) -> Running:
        self._order("start")
        await self.clock.sleep(self.boot)
        if self.refusal is not None:
            raise self.refusal
        if self.keeps_its_process:
            return self.now or up(self.name)
        self._pid += 1
        self._gone = asyncio.Event()
        self.now = up(self.name, pid=self._pid, fingerprint=launch.fingerprint)
        return self.now

    async def adopt(self, launch: Launch) -> Running | None:
        self._order("adopt")
        self.adopted.append(launch)
        self.now = replace(self.now, keeper_pid=1) if self.now is not None and self.now.is_alive else None
        return self.now

    async def revert(self) -> Running | None:
        self._order("revert")
        self._gone = asyncio.Event()
        self.now = self.revert_to
        return self.now

    async def commit(self) -> None:
        self._order("commit")
        if self.refuses_commit:
            raise CommandFailed("it does not run", code="SERVICE_KEEPER_FAILED")
        self.committed += 1

    async def stop(self) -> None:
        self._order("stop")
        await self.clock.sleep(self.boot)
        if self.refusal is not None:
            raise self.refusal
        self.now = None

    async def hold(self) -> None:
        self._order("hold")

    async def resume(self) -> Running:
        self._order("resume")
        return up(self.name)

    async def restart(self) -> Running:
        self._order("restart")
        return self.put_another()

    async def mark(self, *, ready: bool, reason: str | None = None) -> None:
        if self.ends_before_the_mark:
            self.end()
            raise CommandFailed("there is no process that could be ready", code="SERVICE_KEEPER_FAILED")
        self.marked.append(ready)
        self.why_not = reason

    async def exited(self) -> Exit:
        if self.dies is not None:
            await self.clock.sleep(self.dies)
        else:
            await self._gone.wait()
        return Exit(3, None, self.dies or 0.0, "")

    async def tail(self, lines: int) -> Sequence[str]:
        return [f"last words of {self.name}"]

    async def pids(self) -> frozenset[int]:
        return frozenset({self.now.pid}) if self.now and self.now.pid else frozenset()

    def put_another(self) -> Running:
        """The process ends, and another one is in its place."""
        self._pid += 1
        self._gone.set()
        self._gone = asyncio.Event()
        self.now = up(self.name, pid=self._pid)
        return self.now

    def end(self) -> None:
        """The process ends."""
        self._gone.set()


def up(name: str, *, pid: int = 7, fingerprint: Mapping[str, str] | None = None, keeper: int | None = 1) -> Running:
    return Running(name, ServiceState.RUNNING, pid, 3000, None, False, "old", fingerprint or {}, keeper_pid=keeper)


@dataclass
class FakeCheck:
    """Answers as the world says at that moment."""

    id: str
    answer: Callable[[], Outcome]
    takes: float = 0.0
    clock: ManualClock | None = None
    claim: str = "it is ready"
    optional: bool = False
    asked: int = 0

    async def ask(self, limit: float) -> Outcome:
        self.asked += 1
        if self.clock is not None and self.takes:
            await self.clock.sleep(min(self.takes, limit))
        return self.answer()


@dataclass
class FakeRecovery:
    """Recovery routes that do what `effect` does."""

    orders: list[str]
    effect: Callable[[], None]
    taken: bool = True

    async def stats(self, limit: float) -> object:
        self.orders.append("stats")
        return {"total": 0}

    async def act(self, limit: float) -> Ordered:
        self.orders.append("recover")
        self.effect()
        return Ordered("POST answered 200", self.taken)


@dataclass
class Stage:
    """A run with services that are wanted, and all that was told and ordered (deploy.services.Probes)."""

    clock: ManualClock = field(default_factory=ManualClock)
    told: list[Event] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    keepers: dict[str, FakeKeeper] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    answers: dict[str, Callable[[], Outcome]] = field(default_factory=dict)
    recoveries: dict[str, Recovery] = field(default_factory=dict)
    leavers: dict[str, Leaver] = field(default_factory=dict)
    launch_error: Exception | None = None
    asked_of: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = Run("new", self.clock, Stream(self.clock, lambda tree: tree, self._read))
        self.leaving = Leaving(self.leavers)
        self.group = Group(self.run, self.plans, self.keepers, self, self._launch, self.leaving)

    def _read(self, stamped: Stamped) -> None:
        self.told.append(stamped.event)

    def add(
        self,
        name: str,
        action: ChangeAction = ChangeAction.START,
        *,
        after: tuple[str, ...] = (),
        answer: Callable[[], Outcome] = Passed,
        limit: float = 60.0,
        stable: float = 2.0,
    ) -> FakeKeeper:
        self.keepers[name] = keeper = FakeKeeper(name, self.clock, self.orders)
        self.plans[name] = Plan(Change(name, action, ("asked for",)), "backend", 3000, after, limit, 5.0, stable)
        self.answers[name] = answer
        return keeper

    def noted(self, key: str) -> list[object]:
        return [one.value for one in self.told if isinstance(one, Noted) and one.key == key]

    async def _launch(self, name: str, fingerprint: Mapping[str, str] | None = None) -> Launch:
        if self.launch_error is not None:
            raise self.launch_error
        known = fingerprint if fingerprint is not None else {"code": "1"}
        return Launch(name, ("true",), Path(), {}, (), 3000, "new", known, 1.0, (0.0,), 5, 300.0, 600.0, 1024, 7)

    def readiness(self, name: str, running: Running) -> Sequence[Check]:
        self.asked_of.append(running)
        return [FakeCheck(f"service.ready:{name}", self.answers[name])]

    def recovery(self, name: str) -> Recovery | None:
        return self.recoveries.get(name)

    async def ended(self, name: str, exit_: Exit) -> Failed:
        return Failed(Reason.SERVICE_EXITED, f"{name} ended: {exit_}", (str(exit_),), ("look",))
