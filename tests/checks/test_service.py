"""Who answers, where, and what: each outcome code on real processes in the hands of real keepers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flawless.adapters.http import LocalHttp
from flawless.adapters.services import KeptService
from flawless.adapters.sockets import SystemSockets
from flawless.checks.answer import Wanted
from flawless.checks.service import (
    ExecReady,
    HttpReady,
    LogReady,
    StaysAlive,
    Subject,
    TcpReady,
    exit_failure,
    listening_failure,
)
from flawless.core.answer import Answer
from flawless.core.check import Check, Failed, Outcome, Passed
from flawless.core.port import Listener
from flawless.core.reason import Reason
from flawless.core.service import Exit, Launch
from support import http_faults
from support.eventually import eventually
from support.http_faults import faulty
from support.keepers import free_port, nursery_in

pytestmark = pytest.mark.anyio
OURS = "20261123T141502Z-3f9c2a"


@dataclass
class Kept:
    """The fault server as a service that is kept."""

    keeper: KeptService
    port: int
    http: LocalHttp

    def subject(self, port: int | None = None, *, host: str = "127.0.0.1", deploy_id: str | None = OURS) -> Subject:
        return Subject("backend", host, port or self.port, deploy_id, self.keeper.pids, SystemSockets())

    def probe(self, path: str, wanted: Wanted, *, attempt: float = 3.0) -> HttpReady:
        return HttpReady(self.subject(), self.http, path, wanted, attempt)

    async def ask(self, path: str, wanted: Wanted, *, limit: float = 3.0) -> Outcome:
        return await self.probe(path, wanted).ask(limit)


def launch(folder: Path, *arguments: str) -> Launch:
    command = (sys.executable, "-I", "-S", "-u", http_faults.__file__, *arguments)
    environment = {"PATH": os.environ["PATH"], "FLAWLESS_DEPLOY_ID": OURS}
    return Launch(
        "backend", command, folder, environment, (), None, OURS, {"code": "1"}, 2.0, (0.0,), 5, 300.0, 600.0, 10**6, 7
    )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all the questions to one service."""
    return "asyncio"


@pytest.fixture(scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kept]:
    """Listening; with its tree gone afterwards. No test changes it."""
    tmp_path = tmp_path_factory.mktemp("kept")
    with nursery_in(tmp_path):
        http = LocalHttp()
        one = Kept(KeptService("backend", tmp_path / "run" / "backend", tmp_path / "logs"), free_port(), http)
        await one.keeper.start(launch(tmp_path, str(one.port)))
        await eventually(lambda: _is_listening(one.subject()))
        yield one
        await http.aclose()
        await one.keeper.stop()


async def _is_listening(subject: Subject) -> bool:
    return await listening_failure(subject) is None


@pytest.fixture
def stranger() -> Iterator[tuple[int, int]]:
    """A process that is not ours and listens: its pid and its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-u", http_faults.__file__, str(port)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, port
    finally:
        process.kill()
        process.communicate()


def failed(outcome: Outcome | None) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


LIVE = Wanted(json={"status": "alive"})


async def test_a_service_that_answers_as_it_should_passes(kept: Kept) -> None:
    """Its body goes into the report's `health`."""
    outcome = await kept.ask("/health/live", LIVE)
    assert isinstance(outcome, Passed)
    assert outcome.facts["health"]["live"]["status"] == "alive"
    assert isinstance(await kept.ask("/health/db", Wanted(json={"ready": True})), Passed)
    status = Wanted(json={"status": ["healthy", "ready"]}, required=("db", "storage"))
    assert isinstance(await kept.ask("/health/status", status), Passed)
    page = await kept.ask("/", Wanted(status=(200,)))
    assert isinstance(page, Passed)
    assert page.facts == {}
    assert isinstance(await TcpReady(kept.subject()).ask(3.0), Passed)


@pytest.mark.parametrize(
    ("path", "wanted", "reason", "said"),
    [
        ("/html", LIVE, Reason.SERVICE_WRONG_IDENTITY, "JSON was expected"),
        ("/deep", LIVE, Reason.SERVICE_WRONG_IDENTITY, "JSON was expected"),
        ("/other-release", LIVE, Reason.SERVICE_WRONG_IDENTITY, "another release"),
        ("/other-release-header", Wanted(), Reason.SERVICE_WRONG_IDENTITY, "another release"),
        (
            "/other-service",
            Wanted(json={"service": "backend"}),
            Reason.SERVICE_WRONG_IDENTITY,
            "in the name of another service",
        ),
        ("/binary", LIVE, Reason.SERVICE_WRONG_IDENTITY, "does not speak HTTP"),
        ("/starting", LIVE, Reason.SERVICE_UNHEALTHY, "503"),
        ("/unhealthy", Wanted(json={"ready": True}), Reason.SERVICE_UNHEALTHY, "no database"),
        ("/lies", Wanted(json={"status": "healthy"}), Reason.SERVICE_UNHEALTHY, "degraded.enabled is true: demo mode"),
        ("/nowhere", LIVE, Reason.SERVICE_UNHEALTHY, "404"),
        ("/redirect", Wanted(), Reason.SERVICE_UNHEALTHY, "302"),
        ("/empty", LIVE, Reason.SERVICE_WRONG_IDENTITY, "(empty)"),
        ("/redirect", LIVE, Reason.SERVICE_WRONG_IDENTITY, "302"),
        ("/reset", LIVE, Reason.SERVICE_HUNG, "reset"),
        ("/closed", LIVE, Reason.SERVICE_HUNG, "closed without an answer"),
        ("/cut", LIVE, Reason.SERVICE_HUNG, "its answer was cut short: received 4 bytes, expected 100"),
        ("/endless", LIVE, Reason.SERVICE_WRONG_IDENTITY, "JSON was expected"),
    ],
)
async def test_each_wrong_answer_has_its_code_and_names_what_was_seen(
    kept: Kept, path: str, wanted: Wanted, reason: Reason, said: str
) -> None:
    """The right code with evidence that does not name the thing is a failure too."""
    failure = failed(await kept.ask(path, wanted))
    assert failure.reason is reason
    assert said in " ".join([failure.cause, *failure.evidence])
    assert failure.next_steps[0] == "see what it printed: flawless logs backend -n 50"


@pytest.mark.parametrize("path", ["/starting", "/html", "/redirect", "/empty", "/closed", "/cut", "/binary"])
async def test_what_our_own_process_may_outgrow_is_worth_waiting_for(kept: Kept, path: str) -> None:
    """Frameworks answer 503, a page, a redirect, or nothing at all while they start."""
    assert not failed(await kept.ask(path, LIVE)).is_permanent


async def test_another_services_name_may_be_outgrown_and_another_release_may_not(kept: Kept) -> None:
    """The deploy id is given to a process once, at its start."""
    named = failed(await kept.ask("/other-service", Wanted(json={"service": "backend"})))
    assert not named.is_permanent
    assert "the process that answers is one of backend's own" in named.evidence
    for path in ("/other-release", "/other-release-header"):
        assert failed(await kept.ask(path, LIVE)).is_permanent


async def test_the_reasons_it_gives_are_in_the_evidence(kept: Kept) -> None:
    """Each of them."""
    evidence = failed(await kept.ask("/unhealthy", Wanted(json={"ready": True}))).evidence
    assert {"it gives as a reason: no database", "it gives as a reason: no disk"} <= set(evidence)


@pytest.mark.parametrize("path", ["/hang", "/drip"])
async def test_what_accepts_and_never_ends_its_answer_hangs(kept: Kept, path: str) -> None:
    """Not refused, not wrong: SERVICE_HUNG, after the limit."""
    failure = failed(await kept.ask(path, LIVE, limit=0.2))
    assert (failure.reason, failure.is_permanent) == (Reason.SERVICE_HUNG, False)
    assert "0.2 s" in " ".join(failure.evidence)


async def test_a_probe_may_have_a_shorter_limit_of_its_own(kept: Kept) -> None:
    """`timeout` of the manifest."""
    failure = failed(await kept.probe("/hang", LIVE, attempt=0.1).ask(30.0))
    assert "0.1 s" in failure.evidence[0]


async def test_where_it_does_listen_is_said(kept: Kept) -> None:
    """On another port."""
    failure = failed(await listening_failure(kept.subject(free_port())))
    assert failure.reason is Reason.SERVICE_NOT_LISTENING
    assert f"it listens on 127.0.0.1:{kept.port}" in failure.evidence


async def test_one_that_listens_on_ipv6_alone_is_told_so(tmp_path: Path) -> None:
    """Before: 'connection refused', and nobody knew why."""
    with nursery_in(tmp_path):
        port = free_port()
        keeper = KeptService("backend", tmp_path / "run" / "backend", tmp_path / "logs")
        await keeper.start(launch(tmp_path, str(port), "::1"))
        subject = Subject("backend", "127.0.0.1", port, OURS, keeper.pids, SystemSockets())
        await eventually(lambda: _is_listening(replace(subject, host="::1")))
        failure = failed(await TcpReady(subject).ask(1.0))
        assert failure.reason is Reason.SERVICE_NOT_LISTENING
        assert f"it listens on [::1]:{port}" in failure.evidence
        assert isinstance(await TcpReady(replace(subject, host="::1")).ask(1.0), Passed)
        await keeper.stop()


async def test_localhost_is_either_of_its_addresses(kept: Kept, stranger: tuple[int, int]) -> None:
    """What listens on 127.0.0.1 listens on localhost; a stranger on the same port of ::1 may be asked in its place."""
    subject = kept.subject(host="localhost")
    assert isinstance(await TcpReady(subject).ask(3.0), Passed)
    assert isinstance(await HttpReady(subject, kept.http, "/health/live", LIVE, 3.0).ask(3.0), Passed)
    with faulty("::1", kept.port):
        assert failed(await TcpReady(kept.subject(host="localhost")).ask(3.0)).reason is Reason.PORT_STOLEN
    assert failed(await TcpReady(kept.subject(stranger[1], host="localhost")).ask(3.0)).reason is Reason.PORT_STOLEN


async def test_a_name_that_nobody_knows_is_told_as_that(kept: Kept) -> None:
    """Not "refused": there is nobody who could refuse."""
    failure = failed(await TcpReady(kept.subject(host="no-such-host.invalid")).ask(3.0))
    assert failure.reason is Reason.SERVICE_NOT_LISTENING
    assert "cannot be looked up: no-such-host.invalid" in failure.cause
    assert "services.backend.host" in failure.next_steps[0]


async def test_one_on_all_of_ipv6_alone_is_told_so(tmp_path: Path) -> None:
    """[::] usually takes IPv4 too, so "refused" by itself would explain nothing."""
    with nursery_in(tmp_path):
        port = free_port()
        keeper = KeptService("backend", tmp_path / "run" / "backend", tmp_path / "logs")
        await keeper.start(launch(tmp_path, str(port), "::"))
        subject = Subject("backend", "127.0.0.1", port, OURS, keeper.pids, SystemSockets())
        await eventually(lambda: _is_listening(subject))
        http = LocalHttp()
        probes: list[Check] = [TcpReady(subject), HttpReady(subject, http, "/health/live", LIVE, 3.0)]
        for probe in probes:
            failure = failed(await probe.ask(1.0))
            assert failure.reason is Reason.SERVICE_NOT_LISTENING
            assert failure.evidence[-1] == f"it listens on [::]:{port}, and [::] takes IPv6 alone there (IPV6_V6ONLY)"
        await http.aclose()
        await keeper.stop()


async def test_one_that_listens_nowhere_is_told_so(tmp_path: Path) -> None:
    """Running is not ready; a worker without a port is asked whether it lives, and nothing else."""
    with nursery_in(tmp_path):
        keeper = KeptService("backend", tmp_path / "run" / "backend", tmp_path / "logs")
        await keeper.start(launch(tmp_path, "0"))
        subject = Subject("backend", "127.0.0.1", free_port(), OURS, keeper.pids, SystemSockets())
        failure = failed(await TcpReady(subject).ask(1.0))
        assert (failure.reason, failure.evidence) == (Reason.SERVICE_NOT_LISTENING, ("it listens on no port",))
        assert isinstance(await StaysAlive(subject).ask(1.0), Passed)
        await keeper.stop()
        gone = failed(await StaysAlive(subject).ask(1.0))
        assert (gone.reason, gone.is_permanent) == (Reason.SERVICE_EXITED, False), "how it ended is the gate's to tell"


async def test_a_foreign_listener_is_named_and_never_talked_to(kept: Kept, stranger: tuple[int, int]) -> None:
    """PORT_STOLEN with its pid; nothing is sent to it."""
    pid, port = stranger
    http: Check = HttpReady(kept.subject(port), kept.http, "/health/live", LIVE, 3.0)
    for check in (TcpReady(kept.subject(port)), http):
        failure = failed(await check.ask(3.0))
        assert (failure.reason, failure.is_permanent) == (Reason.PORT_STOLEN, True)
        assert f"pid {pid} " in failure.evidence[0]
        assert "http_faults.py" in failure.evidence[0]


async def test_a_port_that_changes_hands_during_the_answer_is_stolen(kept: Kept) -> None:
    """The owner is asked again behind the answer."""

    class Changes(SystemSockets):
        asked = 0

        def listeners(self, port: int, likely: Collection[int] = ()) -> Sequence[Listener]:
            self.asked += 1
            owner = frozenset({os.getpid()}) if self.asked > 1 else await_pids
            return [Listener("127.0.0.1", port, owner, None, 0)]

    await_pids = await kept.keeper.pids()
    probe = kept.probe("/health/live", LIVE)
    failure = failed(await replace(probe, subject=replace(probe.subject, sockets=Changes())).ask(3.0))
    assert failure.reason is Reason.PORT_STOLEN


async def test_a_process_that_we_started_between_the_two_looks_is_no_thief(kept: Kept) -> None:
    """Nobody is accused on the first look: PORT_STOLEN would end the deploy."""
    looks = [frozenset({1}), await kept.keeper.pids(), await kept.keeper.pids()]

    async def pids() -> frozenset[int]:
        return looks.pop(0)

    assert await listening_failure(replace(kept.subject(), pids=pids)) is None


async def test_no_descriptors_left_here_is_no_fault_of_the_service(kept: Kept) -> None:
    """HOST_LIMITS, with the limit to raise."""
    probes: list[Check] = [kept.probe("/health/live", LIVE), TcpReady(kept.subject())]
    for probe in probes:
        assert isinstance(await probe.ask(3.0), Passed)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        outcomes = [await probe.ask(3.0) for probe in probes]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for outcome in outcomes:
        assert failed(outcome).reason is Reason.HOST_LIMITS
        assert "ulimit" in failed(outcome).next_steps[0]
        assert "EMFILE" in failed(outcome).evidence[0]


async def test_want_of_descriptors_at_the_connection_is_told_the_same(kept: Kept) -> None:
    """Whichever call hits the limit first."""

    class Full:
        async def ask(self, method: str, url: str, *, limit: float, headers: Mapping[str, str] | None = None) -> Answer:
            raise OSError(24, "Too many open files")

    probe = replace(kept.probe("/health/live", LIVE), http=Full())
    assert failed(await probe.ask(1.0)).reason is Reason.HOST_LIMITS


async def test_a_line_in_the_log_makes_it_ready(kept: Kept) -> None:
    """The last line is named when none matches."""

    async def lines() -> Sequence[str]:
        return await kept.keeper.tail(50)

    await eventually(lines)
    assert isinstance(await LogReady(kept.subject(), lines, "^listen").ask(1.0), Passed)
    failure = failed(await LogReady(kept.subject(), lines, "^never").ask(1.0))
    assert failure.evidence == ("its last line: listening",)

    async def nothing() -> Sequence[str]:
        return ()

    assert failed(await LogReady(kept.subject(), nothing, "x").ask(1.0)).evidence == ("it has printed nothing",)


@pytest.mark.parametrize(
    ("status", "tail", "said"),
    [(0, (), None), (1, ("no such table",), "no such table"), (None, (), "did not end within 0.5 s")],
)
async def test_a_command_makes_it_ready_when_it_ends_with_0(
    kept: Kept, status: int | None, tail: Sequence[str], said: str | None
) -> None:
    """Its own last lines are the evidence."""

    async def run(limit: float) -> tuple[int | None, Sequence[str]]:
        return status, tail

    outcome = await ExecReady(kept.subject(), run, "pg_isready", 0.5).ask(3.0)
    if said is None:
        assert isinstance(outcome, Passed)
        return
    assert failed(outcome).reason is Reason.SERVICE_UNHEALTHY
    assert said in " ".join([failed(outcome).cause, *failed(outcome).evidence])


async def test_an_end_names_how_and_its_last_lines(kept: Kept) -> None:
    """Exit status or signal, after how long; the kernel's want of memory has a code of its own."""
    nowhere = kept.subject(free_port())
    failure = await exit_failure(nowhere, Exit(3, None, 1.5, ""), ["one", "two"])
    assert (failure.reason, failure.is_permanent) == (Reason.SERVICE_EXITED, True)
    assert "exit status 3 after 1.5 s" in failure.cause
    assert failure.evidence[-2:] == ("| one", "| two")
    oom = await exit_failure(nowhere, Exit(None, 9, 1.5, "", out_of_memory=True), [])
    assert oom.reason is Reason.SERVICE_OOM
    silent = replace(nowhere, port=None)
    assert "possibly memory" in (await exit_failure(silent, Exit(None, 9, 1.5, ""), [])).cause


async def test_what_a_process_left_behind_on_its_port_is_no_thief(kept: Kept) -> None:
    """The process that held the port before the fork has ended, and its own descendant still answers."""
    failure = await exit_failure(kept.subject(), Exit(0, None, 0.2, ""), [])
    assert failure.reason is Reason.SERVICE_EXITED
    assert "still held by what it left behind" in failure.evidence[0]
    assert "it seems to put itself in the background: run it in the foreground" in failure.next_steps[0]
    crashed = await exit_failure(kept.subject(), Exit(1, None, 0.2, ""), [])
    assert crashed.reason is Reason.SERVICE_EXITED
    assert "background" not in "".join(crashed.next_steps)


async def test_an_end_that_nobody_saw_reads_well(kept: Kept) -> None:
    """Its keeper went away with what it knew."""
    unseen = await exit_failure(kept.subject(free_port()), Exit(None, None, 0.0, ""), [])
    assert unseen.cause == "backend ended, and nobody saw how"


async def test_an_end_because_somebody_took_the_port_names_him(kept: Kept, stranger: tuple[int, int]) -> None:
    """The thief is the cause, the end its consequence."""
    pid, port = stranger
    failure = await exit_failure(kept.subject(port), Exit(1, None, 0.2, ""), ["EADDRINUSE"])
    assert failure.reason is Reason.PORT_STOLEN
    assert f"pid {pid} " in failure.evidence[0]
    assert failure.evidence[-1] == "| EADDRINUSE"


async def test_every_check_has_an_id_and_a_claim(kept: Kept) -> None:
    """`subject.claim`, and a sentence that holds when it passes."""

    async def nothing(limit: float = 0.0) -> tuple[int, Sequence[str]]:
        return 0, ()

    async def lines() -> Sequence[str]:
        return ()

    subject = kept.subject()
    every: list[Check] = [
        TcpReady(subject),
        kept.probe("/x", LIVE),
        StaysAlive(subject),
        ExecReady(subject, nothing, "true", 1.0),
        LogReady(subject, lines, "x"),
    ]
    assert [one.id for one in every] == [
        "service.listening:backend",
        "service.ready:backend/x",
        "service.alive:backend",
        "service.ready:backend:exec",
        "service.ready:backend:log",
    ]
    assert all("backend" in one.claim for one in every)


async def test_an_answer_of_the_test_itself_is_a_strangers(kept: Kept) -> None:
    """Also one of this very process: nothing but the service's own tree counts."""
    with faulty() as server:
        failure = failed(await TcpReady(kept.subject(server.port)).ask(1.0))
    assert failure.reason is Reason.PORT_STOLEN
