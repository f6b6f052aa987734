"""The questions about one service: does it listen, is it ours, does it say that it is ready?

`alive` is not proof. A probe passes only when the socket that answers belongs to a process of our service's own tree,
and the deploy id it echoes, if it does, is the one it was started with.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flawless.checks.answer import Wanted, complaints, reasons_of
from flawless.core.answer import Answer, Http
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.port import Listener, Sockets, answering
from flawless.core.reason import Reason
from flawless.core.service import Exit

LISTENING_EVERY: Final = 0.05
"""Seconds between two looks at the socket table while a service boots."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The service that is asked: its address, its processes, the deploy that started it."""

    name: str
    host: str
    port: int | None
    deploy_id: str | None
    pids: Callable[[], Awaitable[frozenset[int]]]
    sockets: Sockets

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def logs(self) -> str:
        """The command that shows what it printed."""
        return f"flawless logs {self.name} -n 50"

    def failed(self, reason: Reason, cause: str, *evidence: str, permanent: bool | None = None, **facts: Any) -> Failed:
        steps = (f"see what it printed: {self.logs}", f"what the code means: flawless explain {reason}")
        return Failed(reason, cause, tuple(evidence) or (cause,), steps, permanent, facts)


async def listening_failure(subject: Subject) -> Failed | None:
    """Why a connection to the service's port would not end at a process of ours; None when it would."""
    try:
        return await _listening_failure(subject)
    except OSError as error:
        return _unreachable(subject, error)


async def _listening_failure(subject: Subject) -> Failed | None:
    assert subject.port is not None
    pids = await subject.pids()
    ends = answering(subject.sockets.listeners(subject.port, pids), subject.host)
    if any(not one.pids & pids for one in ends):
        # A process that we started between the two looks is none of theirs: nobody is accused on the first.
        pids = await subject.pids()
        ends = answering(subject.sockets.listeners(subject.port, pids), subject.host)
    foreign = [one for one in ends if not one.pids & pids]
    if foreign:
        return _foreign(subject, foreign)
    if not ends:
        return _not_listening(subject, subject.sockets.ports_of(pids))
    return None


def _foreign(subject: Subject, foreign: Sequence[Listener]) -> Failed:
    return subject.failed(
        Reason.PORT_STOLEN,
        f"port {subject.port} belongs to another process, not to {subject.name}",
        *(str(one) for one in foreign),
    )


def _not_listening(subject: Subject, elsewhere: Sequence[Listener]) -> Failed:
    places = [f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}" for one in elsewhere]
    found = f"it listens on {', '.join(places)}" if places else "it listens on no port"
    cause = f"{subject.name} runs but does not listen on {subject.netloc}"
    # Looking at the socket table costs a millisecond, and a service is ready soon after it listens.
    return replace(subject.failed(Reason.SERVICE_NOT_LISTENING, cause, found), retry_after=LISTENING_EVERY)


@dataclass(frozen=True, slots=True)
class TcpReady:
    """Claims that the service accepts connections on its port."""

    subject: Subject
    attempt: float = 3.0
    optional: bool = False

    @property
    def id(self) -> str:
        return f"service.listening:{self.subject.name}"

    @property
    def claim(self) -> str:
        return f"{self.subject.name} listens on {self.subject.netloc}"

    async def ask(self, limit: float) -> Outcome:
        failure = await listening_failure(self.subject)
        if failure is not None:
            return failure
        limit = min(limit, self.attempt)
        try:
            async with asyncio.timeout(limit):
                _, writer = await asyncio.open_connection(self.subject.host, self.subject.port)
                writer.close()
        except TimeoutError:
            return _hung(self.subject, "it does not accept a connection", limit)
        except OSError as error:
            return _unreachable(self.subject, error)
        return Passed((f"{self.subject.netloc} accepts connections",))


@dataclass(frozen=True, slots=True)
class HttpReady:
    """Claims that the service answers a path as it should. `tells_health`: its bodies are the report's `health`."""

    subject: Subject
    http: Http
    path: str
    wanted: Wanted
    attempt: float
    tells_health: bool = True
    optional: bool = False

    @property
    def id(self) -> str:
        return f"service.ready:{self.subject.name}{self.path}"

    @property
    def claim(self) -> str:
        return f"{self.subject.name} answers {self.path} as it should"

    async def ask(self, limit: float) -> Outcome:
        failure = await listening_failure(self.subject)
        if failure is not None:
            return failure
        limit = min(limit, self.attempt)
        try:
            answer = await self.http.ask("GET", f"http://{self.subject.netloc}{self.path}", limit=limit)
        except TimeoutError:
            return _hung(self.subject, f"it accepted the request for {self.path} and never answered", limit)
        except OSError as error:
            return _unreachable(self.subject, error)
        except ValueError as error:
            return self._wrong(f"what answers on {self.subject.netloc} does not speak HTTP", str(error))
        return await self._judged(answer)

    async def _judged(self, answer: Answer) -> Outcome:
        """Whose answer it is, then what it says. The owner is asked again: the port may have changed hands."""
        if (failure := await listening_failure(self.subject)) is not None:
            return failure
        if (failure := self._identity_failure(answer)) is not None:
            return failure
        facts = self._facts(answer)
        said = complaints(self.wanted, answer)
        if not said:
            return Passed((f"{answer.status} in {self.path}",), facts=facts)
        if _json(answer) is None:
            said = [*said, answer.describe()]
        reasons = [f"it gives as a reason: {reason}" for reason in reasons_of(_json(answer))]
        return self.subject.failed(
            Reason.SERVICE_UNHEALTHY,
            f"{self.subject.name} says in {self.path} that it is not ready: {'; '.join(said)}",
            answer.describe(),
            *reasons,
            **facts,
        )

    def _identity_failure(self, answer: Answer) -> Failed | None:
        """A body that should be JSON and is not comes from something else; so does another deploy's id.

        An error page of our own process, which has been proved, is only not ready yet.
        """
        if self.wanted.needs_json and _json(answer) is None and answer.status < 400:
            return self._wrong(
                f"{self.path} is answered, but not by {self.subject.name}: JSON was expected", answer.describe()
            )
        echoed = _echoed(answer)
        if echoed is not None and self.subject.deploy_id is not None and echoed != self.subject.deploy_id:
            return self._wrong(
                f"{self.path} is answered by another release",
                f"it was started by deploy {self.subject.deploy_id}, the answer comes from {echoed}",
            )
        service = self.wanted.json.get("service") if isinstance(self.wanted.json, Mapping) else None
        found = _json(answer)
        if service is not None and isinstance(found, Mapping) and found.get("service") not in (None, service):
            return self._wrong(f"{self.path} is answered by another service", f"it calls itself {found['service']!r}")
        return None

    def _wrong(self, cause: str, evidence: str) -> Failed:
        return self.subject.failed(Reason.SERVICE_WRONG_IDENTITY, cause, evidence)

    def _facts(self, answer: Answer) -> dict[str, Any]:
        """The body as it was answered, for the report's `health`."""
        kind = self.path.rpartition("/health/")[2]
        body = _json(answer)
        told = self.tells_health and kind in {"live", "db", "status"} and body is not None
        return {"health": {kind: body}} if told else {}


@dataclass(frozen=True, slots=True)
class StaysAlive:
    """Claims that a worker without a port still runs; that it has ended is the gate's ending, not ours to see."""

    subject: Subject
    optional: bool = False

    @property
    def id(self) -> str:
        return f"service.alive:{self.subject.name}"

    @property
    def claim(self) -> str:
        return f"{self.subject.name} stays alive"

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - the answer comes from the process table, at once
        pids = await self.subject.pids()
        if not pids:
            return self.subject.failed(Reason.SERVICE_EXITED, f"{self.subject.name} does not run", "no process is left")
        return Passed((f"{len(pids)} process{'es' * (len(pids) > 1)}",))


@dataclass(frozen=True, slots=True)
class ExecReady:
    """Claims that a command of the manifest ends with 0."""

    subject: Subject
    run: Callable[[float], Awaitable[tuple[int | None, Sequence[str]]]]
    program: str
    attempt: float
    optional: bool = False

    @property
    def id(self) -> str:
        return f"service.ready:{self.subject.name}:exec"

    @property
    def claim(self) -> str:
        return f"{self.program} says that {self.subject.name} is ready"

    async def ask(self, limit: float) -> Outcome:
        limit = min(limit, self.attempt)
        status, tail = await self.run(limit)
        if status == 0:
            return Passed((f"{self.program} ended with 0",))
        ended = f"ended with {status}" if status is not None else f"did not end within {limit:g} s"
        return self.subject.failed(
            Reason.SERVICE_UNHEALTHY, f"{self.program}, which asks whether {self.subject.name} is ready, {ended}", *tail
        )


@dataclass(frozen=True, slots=True)
class LogReady:
    """Claims that the service has printed a line that matches."""

    subject: Subject
    lines: Callable[[], Awaitable[Sequence[str]]]
    pattern: str
    optional: bool = False

    @property
    def id(self) -> str:
        return f"service.ready:{self.subject.name}:log"

    @property
    def claim(self) -> str:
        return f"{self.subject.name} has printed a line that matches {self.pattern}"

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - the lines are there or not, at once
        expression = re.compile(self.pattern)
        lines = await self.lines()
        found = next((line for line in lines if expression.search(line)), None)
        if found is not None:
            return Passed((found,))
        last = f"its last line: {lines[-1]}" if lines else "it has printed nothing"
        return self.subject.failed(
            Reason.SERVICE_UNHEALTHY, f"{self.subject.name} has printed no line that matches {self.pattern}", last
        )


class Stays:
    """Claims that a service that became ready stays so. A second fall is flapping, and waiting cannot help."""

    optional = False

    def __init__(self, name: str, probes: Sequence[Check]) -> None:
        self.name = name
        self._probes = probes
        self._falls: list[Failed] = []
        self._up = True

    @property
    def id(self) -> str:
        return f"service.stable:{self.name}"

    @property
    def claim(self) -> str:
        return f"{self.name} stays ready"

    async def ask(self, limit: float) -> Outcome:
        """All side by side: one after the other they could take longer than the limit of one."""
        outcomes = await asyncio.gather(*(probe.ask(limit) for probe in self._probes))
        fallen = next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)
        if fallen is not None:
            return self._fell(fallen)
        self._up = True
        return Passed()

    def _fell(self, failed: Failed) -> Failed:
        if self._up:
            self._falls.append(failed)
        self._up = False
        if len(self._falls) < 2:
            return failed
        return Failed(
            Reason.SERVICE_FLAPPING,
            f"{self.name} became ready and fell {len(self._falls)} times within its stability window",
            (*(f"{fall.reason}: {fall.cause}" for fall in self._falls), *failed.evidence),
            failed.next_steps,
        )


async def exit_failure(subject: Subject, exit_: Exit, tail: Sequence[str]) -> Failed:
    """Why a process that exited did so: its status or signal, its last lines, and who holds its port now."""
    last = [f"| {line}" for line in tail[-10:]]
    if subject.port is not None:
        others = answering(subject.sockets.listeners(subject.port), subject.host)
        if others:
            stolen = _foreign(subject, others)
            return stolen.because(f"{subject.name} ended with {exit_}", *last)
    reason = Reason.SERVICE_OOM if exit_.out_of_memory else Reason.SERVICE_EXITED
    said = last or ["it printed nothing"]
    return subject.failed(reason, f"{subject.name} ended with {exit_}", *said, permanent=True)


def _hung(subject: Subject, what: str, limit: float) -> Failed:
    return subject.failed(
        Reason.SERVICE_HUNG, f"{subject.name} hangs: {what}", f"no answer on {subject.netloc} within {limit:.1f} s"
    )


def _unreachable(subject: Subject, error: OSError) -> Failed:
    """Our own want of descriptors or memory is never the service's fault."""
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENOBUFS}:
        return Failed(
            Reason.HOST_LIMITS,
            f"this machine cannot open another connection: {error.strerror}",
            (f"errno {errno.errorcode[error.errno]} while asking {subject.name} on {subject.netloc}",),
            (
                "raise the limit: ulimit -n 4096",
                "see who holds them: lsof | awk '{print $1, $2}' | sort | uniq -c | sort -n",
            ),
        )
    return subject.failed(
        Reason.SERVICE_NOT_LISTENING,
        f"{subject.name} does not take the connection on {subject.netloc}",
        f"{error.strerror or error}",
    )


def _echoed(answer: Answer) -> str | None:
    body = _json(answer)
    if isinstance(body, Mapping) and isinstance(body.get("deployId"), str):
        return str(body["deployId"])
    return answer.headers.get("x-flawless-deploy-id")


def _json(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
