"""Bringing services up: in the order of `after`, independent ones side by side, each through its own gate.

The deploy's phases and the verbs start and restart all use this; nothing else starts a service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from flawless.checks.service import Stays
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.event import Effected, Intended
from flawless.core.gate import Ending, Patience
from flawless.core.reason import Reason
from flawless.core.service import TUNNEL, Change, ChangeAction, Exit, Keeper, Launch, Ordered, Running
from flawless.deploy.leaving import Leaving
from flawless.deploy.run import ATTEMPT, Run

SETTLING = 10.0
"""Seconds beyond the stability window in which a service may fall and stand up again once."""


ENDING = 1.0
"""Seconds in which the end of a process is heard of, once its keeper has seen it."""

ROOM = 1.0
"""Seconds a probe gets at the least, when the one before it took all the time there was."""

_NO_WORD_ON_IT = frozenset({Reason.SERVICE_EXITED, Reason.SERVICE_OOM, Reason.HOST_LIMITS, Reason.DEPLOY_CHECK_HUNG})
"""Failures that say nothing of a process that runs: its keeper has seen the end itself, or the want is our own."""

Task = asyncio.Future[Any]
T = TypeVar("T")


class Recovery(Protocol):
    """The recovery routes of one service."""

    async def stats(self, limit: float) -> object:
        """What the service says of its earlier recoveries, as JSON; None when it does not answer."""

    async def act(self, limit: float) -> Ordered:
        """Orders the one recovery."""


class Probes(Protocol):
    """The questions about one service."""

    def readiness(self, name: str, running: Running) -> Sequence[Check]:
        """The checks of `ready`, in order; each proves that a process of ours answered."""

    def recovery(self, name: str) -> Recovery | None:
        """The recovery routes, where the manifest declares them."""

    async def ended(self, name: str, exit_: Exit) -> Failed:
        """Why a process that exited did so: the exit, its last lines, who holds its port now."""


class Launcher(Protocol):
    """What a service is started with."""

    async def __call__(self, name: str, fingerprint: Mapping[str, str] | None = None) -> Launch:
        """`fingerprint`: that of what was started already; without one that of what is there now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with one service. Seconds."""

    change: Change
    role: str
    port: int | None
    after: tuple[str, ...]
    ready_limit: float
    recover_limit: float
    stable: float


class GateFailed(Exception):
    """Carries the failure of one service out of the task that watched it."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.cause)
        self.failed = failed


@dataclass
class Group:
    """The services of one run on their way up."""

    run: Run
    plans: Mapping[str, Plan]
    keepers: Mapping[str, Keeper]
    probes: Probes
    launch: Launcher
    leaving: Leaving = field(default_factory=lambda: Leaving({}))
    _ups: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _spawned: dict[str, asyncio.Event] = field(default_factory=dict)
    _endings: dict[str, asyncio.Task[Failed]] = field(default_factory=dict)
    _stable: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _blamed: set[str] = field(default_factory=set)
    started: dict[str, Running] = field(default_factory=dict)

    async def spawn(self, names: Collection[str]) -> Outcome:
        """Sets the named services going; returns when those that need not wait for another are started."""
        for name in names:
            self._spawned[name] = asyncio.Event()
        for name in names:
            self._ups[name] = asyncio.ensure_future(self._bring_up(name))
        first = [name for name in names if not set(self.plans[name].after) & set(names)]
        spawned = [asyncio.ensure_future(self._spawned[name].wait()) for name in first]
        try:
            return await self._settled(spawned, failing=[self._ups[name] for name in first])
        finally:
            for waiter in spawned:
                waiter.cancel()

    async def ready(self, names: Collection[str]) -> Outcome:
        """Returns when all the named services are ready, or one has failed."""
        ups = [self._ups[name] for name in names]
        return await self._settled(ups, failing=ups)

    async def restart(self, name: str) -> None:
        """Ends the process and starts the same anew, as `recovery` has ordered; it has to become ready again."""
        self.run.tell(Intended("restart", name))
        await self._unwatch(name)
        running = await _unbroken(self.keepers[name].restart())
        self.run.tell(Effected("restart", name, {"pid": running.pid}))
        self._see(name, running, is_new=True)

    async def rejoin(self, name: str) -> bool:
        """Whether somebody else has put another process in the place of the one that was seen: it is watched now."""
        running = await self.keepers[name].look()
        if running is None or not running.is_alive or running.pid == self.started[name].pid:
            return False
        await self._unwatch(name)
        self._see(name, running, is_new=self.is_new(name))
        return True

    async def _unwatch(self, name: str) -> None:
        watches = (self._ups, self._endings, self._stable)
        await _ended([found for of in watches if (found := of.pop(name, None)) is not None])

    def _see(self, name: str, running: Running, *, is_new: bool) -> None:
        """Another process than before: it has to become ready by itself."""
        self._watch(self.plans[name], running, is_new=is_new)
        self._ups[name] = asyncio.ensure_future(self._see_through(self.plans[name], running, is_new=is_new))

    def replaces(self, name: str) -> bool:
        """Whether something runs in its place that would come back."""
        return self.plans[name].change.action is ChangeAction.REPLACE

    def is_new(self, name: str) -> bool:
        """Whether this run started it, and does not only keep it."""
        return name in self._new

    def ending(self, name: str) -> Ending | None:
        """What settles a wait for the service: the end of its process."""
        return self._endings.get(name)

    async def stable(self) -> Outcome:
        """Judges the stability windows of what this run started."""
        windows = list(self._stable.values())
        return await self._settled(windows, failing=windows)

    def last_look(self) -> list[tuple[str, Check, Ending | None]]:
        """Every readiness check of every service, for the look at the end state, with what ends the wait for it.

        What this run started is not brought back before the verdict; what it kept may be.
        """
        return [
            (name, check, self._endings[name] if name in self._stable else None)
            for name, running in self.started.items()
            for check in self.probes.readiness(name, running)
        ]

    def ended(self) -> Failed | None:
        """The end of a process that this run started, if one has ended."""
        return next((self._endings[name].result() for name in self._stable if self._endings[name].done()), None)

    async def judged(self, name: str, failed: Failed) -> Failed:
        """The failure with what helps. The verdict on what was kept stays true after this run: its keeper is told."""
        if self.is_new(name) or failed.reason in _NO_WORD_ON_IT:
            return failed
        self._blamed.add(name)
        with suppress(CommandFailed):  # it has ended meanwhile, or its keeper has: then nobody calls it ready
            await self.keepers[name].mark(ready=False, reason=f"{failed.reason}: {failed.cause}")
        first = "once its port is free, start it anew" if failed.reason is Reason.PORT_STOLEN else "start it anew"
        return replace(failed, next_steps=(f"{first}: flawless restart {name}", *failed.next_steps))

    async def commit(self, name: str) -> None:
        """The verdict is yes. What was kept learns without a restart how it is to be kept from now on: when it is
        started again, how it is stopped, where it logs, what is secret. Before the verdict nothing of that is to undo.
        """
        await self.keepers[name].commit()
        if not self.is_new(name):
            await self.keepers[name].adopt(await self.launch(name, self.started[name].fingerprint))

    async def aclose(self) -> None:
        """Ends every watch; the services go on."""
        await _ended([*self._ups.values(), *self._endings.values(), *self._stable.values()])

    async def _settled(self, awaited: Collection[Task], failing: Collection[Task]) -> Outcome:
        """All of `awaited` are done, or the first of `failing`, or of what became ready before, has failed.

        After a failure, an error or a cancellation nothing of this group is under way any more.
        """
        try:
            while True:
                failed = _first_failure([*failing, *self._stable.values()])
                waiting = {task for task in awaited if not task.done()}
                if failed is not None or not waiting:
                    break
                await asyncio.wait({*waiting, *self._watched(failing)}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.aclose()
            raise
        if failed is not None:
            await self.aclose()
        return failed or Passed()

    def _watched(self, failing: Collection[Task]) -> set[Task]:
        return {task for task in (*failing, *self._stable.values()) if not task.done()}

    async def _bring_up(self, name: str) -> None:
        plan = self.plans[name]
        await asyncio.gather(*(asyncio.shield(self._ups[other]) for other in plan.after if other in self._ups))
        kept = await self._kept(plan)
        running = kept or await self._start(plan)
        self._prepare_for(name)
        self._watch(plan, running, is_new=kept is None)
        await self._see_through(plan, running, is_new=kept is None)

    def _watch(self, plan: Plan, running: Running, *, is_new: bool) -> None:
        """There is a process: its end is seen from here on."""
        self._note_service(plan, running, restarted=is_new)
        self._new |= {running.name} if is_new else set()
        self._endings[running.name] = asyncio.ensure_future(self._ending(running.name))
        self._spawned[running.name].set()

    async def _see_through(self, plan: Plan, running: Running, *, is_new: bool) -> None:
        """From a process to a service that is ready; what is new must stay so."""
        name = running.name
        await self._gate(plan, running)
        await self._mark_ready(name)
        self.started[name] = running = replace(running, ready=True)
        if is_new:
            self._stable[name] = asyncio.ensure_future(self._watch_stable(plan, running))

    async def _mark_ready(self, name: str) -> None:
        """A keeper refuses the word when the process has ended since its last answer: then that end is the news."""
        try:
            await self.keepers[name].mark(ready=True)
        except CommandFailed:
            await asyncio.wait([self._endings[name]], timeout=ENDING)
            if self._endings[name].done():
                raise GateFailed(self._endings[name].result()) from None
            raise

    def _prepare_for(self, name: str) -> None:
        """The keepers of those that wait for this one boot while it does."""
        for other, plan in self.plans.items():
            if name in plan.after and plan.role != TUNNEL:  # a tunnel may turn out to be run by somebody else
                self.keepers[other].prepare()

    async def _kept(self, plan: Plan) -> Running | None:
        """What runs and is left as it is; None when there is nothing to keep, or no longer."""
        name, action = plan.change.name, plan.change.action
        if action not in {ChangeAction.KEEP, ChangeAction.START}:
            return None
        running = await self.keepers[name].look()
        if running is None or not running.is_alive:
            return None
        is_known = action is ChangeAction.KEEP and running.keeper_pid is not None
        return running if is_known else await self._adopted(name, running)

    async def _adopted(self, name: str, running: Running) -> Running | None:
        """One whose keeper was killed, or that its keeper has started again since the plan was made: what runs from the
        same is taken over, what runs from another is replaced.
        """
        launch = await self.launch(name)
        if dict(launch.fingerprint) != dict(running.fingerprint):
            return None
        adopted = await _unbroken(self.keepers[name].adopt(launch))
        return adopted if adopted is not None and adopted.pid == running.pid else None

    async def _start(self, plan: Plan) -> Running:
        name = plan.change.name
        launch = await self.launch(name)
        self.run.tell(Intended("start", name, {"why": list(plan.change.why)}))
        await self.leaving.make_room(self.run, plan.port)
        self.run.undo.push(_sentence(plan), lambda: self._take_back(plan))
        before = await self.keepers[name].look()
        running = await _unbroken(self.keepers[name].start(launch))
        if before is not None and before.is_alive and (before.pid, before.since) == (running.pid, running.since):
            raise _not_started_anew(name, before)
        self.run.tell(Effected("start", name, {"pid": running.pid, "port": plan.port}))
        return running

    def _note_service(self, plan: Plan, running: Running, *, restarted: bool) -> None:
        self.started[running.name] = running
        entry = {
            "name": running.name,
            "role": plan.role,
            "pid": running.pid,
            "port": plan.port,
            "started_at": running.since,
            "restarted": restarted,
        }
        self.run.note("services", {running.name: entry})

    async def _take_back(self, plan: Plan) -> None:
        """Undoes a start; what was kept may have failed by just what is undone now, so it is asked again."""
        await self._revert(plan)
        for name in self._blamed:
            checks = self.probes.readiness(name, self.started[name])
            if all([isinstance(await check.ask(ATTEMPT), Passed) for check in checks]):
                await self._mark_ready(name)

    async def _revert(self, plan: Plan) -> None:
        """What ran before runs again, and passes the same gate."""
        name = plan.change.name
        before = await self.keepers[name].revert()
        if before is None:
            self.run.note("services", {name: None})
            if plan.change.action is ChangeAction.REPLACE:
                raise _not_brought_back(name)
            return
        self._note_service(plan, before, restarted=True)
        ending = self._endings[name] = asyncio.ensure_future(self._ending(name))
        try:
            failed = await self._asked_in_order(plan, before, self.run.clock.monotonic() + plan.ready_limit)
        finally:
            ending.cancel()
            await asyncio.wait([ending])
        if failed is not None:
            down = f"{name} is DOWN now: started again, {failed.cause}"
            raise CommandFailed(down, code=failed.reason, evidence=failed.evidence, next_steps=failed.next_steps)
        await self.keepers[name].mark(ready=True)
        await self.keepers[name].commit()

    async def _ending(self, name: str) -> Failed:
        return await self.probes.ended(name, await self.keepers[name].exited())

    async def _gate(self, plan: Plan, running: Running) -> None:
        deadline = self.run.clock.monotonic() + plan.ready_limit
        failed = await self._asked_in_order(plan, running, deadline)
        if failed is not None and failed.reason is Reason.SERVICE_UNHEALTHY:
            failed = await self._recovered(plan, running, failed)
        if failed is not None:
            await self._note_tail(plan.change.name)
            raise GateFailed(await self.judged(plan.change.name, failed))

    async def _asked_in_order(self, plan: Plan, running: Running, deadline: float) -> Failed | None:
        """The first probe that does not pass before the deadline, which all of them share."""
        for probe in self.probes.readiness(plan.change.name, running):
            left = max(deadline - self.run.clock.monotonic(), ROOM)
            # How long one attempt may take is the probe's own affair: the manifest sets it.
            patience = Patience(left, attempt=left)
            finding = await self.run.wait_for(probe, patience, ending=self._endings[plan.change.name])
            if finding.failure is not None:
                return finding.failure
        return None

    async def _recovered(self, plan: Plan, running: Running, failed: Failed) -> Failed | None:
        """The one recovery attempt: its statistics, the order, and the same questions again."""
        recovery = self.probes.recovery(plan.change.name)
        if recovery is None:
            return failed
        stats = await recovery.stats(plan.recover_limit)
        self.run.tell(Intended("recover", plan.change.name))
        order = await recovery.act(plan.recover_limit)
        self.run.tell(Effected("recover", plan.change.name, {"said": order.said}))
        again = await self._asked_again(plan, running, failed, order)
        result = "ready after it" if again is None else "no help"
        self.run.note("recovery", {"stats": stats, "attempted": True, "result": f"{order.said}; {result}"})
        return None if again is None else again.because(f"one recovery was attempted: {order.said}")

    async def _asked_again(self, plan: Plan, running: Running, failed: Failed, order: Ordered) -> Failed | None:
        """A service that has refused to recover will not be better in a while."""
        if not order.taken:
            return failed
        return await self._asked_in_order(plan, running, self.run.clock.monotonic() + plan.recover_limit)

    async def _note_tail(self, name: str) -> None:
        self.run.note("log_tail", {name: list(await self.keepers[name].tail(20))})

    async def _watch_stable(self, plan: Plan, running: Running) -> None:
        check = Stays(plan.change.name, self.probes.readiness(plan.change.name, running))
        total = plan.stable + SETTLING
        patience = Patience(total, attempt=total, lasting=plan.stable, ceiling=0.5)
        finding = await self.run.wait_for(check, patience, ending=self._endings[plan.change.name])
        if finding.failure is not None:
            await self._note_tail(plan.change.name)
            raise GateFailed(finding.failure)


async def _ended(tasks: Collection[Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _first_failure(tasks: Collection[Task]) -> Failed | None:
    """The failure of the first task that failed; an error that is none of a gate's is raised, a cancellation too."""
    for task in tasks:
        if task.done() and (error := task.exception()) is not None:
            if isinstance(error, GateFailed):
                return error.failed
            raise error
    return None


async def _unbroken(order: Coroutine[Any, Any, T]) -> T:
    """An order to a keeper is not cut short by a cancellation: the way back must find what it has done."""
    task = asyncio.ensure_future(order)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _not_started_anew(name: str, before: Running) -> CommandFailed:
    return CommandFailed(
        f"{name} was to be started anew, and the process that ran before still runs",
        code="SERVICE_KEEPER_FAILED",
        evidence=[f"pid {before.pid}, since {before.since}"],
        next_steps=[f"end it, then bring it up again: flawless stop {name} && flawless deploy"],
    )


def _not_brought_back(name: str) -> CommandFailed:
    return CommandFailed(
        f"{name} is DOWN now: what ran before could not be started again",
        code=Reason.DEPLOY_ROLLBACK_FAILED,
        evidence=[f"nothing runs as {name} now"],
        next_steps=[f"see what it printed: flawless logs {name} -n 50", "bring it up again: flawless deploy"],
    )


def _sentence(plan: Plan) -> str:
    if plan.change.action is ChangeAction.REPLACE:
        return f"{plan.change.name} runs again as it did before this deploy (with the code that is on disk now)"
    return f"{plan.change.name} is stopped, as before this deploy"
