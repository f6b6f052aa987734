"""What this machine knows of its tunnel: each observation on real processes, real sockets and real files."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flawless.adapters.cloudflared import connectors
from flawless.adapters.http import LocalHttp
from flawless.adapters.sockets import SystemSockets
from flawless.checks.tunnel.config import Tunnel
from flawless.checks.tunnel.observations import observe
from flawless.checks.tunnel.reading import World
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.connector import Connector
from flawless.core.errors import CommandFailed
from flawless.core.port import Listener, Sockets
from flawless.core.reason import Reason
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
    Restart,
    Route,
    Seen,
    judge,
)
from support.connectors import HOSTNAME, OTHER, TOKEN, TUNNEL, Running, answers, connector
from support.http_faults import faulty
from support.postgres import free_port

pytestmark = pytest.mark.anyio

UNASKED = Outside(Seen(Name.UNASKED, Skipped("not asked")), Seen(Public.UNASKED, Skipped("not asked")))


def rules(service: str, hostname: str = HOSTNAME) -> list[dict[str, str]]:
    return [{"hostname": hostname, "service": service}, {"service": "http_status:404"}]


@pytest.fixture
async def http() -> AsyncIterator[LocalHttp]:
    client = LocalHttp()
    yield client
    await client.aclose()


@pytest.fixture
def stack(tmp_path: Path, http: LocalHttp) -> Stack:
    return Stack(tmp_path, http)


class Stack:
    """A stack with a configured tunnel, and the cloudflareds that this test started beside it."""

    def __init__(self, folder: Path, http: LocalHttp) -> None:
        self.folder = folder
        self.http = http
        self.port = free_port()
        self.config = folder / "config.yml"
        self.log: Sequence[str] = ()
        self.sockets: Sockets = SystemSockets()
        self.write(f"http://127.0.0.1:{self.port}")
        (folder / f"{TUNNEL}.json").write_text(json.dumps({"TunnelID": TUNNEL}))

    def write(self, service: str) -> None:
        served = f"ingress:\n- hostname: {HOSTNAME}\n  service: {service}\n- service: http_status:404\n"
        self.config.write_text(f"tunnel: {TUNNEL}\n{served}")

    @contextlib.contextmanager
    def runs(self, told: dict[str, tuple[int, Any]] | None = None, *arguments: str, **more: Any) -> Iterator[Running]:
        """A cloudflared that was started with this stack's file, unless its arguments are given."""
        told = answers(rules=rules(f"http://127.0.0.1:{self.port}")) if told is None else told
        words = arguments or ("tunnel", "--config", str(self.config), "run")
        with connector(self.folder, told, *words, **more) as running:
            yield running

    async def look(
        self,
        *running: Running,
        ours: Running | None = None,
        limit: float = 4,
        program: Callable[[], Path] = lambda: Path("/cloudflared"),
    ) -> Local:
        """`running`: those of this test. Others on this machine are not its business."""
        pids = {one.pid for one in (*running, *([ours] if ours else []))}

        def found(of_ours: Collection[int]) -> list[Connector]:
            return [one for one in connectors(of_ours) if one.pid in pids]

        async def own() -> frozenset[int]:
            return frozenset({ours.pid} if ours else ())

        world = World(
            found,
            own,
            self.sockets,
            self.http,
            program,
            lambda: self.log,
        )
        tunnel = Tunnel(HOSTNAME, self.config, origins=(("127.0.0.1", self.port),))
        return await observe(tunnel, world, limit)


def failure(seen: Seen[Any], reason: Reason, *named: object) -> Failed:
    """It failed for this reason and names these things."""
    assert isinstance(seen.outcome, Failed), seen
    assert seen.outcome.reason is reason
    told = "\n".join([seen.outcome.cause, *seen.outcome.evidence])
    assert [one for one in named if str(one) not in told] == [], told
    return seen.outcome


# --- the whole -------------------------------------------------------------------------------------------------------


async def test_all_is_well(stack: Stack) -> None:
    """Every observation passes, and names pid, port, file, tunnel and address."""
    with faulty(port=stack.port), stack.runs() as running:
        local = await stack.look(ours=running)
    assert local.process.state is Process.OURS
    assert local.configuration.state is Configuration.READY
    assert local.metrics.state is Metrics.ANSWERS
    assert local.kind.state is Kind.EXPECTED
    assert local.connection.state is Connection.READY
    assert local.file.state is File.CURRENT
    assert local.route.state is Route.RIGHT
    assert local.origin.state is Origin.ANSWERS
    assert (local.pid, local.connector) == (running.pid, "c1")
    assert local.since is not None
    assert abs(local.since - time.time()) < 60
    told = repr(local)
    for one in (running.pid, running.port, stack.config, TUNNEL, HOSTNAME, stack.port):
        assert str(one) in told
    assert judge(local, UNASKED, HOSTNAME).row.verdict == "unproved"


async def test_nothing_runs(stack: Stack) -> None:
    """NONE, and every question that would need it is skipped; the verdict is to start it."""
    local = await stack.look()
    failure(local.process, Reason.TUNNEL_NOT_RUNNING)
    assert local.process.state is Process.NONE
    assert isinstance(local.connection.outcome, Skipped)
    assert judge(local, UNASKED, HOSTNAME).row.restart is Restart.START


async def test_nobody_else_starts_it_where_it_is_not_ours(stack: Stack) -> None:
    """One that was started by somebody else is FOREIGN and asked all the same."""
    with faulty(port=stack.port), stack.runs() as running:
        local = await stack.look(running)
    assert local.process.state is Process.FOREIGN
    assert local.connection.state is Connection.READY
    assert isinstance(local.process.outcome, Passed)
    assert "not started by Flawless" in local.process.outcome.evidence[0]


async def test_it_ends_within_its_limit(stack: Stack) -> None:
    """A frozen process and a service that hangs cost no more than the limit."""
    with stack.runs() as running, socket.create_server(("127.0.0.1", stack.port)):
        began = time.monotonic()
        local = await stack.look(ours=running, limit=1)
        assert time.monotonic() - began < 3
        failure(local.origin, Reason.TUNNEL_ORIGIN_DOWN, "did not answer within 0.5 s")


# --- configuration ---------------------------------------------------------------------------------------------------


async def test_no_program(stack: Stack) -> None:
    """NO_PROGRAM comes before all: TOOL_MISSING with where it was looked for."""

    def missing() -> Path:
        raise CommandFailed("cloudflared is not installed", evidence=["looked for in /bin"], next_steps=["install it"])

    local = await stack.look(program=missing)
    assert local.configuration.state is Configuration.NO_PROGRAM
    failure(local.configuration, Reason.TOOL_MISSING, "/bin")
    assert judge(local, UNASKED, HOSTNAME).row.reason is Reason.TOOL_MISSING


async def test_no_configuration(stack: Stack) -> None:
    """MISSING and INVALID, as the preflight check says them."""
    stack.config.write_text("a: [")
    broken = await stack.look()
    stack.config.unlink()
    missing = await stack.look()
    assert broken.configuration.state is Configuration.INVALID
    failure(broken.configuration, Reason.TUNNEL_CONFIG_INVALID, f"{stack.config}:1")
    assert missing.configuration.state is Configuration.MISSING
    failure(missing.configuration, Reason.TUNNEL_CONFIG_MISSING, stack.config)


# --- whose metrics port ----------------------------------------------------------------------------------------------


async def test_a_strangers_port_is_never_asked(stack: Stack) -> None:
    """It listens nowhere; another process answers at the address it was told: nothing of that counts."""
    with stack.runs(answers(tunnel=OTHER), "tunnel", "run") as stranger:
        told = ("tunnel", "--metrics", f"127.0.0.1:{stranger.port}", "--config", str(stack.config), "run")
        with stack.runs({}, *told) as running:
            local = await stack.look(ours=running)
    assert local.metrics.state is Metrics.NONE
    assert isinstance(local.metrics.outcome, Skipped)
    assert local.connection.state is Connection.UNKNOWN
    assert local.kind.state is Kind.EXPECTED  # its own file says so


async def test_a_port_that_nobody_told(stack: Stack) -> None:
    """Without an address it is found by the process's own socket, on IPv6 as well."""
    with stack.runs(host="::1") as running:
        local = await stack.look(ours=running)
    assert local.metrics.state is Metrics.ANSWERS
    assert f"[::1]:{running.port}" in repr(local.metrics)


async def test_another_socket_of_it(stack: Stack) -> None:
    """A socket that does not speak of connections is not its metrics port."""
    with stack.runs({"/": (200, "hello")}) as running:
        local = await stack.look(ours=running)
    assert local.metrics.state is Metrics.NONE
    assert str(running.port) in repr(local.metrics.outcome)


async def test_a_frozen_one(stack: Stack) -> None:
    """It accepts and never answers: TUNNEL_HUNG with pid and address."""
    with stack.runs() as running:
        running.freeze()
        local = await stack.look(ours=running, limit=1)
    assert local.metrics.state is Metrics.SILENT
    failed = failure(local.metrics, Reason.TUNNEL_HUNG, running.pid, running.port)
    assert f"ps -o pid,stat,etime,args -p {running.pid}" in failed.next_steps[1]
    verdict = judge(local, UNASKED, HOSTNAME)
    assert (verdict.row.reason, verdict.row.restart) == (Reason.TUNNEL_HUNG, Restart.ONCE)


class Hidden:
    """The sockets as a user sees them who may not look into another one's process."""

    def __init__(self) -> None:
        self._system = SystemSockets()

    def listeners(self, port: int, likely: Collection[int] = ()) -> Sequence[Listener]:
        return [replace(one, pids=frozenset(), owner=None) for one in self._system.listeners(port)]

    def ports_of(self, pids: Collection[int]) -> Sequence[Listener]:
        return []


@pytest.mark.parametrize(("before", "state"), [(0.2, Metrics.ANSWERS), (7.0, Metrics.NONE)])
async def test_another_users_process(before: float, state: Metrics, stack: Stack) -> None:
    """Its socket cannot be seen; what answers at its address counts when it was started at that very moment."""
    stack.sockets = Hidden()
    port = free_port()
    told = answers(metrics=f"process_start_time_seconds {time.time() - before:.2f}\n")
    words = ("tunnel", "--metrics", f"127.0.0.1:{port}", "--config", str(stack.config), "run")
    with stack.runs(told, *words, port=port) as running:
        local = await stack.look(running)
    assert local.metrics.state is state, local.metrics
    assert ("sudo flawless tunnel status" in repr(local.metrics)) is (state is Metrics.NONE)


# --- which tunnel ----------------------------------------------------------------------------------------------------


async def test_another_tunnel_with_our_name(stack: Stack) -> None:
    """Its own word counts more than its file; it has our name in its rules, so it is the one that is meant."""
    with stack.runs(answers(tunnel=OTHER, rules=rules("http://127.0.0.1:1"))) as running:
        local = await stack.look(running)
    assert local.kind.state is Kind.OTHER
    failed = failure(local.kind, Reason.TUNNEL_OTHER, OTHER, TUNNEL, running.pid)
    assert f"kill {running.pid}" in failed.next_steps[-1]


async def test_another_stacks_tunnel_is_no_concern(stack: Stack) -> None:
    """A tunnel of another id and other names, here for another stack: ours does not run, and may be started."""
    other = answers(tunnel=OTHER, rules=rules("http://127.0.0.1:1", "staging.example.org"))
    with stack.runs(other) as running:
        local = await stack.look(running)
    assert local.process.state is Process.NONE
    failure(local.process, Reason.TUNNEL_NOT_RUNNING, running.pid, OTHER)


async def test_of_a_stack_that_does_not_know_its_tunnel_others_are_no_concern_either(stack: Stack) -> None:
    """Neither file nor token says which it should be: then its names do. One that says nothing might be it."""
    stack.config = stack.folder / "nowhere.yml"
    of_others = answers(tunnel=OTHER, rules=rules("http://127.0.0.1:1", "staging.example.org"))
    of_ours = answers(tunnel=OTHER, rules=rules("http://127.0.0.1:1"))
    for told, state in ((of_others, Process.NONE), (of_ours, Process.FOREIGN), ({}, Process.FOREIGN)):
        with stack.runs(told, "tunnel", "run") as running:
            assert (await stack.look(running)).process.state is state


async def test_ours_before_another(stack: Stack) -> None:
    """Of several the one of our keeper is looked at."""
    with stack.runs() as foreign, stack.runs() as ours:
        local = await stack.look(foreign, ours=ours)
    assert (local.process.state, local.pid) == (Process.OURS, ours.pid)


async def test_a_quick_tunnel(stack: Stack) -> None:
    """One that leads to our service is TEMPORARY, with its name; one for something else is no concern."""
    url = f"http://localhost:{stack.port}"
    told = answers(rules=[{"service": url}], quicktunnel="odd-words.trycloudflare.com")
    with stack.runs(told, "tunnel", "--url", url) as running:
        local = await stack.look(running)
    assert local.kind.state is Kind.TEMPORARY
    failure(local.kind, Reason.TUNNEL_TEMPORARY, "odd-words.trycloudflare.com", running.pid)
    with stack.runs({}, "tunnel", "--url", "http://localhost:1") as running:
        assert (await stack.look(running)).process.state is Process.NONE


async def test_a_quick_tunnel_that_says_nothing(stack: Stack) -> None:
    """Its arguments are enough to know it."""
    with stack.runs({}, "tunnel", "--url", f"http://localhost:{stack.port}") as running:
        assert (await stack.look(running)).kind.state is Kind.TEMPORARY


# --- connected -------------------------------------------------------------------------------------------------------

REFUSALS = 'cloudflared_tunnel_tunnel_register_fail{error="server_error",rpcName="registerConnection"} 3\n'
ACCEPTED = 'cloudflared_tunnel_tunnel_register_success{rpcName="registerConnection"} 4\n'
UNAUTHORIZED = 'ERR Register tunnel error from server side error="Unauthorized: Invalid tunnel secret" connIndex=0'


async def test_not_connected(stack: Stack) -> None:
    """503: NONE, with what it said."""
    with stack.runs(answers(ready=0)) as running:
        local = await stack.look(ours=running)
    assert local.connection.state is Connection.NONE
    failure(local.connection, Reason.TUNNEL_NOT_CONNECTED, running.port, "503", '"readyConnections": 0')


@pytest.mark.parametrize(
    ("metrics", "log", "is_ours", "state"),
    [
        (REFUSALS, [UNAUTHORIZED], True, Connection.REFUSED),
        (REFUSALS + ACCEPTED, [UNAUTHORIZED], True, Connection.REFUSED),
        (REFUSALS, ["ERR Register tunnel error from server side"], True, Connection.NONE),
        ("", [UNAUTHORIZED], True, Connection.NONE),
        (REFUSALS, [], False, Connection.REFUSED),
        (REFUSALS + ACCEPTED, [], False, Connection.NONE),
        (ACCEPTED, [], False, Connection.NONE),
    ],
)
async def test_refused_credentials(
    metrics: str,
    log: list[str],
    is_ours: bool,  # noqa: FBT001 - a column
    state: Connection,
    stack: Stack,
) -> None:
    """Of ours by its log and its count; of another's by its count alone: it lives, and was never accepted."""
    stack.log = log
    with stack.runs(answers(ready=0, metrics=metrics)) as running:
        local = await (stack.look(ours=running) if is_ours else stack.look(running))
    assert local.connection.state is state
    if state is Connection.REFUSED:
        failed = failure(local.connection, Reason.TUNNEL_CREDENTIALS, "3 registrations refused", TUNNEL, running.pid)
        assert failed.is_permanent


# --- the file --------------------------------------------------------------------------------------------------------


async def test_an_edited_file(stack: Stack) -> None:
    """Changed after the start: EDITED with the file, and restarting helps."""
    with faulty(port=stack.port), stack.runs() as running:
        at = time.time() + 5
        os.utime(stack.config, (at, at))
        local = await stack.look(ours=running)
    assert local.file.state is File.EDITED
    failure(local.file, Reason.TUNNEL_STALE_CONFIG, stack.config, running.pid)
    verdict = judge(local, UNASKED, HOSTNAME)
    assert (verdict.row.reason, verdict.row.restart) == (Reason.TUNNEL_STALE_CONFIG, Restart.ONCE)


async def test_pushed_rules_know_no_file(stack: Stack) -> None:
    """Rules from Cloudflare are not in the file, so it is nobody's business when that changed."""
    with stack.runs(answers(version=3)) as running:
        at = time.time() + 5
        os.utime(stack.config, (at, at))
        assert (await stack.look(ours=running)).file.state is File.UNKNOWN


# --- route and origin ------------------------------------------------------------------------------------------------


async def test_another_port(stack: Stack) -> None:
    """OTHER_PORT: both addresses, file and line, and the line to write there."""
    stack.write("http://127.0.0.1:1")
    with stack.runs(answers(rules=rules("http://127.0.0.1:1"))) as running:
        local = await stack.look(ours=running)
    assert local.route.state is Route.OTHER_PORT
    failed = failure(
        local.route, Reason.TUNNEL_ROUTE_MISMATCH, "http://127.0.0.1:1", f"127.0.0.1:{stack.port}", HOSTNAME
    )
    assert failed.next_steps[:2] == (
        f"change the rule at {stack.config}:3:",
        f"  service: http://127.0.0.1:{stack.port}",
    )


async def test_another_port_of_a_pushed_rule(stack: Stack) -> None:
    """Rules from Cloudflare are changed in its dashboard."""
    with stack.runs(answers(rules=rules("http://127.0.0.1:1"), version=2)) as running:
        failed = failure((await stack.look(ours=running)).route, Reason.TUNNEL_ROUTE_MISMATCH)
    assert failed.next_steps[0].endswith(f"for {HOSTNAME}: http://127.0.0.1:{stack.port}")


@pytest.mark.parametrize("live", [[], [{"service": "http_status:404"}], [*rules("http://a:1", "b.c")]])
async def test_no_rule(live: list[dict[str, str]], stack: Stack) -> None:
    """The catch-all, or nothing, meets the name: NO_RULE, with the lines to add."""
    with stack.runs(answers(rules=live)) as running:
        local = await stack.look(ours=running)
    assert local.route.state is Route.NO_RULE
    failed = failure(local.route, Reason.TUNNEL_NO_RULE, HOSTNAME)
    assert f"  service: http://127.0.0.1:{stack.port}" in failed.next_steps
    assert local.origin.state is Origin.UNKNOWN


async def test_rules_that_are_still_to_come(stack: Stack) -> None:
    """With a token they come a moment after the connection: until then nothing is said of them."""
    environment = {"TUNNEL_TOKEN": TOKEN}
    early = answers(rules=[{"service": "http_status:503"}])
    with stack.runs(early, "tunnel", "run", environment=environment) as running:
        local = await stack.look(running)
    assert (local.route.state, local.origin.state) == (Route.UNKNOWN, Origin.UNKNOWN)
    with stack.runs(answers(version=0), "tunnel", "run", environment=environment) as running:
        local = await stack.look(running)
    assert local.route.state is Route.NO_RULE
    assert local.kind.state is Kind.EXPECTED


async def test_an_older_version_says_no_rules(stack: Stack) -> None:
    """Where /config is not answered nothing is known of the route."""
    told = answers()
    del told["/config"]
    with stack.runs(told) as running:
        local = await stack.look(ours=running)
    assert (local.route.state, local.origin.state) == (Route.UNKNOWN, Origin.UNKNOWN)


@pytest.mark.parametrize(
    ("host", "service", "state"),
    [
        ("127.0.0.1", "http://localhost:{}", Route.IPV6),
        ("127.0.0.1", "http://[::1]:{}", Route.IPV6),
        ("127.0.0.1", "http://127.0.0.1:{}", Route.RIGHT),
        ("::1", "http://localhost:{}", Route.RIGHT),
        ("::", "http://localhost:{}", Route.RIGHT),
    ],
)
async def test_localhost(host: str, service: str, state: Route, stack: Stack) -> None:
    """`localhost` is ::1 first: where the service listens on IPv4 alone, 127.0.0.1 is to be written."""
    address = service.format(stack.port)
    with faulty(host, stack.port), stack.runs(answers(rules=rules(address))) as running:
        local = await stack.look(ours=running)
    assert local.route.state is state
    if state is Route.IPV6:
        failed = failure(local.route, Reason.TUNNEL_IPV6_ORIGIN, "not at ::1", stack.port)
        assert f"  service: http://127.0.0.1:{stack.port}" in failed.next_steps


async def test_the_origin_is_down(stack: Stack) -> None:
    """Asked at the very address of the rule: refused is DOWN; any answer will do."""
    with stack.runs() as running:
        down = await stack.look(ours=running)
        with faulty(port=stack.port) as origin:
            up = await stack.look(ours=running)
            heads = list(origin.heads)
    assert down.origin.state is Origin.DOWN
    failure(down.origin, Reason.TUNNEL_ORIGIN_DOWN, f"http://127.0.0.1:{stack.port}", "refused", HOSTNAME)
    assert up.origin.state is Origin.ANSWERS
    assert f"host: {HOSTNAME}" in heads[0].lower()


async def test_an_origin_that_is_no_http(stack: Stack) -> None:
    """A TCP service is connected to."""
    told = answers(rules=rules(f"tcp://127.0.0.1:{stack.port}"))
    with stack.runs(told) as running:
        assert (await stack.look(ours=running)).origin.state is Origin.DOWN
        with socket.create_server(("127.0.0.1", stack.port)):
            assert (await stack.look(ours=running)).origin.state is Origin.ANSWERS


@pytest.mark.parametrize("body", ["", "[1]", "{", '{"config": 5}', '{"config": {"ingress": "x"}, "version": "a"}'])
async def test_answers_that_are_nonsense(body: str, stack: Stack) -> None:
    """Whatever a metrics port says, an observation is the worst that comes of it."""
    told = answers()
    told |= dict.fromkeys(("/diag/tunnel", "/config", "/quicktunnel", "/metrics"), (200, body))
    with stack.runs(told) as running:
        local = await stack.look(ours=running)
    assert local.metrics.state is Metrics.ANSWERS
    assert local.connection.state is Connection.READY
