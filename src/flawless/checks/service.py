"""The questions about one service: does it listen, is it ours, does it say that it is ready?

`alive` is not proof. A probe passes only when the socket that answers belongs to a process of our service's own tree,
and the deploy id it echoes, if it does, is the one it was started with.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flawless.checks.answer import Wanted, complaints, deploy_id_of, reasons_of
from flawless.core.answer import Answer, Http
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.fault import CONNECTION_LIMITS
from flawless.core.port import Listener, Sockets, answering
from flawless.core.reason import Reason
from flawless.core.service import Exit

LISTENING_EVERY: Final = 0.02
"""Seconds between two looks at the socket table while a service boots."""

_LOOKED_UP_WITHIN: Final = 2.0
"""Seconds that the look-up of a host's name may take."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The service that is asked: its address, its processes, the deploy that started it."""

    name: str
    host: str
    port: int | None
    deploy_id: str | None
    pids: Callable[[], Awaitable[frozenset[int]]]
    sockets: Sockets
    _addresses: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    async def addresses(self) -> Sequence[str]:
        """The addresses its host stands for, looked up once. Raises OSError when a name cannot be looked up."""
        if not self._addresses:
            self._addresses.extend(await _addresses_of(self.host))
        return self._addresses

    async def reached_at(self) -> str:
        """That of its addresses where somebody listens: not every hosts file knows all that `localhost` may be."""
        addresses = await self.addresses()
        if len(addresses) == 1 or self.port is None:
            return addresses[0]
        listeners = self.sockets.listeners(self.port, await self.pids())
        return next((one for one in addresses if answering(listeners, [one])), addresses[0])

    @property
    def netloc(self) -> str:
        return _netloc(self.host, self.port)

    @property
    def logs(self) -> str:
        """The command that shows what it printed."""
        return f"flawless logs {self.name} -n 50"

    def failed(self, reason: Reason, cause: str, *evidence: str, permanent: bool | None = None, **facts: Any) -> Failed:
        steps = (f"see what it printed: {self.logs}", f"what the code means: flawless explain {reason}")
        return Failed(reason, cause, tuple(evidence) or (cause,), steps, permanent, facts)


def _netloc(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _addresses_of(host: str) -> Sequence[str]:
    if host == "localhost":
        return ("127.0.0.1", "::1")  # whatever the hosts file has: a browser tries both
    with suppress(ValueError):
        return (str(ipaddress.ip_address(host)),)
    async with asyncio.timeout(_LOOKED_UP_WITHIN):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def listening_failure(subject: Subject) -> Failed | None:
    """Why a connection to the service's port would not end at a process of ours; None when it would."""
    try:
        await subject.addresses()
    except OSError as error:
        return _unknown(subject, error)
    try:
        return await _listening_failure(subject)
    except OSError as error:
        return await _unreachable(subject, error)


async def _listening_failure(subject: Subject) -> Failed | None:
    assert subject.port is not None
    addresses = await subject.addresses()
    pids = await subject.pids()
    ends = answering(subject.sockets.listeners(subject.port, pids), addresses)
    if any(not one.pids & pids for one in ends):
        # A process that we started between the two looks is none of theirs: nobody is accused on the first.
        pids = await subject.pids()
        ends = answering(subject.sockets.listeners(subject.port, pids), addresses)
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
    cause = f"{subject.name} runs but does not listen on {subject.netloc}"
    failure = subject.failed(Reason.SERVICE_NOT_LISTENING, cause, _whereabouts(elsewhere))
    # Looking at the socket table costs a millisecond, and a service is ready soon after it listens.
    return replace(failure, retry_after=LISTENING_EVERY)


def _whereabouts(listeners: Sequence[Listener]) -> str:
    places = [_netloc(one.address, one.port) for one in listeners]
    return f"it listens on {', '.join(places)}" if places else "it listens on no port"


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
                _, writer = await asyncio.open_connection(await self.subject.reached_at(), self.subject.port)
                writer.close()
        except TimeoutError:
            return _hung(self.subject, "it does not accept a connection", limit)
        except OSError as error:
            return await _unreachable(self.subject, error)
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
            place = _netloc(await self.subject.reached_at(), self.subject.port)
            headers = {"Host": self.subject.netloc}
            answer = await self.http.ask("GET", f"http://{place}{self.path}", limit=limit, headers=headers)
        except TimeoutError:
            return _hung(self.subject, f"it accepted the request for {self.path} and never answered", limit)
        except ConnectionAbortedError as error:
            return self._unanswered("began to answer and broke off", error)
        except (ConnectionResetError, BrokenPipeError) as error:
            return self._unanswered("took the request and closed the connection without an answer", error)
        except OSError as error:
            return await _unreachable(self.subject, error)
        except ValueError as error:
            return self._outgrown(f"what answers on {self.subject.netloc} does not speak HTTP", str(error))
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
        says = f"says in {self.path} that it is not ready"
        if _json(answer) is None:
            says = f"does not answer {self.path} as it should"
        reasons = [f"it gives as a reason: {reason}" for reason in reasons_of(_json(answer))]
        return self.subject.failed(
            Reason.SERVICE_UNHEALTHY,
            f"{self.subject.name} {says}: {'; '.join(said)}",
            answer.describe(),
            *reasons,
            **facts,
        )

    def _identity_failure(self, answer: Answer) -> Failed | None:
        """Another deploy's id, no JSON where JSON is expected, another service's name.

        An error page of our own process, which has been proved, is only not ready yet.
        """
        echoed = deploy_id_of(answer)
        if echoed is not None and self.subject.deploy_id is not None and echoed != self.subject.deploy_id:
            return self.subject.failed(
                Reason.SERVICE_WRONG_IDENTITY,
                f"{self.path} is answered by another release",
                f"it was started by deploy {self.subject.deploy_id}, the answer comes from {echoed}",
            )
        if self.wanted.needs_json and _json(answer) is None and answer.status < 400:
            name = self.subject.name
            return self._outgrown(f"{self.path} is not answered as {name} should: JSON was expected", answer.describe())
        service = self.wanted.json.get("service") if isinstance(self.wanted.json, Mapping) else None
        found = _json(answer)
        if service is not None and isinstance(found, Mapping) and found.get("service") not in (None, service):
            cause = f"{self.path} is answered in the name of another service"
            return self._outgrown(cause, f"it calls itself {found['service']!r}")
        return None

    def _outgrown(self, cause: str, evidence: str) -> Failed:
        """A wrong answer of our own process: a page that says "starting up" may still give way to the service."""
        whose = f"the process that answers is one of {self.subject.name}'s own"
        return self.subject.failed(Reason.SERVICE_WRONG_IDENTITY, cause, evidence, whose, permanent=False)

    def _unanswered(self, what: str, error: OSError) -> Failed:
        """Also what is seen of a process that ends while it answers: its end is the gate's to tell."""
        return self.subject.failed(
            Reason.SERVICE_HUNG,
            f"{self.subject.name} {what} ({self.path} on {self.subject.netloc})",
            error.strerror or str(error),
        )

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
            cause = f"{self.subject.name} does not run"
            failure = self.subject.failed(Reason.SERVICE_EXITED, cause, "no process is left", permanent=False)
            # How it ended is known to its keeper alone, and the gate hears of that in a moment.
            return replace(failure, retry_after=LISTENING_EVERY)
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
        if failed.is_permanent or failed.reason is Reason.HOST_LIMITS:
            return failed  # its own name says more, and what this machine lacks is no fall of the service
        if self._up:
            self._falls.append(failed)
        self._up = False
        if len(self._falls) < 2:
            return failed
        return Failed(
            Reason.SERVICE_FLAPPING,
            f"{self.name} became ready and fell {len(self._falls)} times within its stability window",
            (*(f"{fall.reason}: {fall.cause}" for fall in self._falls), *failed.evidence),
            (
                f"see what it printed at its falls: flawless logs {self.name} -n 100",
                f"what the code means: flawless explain {Reason.SERVICE_FLAPPING}",
            ),
        )


async def exit_failure(subject: Subject, exit_: Exit, tail: Sequence[str]) -> Failed:
    """Why a process that exited did so: its status or signal, its last lines, and who holds its port now."""
    last = [f"| {line}" for line in tail[-10:]]
    cause = f"{subject.name} {exit_.sentence}"
    ours = await subject.pids()
    holders = await _holders(subject)
    ours |= await subject.pids()  # what it left behind may have been born meanwhile, or have ended
    others = [one for one in holders if not one.pids & ours]
    if others:
        return _foreign(subject, others).because(cause, *last)
    reason = Reason.SERVICE_OOM if exit_.out_of_memory else Reason.SERVICE_EXITED
    left = [f"port {subject.port} is still held by what it left behind"] if holders else []
    failed = subject.failed(reason, cause, *left, *(last or ["it printed nothing"]), permanent=True)
    return _in_background(failed, left_some=bool(ours)) if exit_.status == 0 else failed


def _in_background(failed: Failed, *, left_some: bool) -> Failed:
    """Who ends well at once has handed its work to another process, or had none."""
    seems = "it seems to put itself in the background" if left_some else "if it puts itself in the background"
    hint = f"{seems}: run it in the foreground, as it must not end"
    return replace(failed, next_steps=(hint, *failed.next_steps))


async def _holders(subject: Subject) -> Sequence[Listener]:
    """Who answers on its port now; nobody where that cannot be told."""
    if subject.port is None:
        return ()
    with suppress(OSError):
        return answering(subject.sockets.listeners(subject.port), await subject.addresses())
    return ()


def _hung(subject: Subject, what: str, limit: float) -> Failed:
    return subject.failed(
        Reason.SERVICE_HUNG, f"{subject.name} hangs: {what}", f"no answer on {subject.netloc} within {limit:.1f} s"
    )


async def _unreachable(subject: Subject, error: OSError) -> Failed:
    """Our own want of descriptors or memory is never the service's fault."""
    if error.errno in CONNECTION_LIMITS:
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
        *await _found_elsewhere(subject),
    )


def _unknown(subject: Subject, error: OSError) -> Failed:
    return Failed(
        Reason.SERVICE_NOT_LISTENING,
        f"the address of {subject.name} cannot be looked up: {subject.host}",
        (error.strerror or f"no answer within {_LOOKED_UP_WITHIN:g} s",),
        (f"write an address in its place: services.{subject.name}.host in flawless.toml, for example 127.0.0.1",),
    )


async def _found_elsewhere(subject: Subject) -> Sequence[str]:
    """Where a service that cannot be reached does listen; `[::]` may be told to take IPv6 alone."""
    with suppress(OSError):
        listeners = subject.sockets.ports_of(await subject.pids())
        alone = any(one.address == "::" and one.port == subject.port for one in listeners)
        said = ", and [::] takes IPv6 alone there (IPV6_V6ONLY)" if alone and ":" not in subject.host else ""
        return (f"{_whereabouts(listeners)}{said}",)
    return ()


def _json(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
