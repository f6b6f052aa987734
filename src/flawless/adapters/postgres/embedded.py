"""The embedded database of a project: bring it up, say where it is, take it down."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
from filelock import AsyncFileLock, Timeout

from flawless.adapters.postgres import place
from flawless.adapters.postgres.account import account_for, keep_owner
from flawless.adapters.postgres.binaries import make_public, ready_server
from flawless.adapters.postgres.cluster import Cluster, clear_unfinished, rooms_in, set_aside, tail
from flawless.adapters.postgres.failure import explained, failed
from flawless.adapters.postgres.port import choose_port, port_is_free
from flawless.adapters.postgres.postmaster import Postmaster, ended, is_alive, launch, send
from flawless.adapters.postgres.session import answers
from flawless.adapters.postgres.state import State, StateFile
from flawless.core.secret import Secret

PORT_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of the server without asking it. `since` is in UTC; `version` is the one last started."""

    running: bool
    pid: int | None
    port: int | None
    version: str | None
    data_directory: Path | None
    since: datetime | None


class EmbeddedPostgres:
    """A PostgreSQL server that belongs to the state folder `folder` and serves the database named `database`.

    It is nobody's child and survives whoever started it. The data lies in `<folder>/<major>`; for root, whom PostgreSQL
    refuses to run as, in `<system_folder>/data/<hash of folder>/<major>`, because another user may
    not enter a 0700 folder. All timeouts are seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: str,
        system_folder: Path | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 15.0,
        lock_timeout: float = 120.0,
    ) -> None:
        self._folder = folder.resolve()
        self._database = database
        self._system_folder = system_folder or place.SYSTEM_FOLDER
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._lock_timeout = lock_timeout
        self._state_file = StateFile(self._folder)

    async def ensure_running(self) -> str:
        """Start the server unless it runs; its postgresql:// URL, password included, once it answers `SELECT 1`.

        Safe to call from many processes at once. Raises CommandFailed with one of the codes
        TOOL_MISSING, DB_EMBEDDED_FAILED, DB_EMBEDDED_VERSION.
        """
        if sys.platform == "win32":
            raise failed(
                "the embedded database does not run on Windows yet",
                next_steps=['use a PostgreSQL of your own: in flawless.toml, [database] url = "${DATABASE_URL:?}"'],
            )
        with explained("starting the embedded database"):
            state = await self._serving()
            if state is None:
                async with self._locked():
                    state = await self._serving() or await self._bring_up()
            return state.url(self._database)

    async def stop(self) -> bool:
        """Stop the server and wait for its end; False when it was not running. Raises CommandFailed."""
        with explained("stopping the embedded database"):
            if not self._folder.is_dir():
                return False
            async with self._locked():
                postmaster = self._postmaster()
                if postmaster is None:
                    return False
                process = postmaster.process()
                if process is not None:
                    await self._stop(process)
                await postmaster.clear()
                return process is not None

    def url(self) -> Secret | None:
        """The URL the server was last started with, whether it runs or not; None when it never was."""
        with explained("reading the embedded database's state"):
            state = self._state_file.load()
        return Secret(state.url(self._database)) if state else None

    def status(self) -> ServerStatus:
        with explained("reading the embedded database's state"):
            state = self._state_file.load()
            process = Postmaster(state.data).process() if state else None
        if state is None:
            return ServerStatus(running=False, pid=None, port=None, version=None, data_directory=None, since=None)
        return ServerStatus(
            running=process is not None,
            pid=process.pid if process else None,
            port=state.port,
            version=state.version,
            data_directory=state.data,
            since=datetime.fromtimestamp(process.create_time(), UTC) if process else None,
        )

    def homes(self) -> list[Path]:
        """Every folder that holds a cluster of this project, whoever started it there."""
        state = self._state_file.load()
        places = [self._home(state), self._home(None), self._folder]
        return [home for home in dict.fromkeys(places) if place.clusters_in(home) or rooms_in(home)]

    async def remove(self) -> None:
        """Remove the project's clusters, wherever they lie, and all that is remembered of them; the lock stays.

        Raises CommandFailed while the server runs.
        """
        with explained("removing the embedded database"):
            if not self._folder.is_dir() and not self.homes():
                return
            async with self._locked():
                for home in self.homes():
                    await self._remove(home)
                for name in ("state.json", "start.log"):
                    (self._folder / name).unlink(missing_ok=True)

    async def _remove(self, home: Path) -> None:
        if pid := place.server_of(home):
            raise failed(
                "the embedded database runs", evidence=[f"pid {pid}, in {home}"], next_steps=["flawless db stop"]
            )
        for data in place.clusters_in(home):
            await Postmaster(data).clear()
            set_aside(data)
        await clear_unfinished(home)
        # All of it; in the project's own folder that is what could not be removed just now, and the server's log.
        rest = [home] if home != self._folder else [*rooms_in(home), *place.logs_in(home)]
        for folder in rest:
            await asyncio.to_thread(shutil.rmtree, folder)

    async def _serving(self) -> State | None:
        """The state, when the server already runs and answers."""
        state = self._state_file.load()
        if state is None:
            return None
        postmaster = Postmaster(state.data)
        process = postmaster.process()
        ready = process is not None and postmaster.is_ready(process)
        return state if ready and await self._answers(state, limit=1.0) else None

    async def _answers(self, state: State, *, limit: float) -> bool:
        return await answers(state, self._database, limit=limit, state_file=self._state_file.path)

    async def _bring_up(self) -> State:
        state = self._state_file.load()
        home = self._home(state)
        account = account_for(self._existing_data(home))
        cluster = Cluster(home, await ready_server(account, self._system_folder), account)
        postmaster = Postmaster(cluster.data)
        process = postmaster.process()
        recorded = postmaster.pid_file()
        if process and state and recorded and recorded.status != "stopping" and recorded.port == state.port:
            if await self._await_ready(process, postmaster, state):
                return state
        elif process:
            await self._stop(process)
        await postmaster.clear()
        state = await self._ensure_cluster(cluster, state)
        return await self._start(cluster, replace(state, version=cluster.server.version))

    def _home(self, state: State | None) -> Path:
        """Where the clusters of this project are: where they were, else where they belong."""
        if state is not None:
            return state.data.parent
        if os.geteuid() != 0 or place.clusters_in(self._folder):
            return self._folder
        return place.home_of(self._folder, self._system_folder)

    def _existing_data(self, home: Path) -> Path:
        return next(iter(place.clusters_in(home)), home / "none")

    def _postmaster(self) -> Postmaster | None:
        """The server as the state knows it, or, when the state is lost, as the data directory does."""
        state = self._state_file.load()
        data = state.data if state else self._existing_data(self._home(None))
        return Postmaster(data) if data.is_dir() else None

    async def _ensure_cluster(self, cluster: Cluster, state: State | None) -> State:
        if cluster.home != self._folder:
            for folder in (*reversed(cluster.home.parents), cluster.home):
                make_public(folder)
            place.note_project(cluster.home, self._folder)
        await clear_unfinished(cluster.home)
        known = cluster.exists()
        if known and state is not None:
            return state
        password = Secret(secrets.token_urlsafe(24))
        await (cluster.set_password(password) if known else cluster.create(password))
        return State(cluster.data, password, port=choose_port(state.port if state else None), version="")

    async def _start(self, cluster: Cluster, state: State) -> State:
        cluster.prepare_log()
        postmaster = Postmaster(cluster.data)
        early = self._folder / "start.log"
        for _ in range(PORT_ATTEMPTS):
            state = replace(state, port=choose_port(state.port))
            self._state_file.save(state)
            with early.open("wb") as errors:
                early.chmod(0o600)
                keep_owner(early)
                process = await launch(cluster.start_command(state.port), account=cluster.account, errors=errors)
            if process and await self._await_ready(process, postmaster, state):
                return state
            if port_is_free(state.port):
                break
        raise failed(
            "the embedded PostgreSQL ended before it was ready",
            evidence=[*tail(early, 10), *cluster.log_tail()],
            next_steps=[f"read its log: ls {shlex.quote(str(cluster.log))}", "then try again: flawless db start"],
        )

    async def _await_ready(self, process: psutil.Process, postmaster: Postmaster, state: State) -> bool:
        """Wait until the server answers; False when it ended first.

        PostgreSQL says that it is ready by a line in a file, so this asks every 10 ms. It is the one exception to
        the rule that only the gate waits: gates ask the database that this brings up.
        """
        try:
            async with asyncio.timeout(self._start_timeout):
                while is_alive(process):
                    if postmaster.is_ready(process) and await self._answers(state, limit=self._start_timeout):
                        return True
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise failed(
                f"the embedded PostgreSQL (pid {process.pid}) did not answer within {self._start_timeout:.0f} s",
                evidence=tail(self._folder / "start.log", 10),
                next_steps=["it may still be replaying its log after a crash; try again: flawless db start"],
            ) from error
        return False

    async def _stop(self, process: psutil.Process) -> None:
        """Fast shutdown, then immediate shutdown; never SIGKILL."""
        for order, timeout in ((signal.SIGINT, self._stop_timeout), (signal.SIGQUIT, 10.0)):
            send(process, order)
            if await ended(process, timeout):
                return
        raise failed(
            f"the embedded PostgreSQL (pid {process.pid}) did not end",
            evidence=[f"SIGINT and SIGQUIT were sent; its state is {process.status()}"],
            next_steps=[f"see what it waits for: ps -o pid,stat,wchan,args -p {process.pid}"],
        )

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Start and stop one at a time; a killed holder's lock is free at once."""
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        holder = self._folder / "lock.holder"
        lock = AsyncFileLock(self._folder / "lock", timeout=self._lock_timeout, mode=0o600, poll_interval=0.02)
        try:
            await lock.acquire()
        except Timeout as error:
            raise failed(
                "another command is starting or stopping the embedded database",
                evidence=[f"the lock has been held for {self._lock_timeout:.0f} s by {' '.join(tail(holder, 1))}"],
                next_steps=["wait for that command, or end it, then try again"],
            ) from error
        try:
            holder.touch(mode=0o600)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder.write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="utf-8")
            for path in (holder, Path(lock.lock_file)):
                keep_owner(path)
            yield
        finally:
            await lock.release()
