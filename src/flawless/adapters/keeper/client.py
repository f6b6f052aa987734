"""Speaks to keepers: starts one, finds the one that lives, gives it orders. The rest of Flawless meets keepers here."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from flawless.adapters.files import ensure_private_folder
from flawless.adapters.keeper.endpoint import address
from flawless.adapters.keeper.program import ERRORS
from flawless.adapters.keeper.record import Record
from flawless.adapters.keeper.spec import KeeperSpec, SpecInvalid, from_line, to_line
from flawless.adapters.keeper.tree import ProcessId, open_pidfd
from flawless.core.errors import CommandFailed

START_TIMEOUT: Final = 10.0
ANSWER_TIMEOUT: Final = 5.0
"""Seconds for an order that ends no process; the others get the service's stop_timeout on top."""
_LONGEST_ANSWER: Final = 16_777_216
_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_CODE: Final = "SERVICE_KEEPER_FAILED"
_PASSED_ON: Final = ("PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The keeper's own environment; the service's comes with its spec."""


class Newcomer:
    """A keeper that has been started and waits for its first order. It ends by itself when we do, and keeps nothing."""

    def __init__(self, run_folder: Path) -> None:
        self._process, self._ours = _launch(run_folder)

    @property
    def is_waiting(self) -> bool:
        """Whether it can still be given an order."""
        return self._process.poll() is None

    async def told(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its answer to the first order, from which on it is nobody's child; None when it ended instead."""
        try:
            reader, writer = await asyncio.open_connection(sock=self._ours, limit=_LONGEST_ANSWER)
            async with _closing(writer):
                return await _exchange(reader, writer, message)
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """No order comes any more. On return what we started has ended; a keeper that was given its order lives on."""
        self._ours.close()
        self._process.wait()


class Keeper:
    """One service's keeper. Each order is a connection of its own, so any number may be under way at once.

    Every method raises CommandFailed when the keeper refuses, is gone, or does not answer in time.
    """

    def __init__(self, run_folder: Path, record: Record) -> None:
        self.run_folder = run_folder
        self.record = record
        """As it was in the last answer."""

    @classmethod
    async def spawn(cls, spec: KeeperSpec, newcomer: Newcomer | None = None) -> Self:
        """Start a keeper, or take the one that waits, and the service in it. Returns when the process runs or could
        not be executed: then the record's `child` is None and `last_exit` and `reason` say why. An orphan of an
        earlier keeper is adopted when its fingerprint is the same and replaced when it is not.
        """
        message = {"order": "start", "spec": spec.to_json()}
        return await cls._begin(Path(spec.run_folder), message, spec.stop_timeout, newcomer)

    @classmethod
    async def adopt(cls, run_folder: Path, spec: KeeperSpec | None) -> Self:
        """Start a keeper for a service whose own was killed. Without a spec it can be started again only as far as the
        process itself tells how it was started.

        Raise CommandFailed when nothing of it runs any more; what was left of its tree is then gone.
        """
        message = {"order": "adopt", "spec": spec and spec.to_json()}
        return await cls._begin(run_folder, message, spec.stop_timeout if spec else 15.0)

    @classmethod
    async def connect(cls, run_folder: Path) -> Self | None:
        """The keeper that lives; None when there is none."""
        try:
            reader, writer = await _connect(run_folder)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise _unreachable(run_folder.name, "status", error) from None
        service = run_folder.name
        async with _closing(writer), _time_limit(service, "status", ANSWER_TIMEOUT):
            answer = await _exchange(reader, writer, {"order": "status"})
        return cls(run_folder, _record(service, "status", answer)) if answer else None

    async def status(self) -> Record:
        """The present record, from the keeper itself."""
        return await self._order("status")

    async def start(self, spec: KeeperSpec) -> Record:
        """Start it where it does not run. One that runs from the same fingerprint is left alone; another is refused."""
        return await self._order("start", wait=spec.stop_timeout, spec=spec.to_json())

    async def replace(self, spec: KeeperSpec) -> Record:
        """Stop what runs, keep how it was started, start this."""
        return await self._order("replace", wait=self.record.stop_timeout, spec=spec.to_json())

    async def revert(self) -> Record:
        """Stop what runs and start what ran before `replace` as it was; nothing, when nothing did."""
        return await self._order("revert", wait=self.record.stop_timeout)

    async def remember(self, spec: KeeperSpec) -> Record:
        """From now on it is kept and started as this says; what runs is left alone."""
        return await self._order("adopt", spec=spec.to_json())

    async def commit(self) -> Record:
        """The verdict is yes: forget what ran before, and respawn after a crash from now on. A dead one is refused."""
        return await self._order("commit")

    async def disarm(self) -> Record:
        """No respawn until the next commit."""
        return await self._order("disarm")

    async def restart(self) -> Record:
        """Stop it and start it from the same spec."""
        return await self._order("restart", wait=self.record.stop_timeout)

    async def hold(self, reason: str | None = None) -> Record:
        """Stop it and stay, until `resume`."""
        return await self._order("hold", wait=self.record.stop_timeout, reason=reason)

    async def resume(self) -> Record:
        """Start what was held; what runs is left alone."""
        return await self._order("resume", wait=self.record.stop_timeout)

    async def stop(self) -> Record:
        """Stop the whole tree and the keeper; on return neither is left."""
        stopped = await self._order("stop", wait=self.record.stop_timeout)
        async with _time_limit(self._service, "stop", ANSWER_TIMEOUT):
            await _end_of(stopped.keeper)
        return stopped

    async def ready(self, *, value: bool, reason: str | None = None, pid: int | None = None) -> Record:
        """Tell what a gate or a probe found. With `pid`, refused when that process was replaced meanwhile."""
        return await self._order("ready", value=value, reason=reason, pid=pid)

    async def tail(self, count: int = 50) -> list[str]:
        """The last lines it printed, at most 50, redacted; control characters are still in them."""
        answer = await self._ask("tail", ANSWER_TIMEOUT, {"n": count})
        return [str(line) for line in answer["lines"]]

    async def watch(self) -> AsyncGenerator[Record, None]:
        """The present record, then every change, until the keeper ends. Leave early through `contextlib.aclosing`."""
        try:
            reader, writer = await _connect(self.run_folder)
        except OSError as error:
            raise _unreachable(self._service, "watch", error) from None
        async with _closing(writer):
            writer.write(to_line({"order": "watch"}))
            with contextlib.suppress(ConnectionError):  # the keeper ended: so does what there is to see
                while line := await reader.readline():
                    self.record = _record(self._service, "watch", from_line(line))
                    yield self.record

    @property
    def _service(self) -> str:
        return self.record.service

    async def _order(self, order: str, *, wait: float = 0.0, **details: Any) -> Record:
        answer = await self._ask(order, ANSWER_TIMEOUT + wait, details)
        self.record = _record(self._service, order, answer)
        return self.record

    async def _ask(self, order: str, limit: float, details: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with _time_limit(self._service, order, limit):
                reader, writer = await _connect(self.run_folder)
                async with _closing(writer):
                    answer = await _exchange(reader, writer, {"order": order, **details})
        except OSError as error:
            raise _unreachable(self._service, order, error) from None
        return _checked(self._service, order, answer)

    @classmethod
    async def _begin(
        cls, run_folder: Path, message: Mapping[str, Any], wait: float, newcomer: Newcomer | None = None
    ) -> Self:
        service, order = run_folder.name, str(message["order"])
        try:
            ensure_private_folder(run_folder)
            new = _one_that_waits(newcomer, run_folder)
        except OSError as error:
            raise _unreachable(service, order, error) from None
        async with _time_limit(service, order, START_TIMEOUT + wait):
            answer = await new.told(message)
        if not answer:
            raise _failure(service, order, "the keeper ended before it answered", _last_words(run_folder))
        return cls(run_folder, _record(service, order, answer))


def _one_that_waits(newcomer: Newcomer | None, run_folder: Path) -> Newcomer:
    """Another, where it has ended meanwhile."""
    if newcomer and newcomer.is_waiting:
        return newcomer
    if newcomer:
        newcomer.dismiss()
    return Newcomer(run_folder)


def told_by_keeper(run_folder: Path) -> Record | None:
    """What a living keeper says, asked without an event loop; None when none answers within a second."""
    try:
        with address(str(run_folder)) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(path)
            connection.sendall(to_line({"order": "status"}))
            with connection.makefile("rb") as lines:
                return _record(run_folder.name, "status", from_line(lines.readline()))
    except (OSError, SpecInvalid, CommandFailed):
        return None


def _launch(run_folder: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process far from our terminal, our folder and our other descriptors, and what it is spoken to through."""
    root = Path(__file__).resolve().parents[3]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\nfrom flawless.adapters.keeper.program import main; main()"
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, str(run_folder)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    return process, ours


async def _connect(run_folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with address(str(run_folder)) as path:
        return await asyncio.open_unix_connection(path, limit=_LONGEST_ANSWER)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Mapping[str, Any]
) -> dict[str, Any] | None:
    """One question, one answer; None when the keeper ended instead."""
    try:
        writer.write(to_line(message))
        line = await reader.readline()
    except ConnectionError:
        return None
    return from_line(line) if line else None


async def _end_of(process: ProcessId) -> None:
    """Wait until it is no more; at once where the system has no pidfd to wait on."""
    pidfd = open_pidfd(process)
    if pidfd is None:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def _time_limit(service: str, order: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise _failure(service, order, f"its keeper did not answer within {seconds:g} s") from None


def _checked(service: str, order: str, answer: dict[str, Any] | None) -> dict[str, Any]:
    if answer is None:
        raise _failure(service, order, "its keeper ended before it answered")
    if not answer.get("ok"):
        raise _failure(service, order, str(answer.get("error")))
    return answer


def _record(service: str, order: str, answer: dict[str, Any] | None) -> Record:
    return Record.from_json(_checked(service, order, answer)["record"])


def _failure(service: str, order: str, why: str, evidence: tuple[str, ...] = ()) -> CommandFailed:
    return CommandFailed(
        f"{service}: {order} did not work: {why}",
        code=_CODE,
        evidence=evidence,
        next_steps=["see what runs: flawless status", f"then: flawless restart {service}"],
    )


def _unreachable(service: str, order: str, error: OSError) -> CommandFailed:
    """That we have no descriptor or memory left is never the keeper's fault, nor its service's."""
    why = error.strerror or str(error)
    if error.errno not in _LIMITS:
        return _failure(service, order, f"no keeper answers: {why}")
    return CommandFailed(
        f"this machine has nothing left to reach the keeper of {service} with: {why}",
        code="HOST_LIMITS",
        evidence=[f"errno {errno.errorcode[error.errno]} at the order {order}"],
        next_steps=["raise the limit: ulimit -n 4096", "then: flawless deploy"],
    )


def _last_words(run_folder: Path) -> tuple[str, ...]:
    try:
        return tuple((run_folder / ERRORS).read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
    except OSError:
        return ()
