"""A service in the hands of its keeper, as the use cases see it (core.service.Keeper)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path

from flawless.adapters.keeper import record as records
from flawless.adapters.keeper.client import Keeper as Client
from flawless.adapters.keeper.client import Newcomer, told_by_keeper
from flawless.adapters.keeper.output import FIFO
from flawless.adapters.keeper.record import PASSING, ExitKind, Record
from flawless.adapters.keeper.spec import KeeperSpec, LogRule, RestartRule
from flawless.adapters.keeper.tree import ProcessId, is_alive, offspring, session_members, writers_to
from flawless.core.clock import to_stamp
from flawless.core.errors import CommandFailed
from flawless.core.service import Exit, Launch, Running, ServiceState


class KeptService:
    """One service of one stack. Connects to its keeper for each order; a keeper that was killed is replaced."""

    def __init__(self, name: str, run_folder: Path, logs: Path) -> None:
        self.name = name
        self._run_folder = run_folder
        self._logs = logs
        self._pid: int | None = None
        self._newcomer: Newcomer | None = None

    def recorded(self) -> Running | None:
        """What the record on disk says, asking nobody: quick, and at most as true as its processes are alive.

        Where it cannot be read its keeper is asked, if one lives.
        """
        record = self._record()
        return self._running(record, keeper_lives=is_alive(record.keeper)) if record else None

    async def look(self) -> Running | None:
        client = await Client.connect(self._run_folder)
        return self._running(client.record, keeper_lives=True) if client else self.recorded()

    async def settled(self, limit: float) -> Running | None:
        """What is there once a process that is being ended, or started again, has been: after `limit` seconds as it is.

        Raises CommandFailed.
        """
        client = await Client.connect(self._run_folder)
        if client is None:
            return self.recorded()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit), aclosing(client.watch()) as records:
                async for record in records:
                    has_died = record.child is not None and not is_alive(record.child)
                    if record.state not in PASSING and not has_died:
                        break
        return self._running(client.record, keeper_lives=True)

    def prepare(self) -> None:
        """Where no keeper lives one is started ahead: it is up when `start` has its first order. `dismiss` ends it."""
        record = self._record()
        if self._newcomer is None and not (record and is_alive(record.keeper)):
            with suppress(OSError):  # whatever is used up: the start that needs it says so
                self._newcomer = Newcomer(self._run_folder)

    def dismiss(self) -> None:
        """Ends a keeper that was started ahead and never given an order."""
        newcomer, self._newcomer = self._newcomer, None
        if newcomer:
            newcomer.dismiss()

    async def start(self, launch: Launch) -> Running:
        client = await Client.connect(self._run_folder)
        spec = self._spec(launch)
        if client is None:
            before = records.read(self._run_folder)
            newcomer, self._newcomer = self._newcomer, None
            client = await Client.spawn(spec, newcomer)
            # A new keeper adopts an orphan of the same fingerprint; who was told to start something is not done then.
            is_new = before is None or before.child is None or client.record.child != before.child
            record = client.record if is_new else await client.replace(spec)
        else:
            record = await (client.replace(spec) if client.record.child else client.start(spec))
        self._pid = record.child.pid if record.child else None
        return self._running(record, keeper_lives=True)

    async def revert(self) -> Running | None:
        client = await Client.connect(self._run_folder)
        if client is None:
            return None
        record = await client.revert()
        if record.child is None:
            await client.stop()
            return None
        self._pid = record.child.pid
        return self._running(record, keeper_lives=True)

    async def adopt(self, launch: Launch) -> Running | None:
        spec = self._spec(launch)
        client = await Client.connect(self._run_folder)
        if client is not None:
            return self._running(await client.remember(spec), keeper_lives=True)
        client = await self._taken_over(spec)
        return self._running(client.record, keeper_lives=True) if client else None

    async def commit(self) -> None:
        await (await self._client()).commit()

    async def stop(self) -> None:
        """Stops the whole tree and the keeper; also what a killed keeper left behind."""
        client = await Client.connect(self._run_folder)
        if client is None and await self.pids():
            client = await self._taken_over(None)
        if client is not None:
            await client.stop()

    async def hold(self) -> None:
        client = await Client.connect(self._run_folder) or await self._taken_over(None)
        await (client or await self._client()).hold()

    async def resume(self) -> Running:
        return self._running(await (await self._client()).resume(), keeper_lives=True)

    async def restart(self) -> Running:
        record = await (await self._client()).restart()
        self._pid = record.child.pid if record.child else None
        return self._running(record, keeper_lives=True)

    async def mark(self, *, ready: bool, reason: str | None = None) -> None:
        await (await self._client()).ready(value=ready, reason=reason, pid=self._pid)

    async def exited(self) -> Exit:
        client = await Client.connect(self._run_folder)
        if client is None:
            return _unknown()
        pid = self._pid or (client.record.child.pid if client.record.child else None)
        async for record in client.watch():
            if record.child is None or record.child.pid != pid:
                return _exit(record) or _unknown()
        return _unknown()

    async def tail(self, lines: int) -> Sequence[str]:
        client = await Client.connect(self._run_folder)
        return await client.tail(lines) if client else ()

    async def pids(self) -> frozenset[int]:
        record = self._record()
        if record is None:
            return frozenset(process.pid for process in self._printing())
        # The keeper is the subreaper of all that it starts; a child it has adopted is no child of its own.
        roots = [process.pid for process in (record.keeper, record.child) if process and is_alive(process)]
        below = {pid for root in roots for pid in offspring(root)}
        left = () if is_alive(record.keeper) else self._left_behind(record)
        return frozenset({*roots, *below, *(process.pid for process in left)} - {record.keeper.pid})

    def _left_behind(self, record: Record) -> list[ProcessId]:
        """What a killed keeper's service still is: its session, and whatever prints where only it could."""
        kin = session_members(record.child.pid) if record.child and is_alive(record.child) else []
        return [*kin, *self._printing()]

    def _printing(self) -> list[ProcessId]:
        """Who prints where only this service can."""
        try:
            return writers_to((self._run_folder / FIFO).stat())
        except FileNotFoundError:
            return []

    def _record(self) -> Record | None:
        return records.read(self._run_folder) or told_by_keeper(self._run_folder)

    async def _taken_over(self, spec: KeeperSpec | None) -> Client | None:
        """A new keeper for what a killed one left; none when the service's own process is gone, as the rest is then."""
        try:
            return await Client.adopt(self._run_folder, spec)
        except CommandFailed:
            if await self.pids():
                raise
            return None

    async def _client(self) -> Client:
        client = await Client.connect(self._run_folder)
        if client is None:
            raise CommandFailed(
                f"the keeper of {self.name} is gone",
                code="SERVICE_KEEPER_FAILED",
                evidence=[f"nobody answers in {self._run_folder}"],
                next_steps=["see what runs: flawless status", "bring it up again: flawless deploy"],
            )
        return client

    def _spec(self, launch: Launch) -> KeeperSpec:
        return KeeperSpec(
            service=launch.name,
            command=launch.command,
            directory=str(launch.directory),
            environment=launch.environment,
            run_folder=str(self._run_folder),
            log=LogRule(str(self._logs), launch.log_max_size, launch.log_keep_days),
            deploy_id=launch.deploy_id,
            redact=tuple(secret.reveal() for secret in launch.secrets),
            fingerprint=dict(launch.fingerprint),
            stop_timeout=launch.stop_timeout,
            port=launch.port,
            restart=RestartRule(launch.delays, launch.limit, launch.within, launch.forget),
        )

    def _running(self, record: Record, *, keeper_lives: bool) -> Running:
        """A record whose process is dead, with nobody to say so, is one of a machine or keeper that went down."""
        alive = record.child is not None and is_alive(record.child)
        gone = not keeper_lives and not alive
        return Running(
            name=self.name,
            state=ServiceState.STOPPED if gone else ServiceState(record.state),
            pid=record.child.pid if record.child and alive else None,
            port=record.port,
            since=_stamp(record.started_at if alive else record.since),
            ready=record.ready and alive,
            deploy_id=record.deploy_id,
            fingerprint=dict(record.fingerprint),
            restarts=record.restarts,
            last_exit=_exit(record),
            keeper_pid=record.keeper.pid if keeper_lives else None,
            reason=record.reason,
            armed=record.armed,
        )


def _exit(record: Record) -> Exit | None:
    if record.last_exit is None:
        return None
    last = record.last_exit
    return Exit(
        status=last.value if last.kind is ExitKind.EXIT else None,
        signal=last.value if last.kind is ExitKind.SIGNAL else None,
        after=last.after_s,
        at=_stamp(last.at) or "",
        out_of_memory=bool(last.oom),
        requested=last.requested,
    )


def _unknown() -> Exit:
    """The keeper went away together with what it knew."""
    return Exit(None, None, 0.0, "")


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else to_stamp(datetime.fromtimestamp(seconds, UTC))
