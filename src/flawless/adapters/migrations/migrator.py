"""Applies migrations with any tool: under our own lock, watched, within the limit, and looked at again afterwards.

The way of `apply`: refuse what destroys, take the lock, look; when something is pending write down what is there, run
the tool (again while a lock is in its way), look again. An exit code 0 alone is no proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from flawless.adapters.commands import Completed, run
from flawless.adapters.migrations.failure import (
    TAIL,
    dirty,
    ended_badly,
    for_embedded,
    locked,
    lost,
    timed_out,
    unproved,
)
from flawless.adapters.migrations.record import Attempt, Record
from flawless.adapters.migrations.refusal import refusal
from flawless.adapters.migrations.session import Session, opened
from flawless.adapters.migrations.tool import Runner, Tool
from flawless.adapters.migrations.watch import EVERY, Watch
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.clock import Clock
from flawless.core.errors import CommandFailed
from flawless.core.gate import GRACE, Patience, Waiting, gate
from flawless.core.migration import Applied, Pending, Target
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor

LOCK_TIMEOUT = 1.0
"""Seconds a statement of the tool may wait for a lock, and so delay those who queue behind it."""

_RESERVE = 1.5
"""Seconds kept back from the limit for ending a tool that overruns, and its sessions."""

_LOCK_WORDS = ("canceling statement due to lock timeout", "LockNotAvailable", "55P03")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the tool runs: its directory, its environment but for the database, our state folder, our redactor.

    `embedded`: the database is our own.
    """

    directory: Path
    environment: Mapping[str, str] = field(repr=False)
    state: Path
    redactor: Redactor
    clock: Clock
    lock_timeout: float = LOCK_TIMEOUT
    embedded: bool = False


Answer = TypeVar("Answer")


class Migrator:
    """`Migrations` of core, for one tool."""

    def __init__(self, tool: Tool, surroundings: Surroundings) -> None:
        self._tool = tool
        self._surroundings = surroundings

    async def pending(self, target: Target, *, limit: float) -> Pending | Failed:
        """Looks; changes nothing."""
        refused = refusal(self._tool.apply)
        if refused is not None:
            return refused
        run = _Run(self._tool, self._surroundings, target, limit)
        return self._told(await _explained(run.look))

    async def apply(
        self, target: Target, *, limit: float, on_wait: Callable[[Waiting], None] = lambda _: None
    ) -> Applied | Failed:
        """Applies what is pending. Takes at most `limit` seconds, and a second to tidy up."""
        refused = refusal(self._tool.apply)
        if refused is not None:
            return refused
        run = _Run(self._tool, self._surroundings, target, limit, on_wait)
        return self._told(await _explained(run.apply))

    def _told(self, answer: Answer | Failed) -> Answer | Failed:
        return for_embedded(answer) if isinstance(answer, Failed) and self._surroundings.embedded else answer


async def _explained(question: Callable[[], Awaitable[Answer | Failed]]) -> Answer | Failed:
    """What goes wrong between us and the database or the tool, as a failure."""
    import asyncpg

    try:
        return await question()
    except CommandFailed as error:
        return Failed(Reason(error.code), error.cause, error.evidence, error.next_steps)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return lost(error)


class _Run:
    """One look, or one application, at one database."""

    def __init__(
        self,
        tool: Tool,
        surroundings: Surroundings,
        target: Target,
        limit: float,
        on_wait: Callable[[Waiting], None] = lambda _: None,
    ) -> None:
        self._tool = tool
        self._around = surroundings
        self._target = target
        self._limit = limit
        self._on_wait = on_wait
        self._clock = surroundings.clock
        self._started = self._clock.monotonic()
        self._redactor = surroundings.redactor.including([target.url.reveal()])
        self._application = f"flawless migrate {target.deploy_id}"
        self._runner = Runner(surroundings.directory, self._environment(), self._redactor)

    async def look(self) -> Pending | Failed:
        async with self._opened() as session:
            return await self._tool.look(session, self._runner, limit=self._remaining())

    async def apply(self) -> Applied | Failed:
        async with self._opened() as session:
            lock = await self._settled(_LockTaken(session))
            if isinstance(lock, Failed):
                return lock
            before = await self._tool.look(session, self._runner, limit=self._remaining())
            if isinstance(before, Failed):
                return before
            if self._tool.knows_pending and not before.pending:
                return Applied((), 0, self._elapsed())
            return await self._apply_pending(session, before)

    async def _apply_pending(self, session: Session, before: Pending) -> Applied | Failed:
        record = Record(self._around.state)
        objects = tuple(sorted(await session.objects()))
        first = record.begin(Attempt(self._target.deploy_id, await session.database(), before.pending, objects))
        attempt = _ToolSucceeds(self._tool, self._runner, session, self._application, self._around)
        try:
            outcome = await self._settled(attempt)
        except asyncio.CancelledError:
            if not first.left_behind(await session.objects()):
                record.end()
            raise
        if isinstance(outcome, Failed):
            return await self._judged(session, outcome, first, record)
        return await self._verified(session, before, attempt, record)

    async def _verified(
        self, session: Session, before: Pending, attempt: _ToolSucceeds, record: Record
    ) -> Applied | Failed:
        after = await self._tool.look(session, self._runner, limit=max(self._remaining(), _RESERVE))
        if isinstance(after, Failed):
            return after
        if after.pending:
            return unproved(after, attempt.tail, self._runner.command(self._tool.apply))
        record.end()
        done = tuple(name for name in after.applied if name not in before.applied) or before.pending
        return Applied(done, attempt.attempts, self._elapsed(), attempt.tail)

    async def _judged(self, session: Session, failure: Failed, first: Attempt, record: Record) -> Failed:
        """The same failure, or MIGRATE_DIRTY when something of an unfinished revision is there for good."""
        after = await self._tool.look(session, self._runner, limit=_RESERVE)
        if isinstance(after, Failed):
            return failure.because(f"what is pending now is not known: {after.cause}")
        pending = [f"still pending: {', '.join(after.pending)}"] if after.pending else []
        left = first.left_behind(await session.objects())
        if left and pending and after.pending == first.pending:
            return dirty(failure, first, left, self._runner.command(self._tool.apply))
        record.end()
        return failure.because(*pending)

    async def _settled(self, check: _LockTaken | _ToolSucceeds) -> Outcome:
        remaining = max(self._remaining(), 0.001)
        patience = Patience(total=remaining, attempt=remaining, interval=0.1, ceiling=0.5)
        return (await gate(check, patience, clock=self._clock, on_wait=self._on_wait)).outcome

    def _opened(self) -> AbstractAsyncContextManager[Session]:
        application = f"flawless deploy {self._target.deploy_id}"
        return opened(self._target.url, application, self._redactor, limit=self._limit)

    def _environment(self) -> dict[str, str]:
        """PGOPTIONS and PGAPPNAME are obeyed by libpq and whoever follows it; for the others there is the watch."""
        environment = dict(self._around.environment)
        milliseconds = (
            f"-c lock_timeout={self._around.lock_timeout * 1000:.0f} -c statement_timeout={self._limit * 1000:.0f}"
        )
        options = f"{environment.get('PGOPTIONS', '')} {milliseconds}".strip()
        ours = {"DATABASE_URL": self._target.url.reveal(), "PGOPTIONS": options, "PGAPPNAME": self._application}
        return {"PYTHONUNBUFFERED": "1"} | environment | ours

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._started

    def _remaining(self) -> float:
        return self._limit - self._elapsed()


class _LockTaken:
    """Asks for our advisory lock once."""

    id = "migrations.lock"
    claim = "no other deploy is applying migrations"
    optional = False

    def __init__(self, session: Session) -> None:
        self._session = session

    async def ask(self, limit: float) -> Outcome:
        async with asyncio.timeout(limit + GRACE / 2):
            if await self._session.try_lock():
                return Passed()
            holders = await self._session.lock_holders()
        return locked("another deploy holds the migration lock of this database", holders)


class _ToolSucceeds:
    """Runs the tool once, watched."""

    id = "migrations.apply"
    claim = "the migration tool applies what is pending"
    optional = False

    def __init__(
        self, tool: Tool, runner: Runner, session: Session, application: str, surroundings: Surroundings
    ) -> None:
        self.attempts = 0
        self.tail: tuple[str, ...] = ()
        self._locked: Failed | None = None
        self._tool = tool
        self._runner = runner
        self._session = session
        self._application = application
        self._around = surroundings

    async def ask(self, limit: float) -> Outcome:
        if self._locked is not None and limit < self._around.lock_timeout + _RESERVE:
            # Too little time is left for another attempt to end differently.
            return replace(self._locked, permanent=True)
        self.attempts += 1
        watch = Watch(
            self._session, self._application, lock_timeout=self._around.lock_timeout, clock=self._around.clock
        )
        completed = await self._watched(watch, max(limit - _RESERVE, limit / 2))
        self.tail = completed.output_tail
        if completed.succeeded:
            return Passed(completed.output_tail)
        return self._failed(completed, watch)

    async def _watched(self, watch: Watch, limit: float) -> Completed:
        def started(pid: int) -> None:
            watch.root = pid

        command = self._runner.command(self._tool.apply)
        running = asyncio.create_task(run(command, limit=limit, redactor=self._runner.redactor, on_start=started))
        try:
            while not running.done():
                await watch.look()
                await asyncio.wait({running}, timeout=EVERY)
            return await running
        finally:
            await _ended(running)
            await watch.end_sessions()

    def _failed(self, completed: Completed, watch: Watch) -> Failed:
        tail = completed.output_tail[-TAIL:]
        command = self._runner.command(self._tool.apply)
        if completed.timed_out and self._locked is not None:
            return self._locked
        if completed.timed_out:
            return timed_out(self._tool.name, completed, watch.blockers, command)
        if watch.saw_lock_timeout or any(word in line for line in tail for word in _LOCK_WORDS):
            longer = f"longer than {self._around.lock_timeout:g} s, {self.attempts} times"
            cause = f"a lock kept {self._tool.name} waiting {longer}"
            self._locked = locked(cause, watch.blockers, tail)
            return self._locked
        return ended_badly(self._tool.name, completed, command)


async def _ended(running: asyncio.Task[Completed]) -> None:
    """Nothing of the tool is left when this returns; what it raised is its awaiter's."""
    running.cancel()
    await asyncio.wait({running})
