"""The stand-in for cloudflared does what the real one was measured to do: exits, metrics port, log lines, moments."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from support.edge import Edge, NamedTunnel, Registration
from support.http_faults import Faults
from support.listener import Listener
from support.stacks import reserve, until
from support.tunnels import COMMAND, HOSTNAME, cloudflared, frozen, rules_to, until_connected, write_config
from support.visitors import figures, metrics, metrics_json, visit

Process = subprocess.Popen[bytes]


class World:
    """An edge, an origin and a tunnel; `running()` is a cloudflared between them."""

    def __init__(self, folder: Path, public: Edge, origin: Faults, resources: ExitStack) -> None:
        self.folder = folder
        self.public = public
        self.origin = origin
        self.port = reserve(resources)
        self.other_port = reserve(resources)
        """Where nobody listens."""
        self.tunnel = public.tunnel(HOSTNAME)
        self.service = f"http://127.0.0.1:{origin.port}"

    def configured(self, rules: Any = None, tunnel: NamedTunnel | None = None, **keys: Any) -> Path:
        rules = rules_to(self.service) if rules is None else rules
        tunnel = tunnel or self.tunnel
        return write_config(self.folder / "config.yml", tunnel, rules, edge=self.public.address, **keys)

    @contextmanager
    def running(self, rules: Any = None, *, connected: bool = True, **keys: Any) -> Iterator[Process]:
        arguments = ["--config", str(self.configured(rules, **keys)), *self.flags, "tunnel", "run"]
        with cloudflared(self.public, *arguments, folder=self.folder, connected=connected) as process:
            until(self.is_listening, "the metrics port opens")
            yield process

    @property
    def flags(self) -> list[str]:
        return ["--no-autoupdate", "--metrics", f"127.0.0.1:{self.port}"]

    def is_listening(self) -> bool:
        with suppress(OSError):
            return metrics(self.port, "/healthcheck") == (200, "OK\n")
        return False

    def ready(self) -> int:
        return metrics(self.port, "/ready")[0]

    def log(self) -> str:
        return (self.folder / "cloudflared.log").read_text()

    def until_said(self, words: str) -> None:
        until(lambda: words in self.log(), f"it says {words}")


@pytest.fixture
def world(tmp_path: Path, public: Edge, origin: Faults) -> Iterator[World]:
    with ExitStack() as resources:
        yield World(tmp_path, public, origin, resources)


REAL: Final = shutil.which("cloudflared")


@pytest.fixture(params=["stand-in", "real"])
def program(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What needs no edge is asked of the real one too, where it is installed."""
    if request.param == "stand-in":
        return COMMAND
    if REAL is None:
        pytest.skip("no cloudflared is installed here")
    return (REAL,)


def run(
    folder: Path, *arguments: str, program: tuple[str, ...] = COMMAND, **environment: str
) -> subprocess.CompletedProcess[str]:
    """One that ends by itself."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    return subprocess.run(
        [*program, *arguments], cwd=folder, env=clean, capture_output=True, text=True, timeout=20, check=False
    )


# --- how it ends when it is started wrongly ---


@pytest.mark.parametrize(
    "token", ["no base64", base64.b64encode(b"no json").decode(), base64.b64encode(b"[]").decode()]
)
def test_a_token_that_is_no_token_ends_it_with_255(tmp_path: Path, program: tuple[str, ...], token: str) -> None:
    """From the environment or a file; the token itself is not said."""
    (tmp_path / "token").write_text(token + "\n")
    for done in (
        run(tmp_path, "tunnel", "run", program=program, TUNNEL_TOKEN=token),
        run(tmp_path, "tunnel", "run", "--token-file", "token", program=program),
    ):
        assert done.returncode == 255
        assert "Provided Tunnel token is not valid." in done.stderr
        assert token not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["tunnel", "run"], 255, '"cloudflared tunnel run" requires the ID or name of the tunnel'),
        (["tunnel", "--config", "nowhere.yml", "run"], 255, '"cloudflared tunnel run" requires the ID or name'),
        (["tunnel", "run", "--token-file", "nowhere"], 255, "Failed to read token file: open nowhere: no such file"),
        (
            ["tunnel", "--credentials-file", "nowhere.json", "run", str(uuid.UUID(int=1))],
            1,
            "doesn't exist or is not a file",
        ),
        (["tunnel", "--config", "broken.yml", "run"], 1, "error parsing YAML in config file at broken.yml"),
        (["tunnel", "--config", "list.yml", "run"], 1, "error parsing YAML in config file at list.yml"),
        (["tunnel", "--credentials-file", "broken.yml", "run", str(uuid.UUID(int=1))], 1, "contained invalid JSON"),
        (["tunnel", "info", "x"], 1, "Error locating origin cert"),
        (["tunnel", "ready"], 1, "--metrics has to be provided"),
    ],
)
def test_a_wrong_start_ends_at_once(
    tmp_path: Path, program: tuple[str, ...], arguments: list[str], status: int, said: str
) -> None:
    """With the status and the words of the real one."""
    (tmp_path / "broken.yml").write_text("tunnel: [")
    (tmp_path / "list.yml").write_text("- one")
    done = run(tmp_path, *arguments, program=program)
    assert done.returncode == status, done.stderr
    assert said in done.stderr


def test_an_unknown_flag_ends_it_with_zero(tmp_path: Path, program: tuple[str, ...]) -> None:
    """So a manager that restarts on failure does not."""
    done = run(tmp_path, "tunnel", "--nonsense", "run", program=program)
    assert done.returncode == 0
    assert "Incorrect Usage. flag provided but not defined" in done.stdout


@pytest.mark.parametrize(
    ("rules", "keys", "said"),
    [
        ([{"hostname": HOSTNAME, "service": "http://127.0.0.1:1"}], {}, "The last ingress rule must match all URLs"),
        ([{"service": "http_status:404"}] * 2, {}, "meaning the rules which follow it will never be triggered"),
        ([{"service": "localhost:3000"}], {}, "please make sure it has a scheme and a hostname"),
        ([{"service": "http://127.0.0.1:3000/api"}], {}, "don't support proxying to a different path"),
        ([{"hostname": HOSTNAME}], {}, "is an invalid address"),
        ([{"service": "http://127.0.0.1:3000/"}], {}, "don't support proxying to a different path"),
        ([{"hostname": "a:80", "service": "http://b"}, {"service": "http_status:404"}], {}, "cannot contain a port"),
        ([{"hostname": "a", "path": "(", "service": "http://b"}, {"service": "http_status:404"}], {}, "invalid regex"),
        (None, {"protocol": "carrier pigeon"}, "Unknown protocol"),
        (None, {"grace_period": "4m"}, "grace-period must be equal or less than 3m0s"),
    ],
)
def test_a_wrong_configuration_ends_it_with_one(
    world: World, program: tuple[str, ...], rules: Any, keys: dict[str, Any], said: str
) -> None:
    """`Couldn't start tunnel`, and why."""
    config = world.configured(rules, **keys)
    done = run(world.folder, "--config", str(config), *world.flags, "tunnel", "run", program=program)
    assert done.returncode == 1
    assert "Couldn't start tunnel" in done.stderr
    assert said in done.stderr


def test_unknown_keys_are_accepted_in_silence(world: World, program: tuple[str, ...]) -> None:
    """As the real one accepts them."""
    config = world.configured(nonsense=1)
    done = run(world.folder, "tunnel", "--config", str(config), "ingress", "validate", program=program)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "OK")


def test_the_rule_of_an_address_is_told(world: World, program: tuple[str, ...]) -> None:
    """The catch-all is a match too, and exits 0."""
    config = str(world.configured())
    first = run(world.folder, "tunnel", "--config", config, "ingress", "rule", f"https://{HOSTNAME}/x", program=program)
    other = run(
        world.folder, "tunnel", "--config", config, "ingress", "rule", "https://other.example.org/", program=program
    )
    assert "Matched rule #0" in first.stdout
    assert world.service in first.stdout
    assert "Matched rule #1" in other.stdout
    assert (first.returncode, other.returncode) == (0, 0)


def test_a_metrics_address_in_use_ends_it_with_one(world: World, program: tuple[str, ...]) -> None:
    """An explicit one; it does not look for another."""
    with socket.create_server(("127.0.0.1", world.port)):
        done = run(world.folder, "--config", str(world.configured()), *world.flags, "tunnel", "run", program=program)
    assert done.returncode == 1
    assert "Error opening metrics server listener" in done.stderr
    assert "address already in use" in done.stderr


# --- well ---


def test_it_registers_and_carries_requests_with_its_own_id(world: World) -> None:
    """`/ready` and the origin are told the same connector; the counters move; the log says the line to wait for."""
    with world.running(pidfile=str(world.folder / "pid")) as process:
        answer = visit(world.public, HOSTNAME, "/health/live?nonce=1")
        ready = metrics_json(world.port, "/ready")
        counted = figures(world.port)

    assert answer.json()["status"] == "alive"
    assert f"Cf-Warp-Tag-Id: {ready['connectorId']}" in world.origin.heads[0]
    assert world.origin.heads[0].startswith("GET /health/live?nonce=1 ")
    assert world.public.requests[0].connector == ready["connectorId"]
    assert counted["cloudflared_tunnel_total_requests"] == 1
    assert counted['cloudflared_tunnel_response_by_code{status_code="200"}'] == 1
    assert counted["cloudflared_tunnel_request_errors"] == 0
    assert "INF Registered tunnel connection connIndex=0 connection=" in world.log()
    assert (world.folder / "pid").read_text() == str(process.pid)


def test_all_its_connections_come_one_after_another(world: World) -> None:
    """Four, as /ready, /diag/tunnel and the edge have it; one connector."""
    with world.running(stand_in="spacing=0.05"):
        until(lambda: metrics_json(world.port, "/ready")["readyConnections"] == 4, "four connections")
        diagnosed = metrics_json(world.port, "/diag/tunnel")
        [connector] = world.public.connectors
        assert connector.connections == 4
        assert figures(world.port)["cloudflared_tunnel_ha_connections"] == 4
    assert diagnosed["tunnelID"] == world.tunnel.id
    assert diagnosed["connectorID"] == connector.id
    assert diagnosed["connections"][0] == {"isConnected": True, "edgeAddress": "127.0.0.1"}
    assert [one.get("index", 0) for one in diagnosed["connections"]] == [0, 1, 2, 3]
    # Each look is told in two lines, and other stacks of this machine look too.
    assert world.log().count("Collection started") >= 1


def test_the_rules_and_flags_that_count_are_told_without_a_secret(world: World) -> None:
    """`/config` has version -1 for a local file; `/diag/configuration` no credentials."""
    with world.running():
        config = metrics_json(world.port, "/config")
        flags = metrics_json(world.port, "/diag/configuration")
        quick = metrics_json(world.port, "/quicktunnel")
    assert config["version"] == -1
    assert [rule["service"] for rule in config["config"]["ingress"]] == [world.service, "http_status:404"]
    assert flags["metrics"] == f"127.0.0.1:{world.port}"
    assert world.tunnel.secret not in json.dumps(flags) + world.log()
    assert quick == {"hostname": ""}


def test_the_first_rule_that_fits_counts(world: World) -> None:
    """By host, then path; the catch-all for the rest."""
    rules = [
        {"hostname": HOSTNAME, "path": "^/health", "service": world.service},
        {"hostname": "*.example.org", "service": "http_status:418"},
        {"service": "http_status:404"},
    ]
    world.public.route("shop.example.com", world.tunnel.id)
    with world.running(rules):
        statuses = [visit(world.public, HOSTNAME, path).status for path in ("/health/live", "/other")]
        assert [*statuses, visit(world.public, "shop.example.com").status] == [200, 418, 404]


def test_without_rules_everything_is_503(world: World) -> None:
    """And it warns once."""
    with world.running([]):
        assert visit(world.public, HOSTNAME).status == 503
    assert "No ingress rules were defined" in world.log()


def test_the_command_ready_asks_the_metrics_port(world: World) -> None:
    """0, or 1 with the body."""
    address = f"127.0.0.1:{world.port}"
    with world.running():
        assert run(world.folder, "tunnel", "--metrics", address, "ready").returncode == 0
    done = run(world.folder, "tunnel", "--metrics", address, "ready")
    assert done.returncode == 1


# --- a token, a quick tunnel ---


def test_with_a_token_the_rules_come_from_the_edge(world: World) -> None:
    """Just after the registration: 503 between; then with the version of the dashboard, and new ones at any time."""
    world.public.configuration_takes = 60
    tunnel = world.public.tunnel(HOSTNAME, rules=rules_to(world.service))
    with cloudflared(
        world.public, *world.flags, "tunnel", "run", folder=world.folder, environment={"TUNNEL_TOKEN": tunnel.token}
    ):
        until(world.is_listening, "the metrics port opens")
        assert visit(world.public, HOSTNAME).status == 503
        world.public.push(tunnel.id, tunnel.rules, 1)
        until(lambda: metrics_json(world.port, "/config")["version"] == 1, "the rules are there")
        assert visit(world.public, HOSTNAME).status == 200
        world.public.push(tunnel.id, [{"service": "nonsense"}], 2)
        world.until_said("Failed to deserialize new configuration")
        assert metrics_json(world.port, "/config")["version"] == 1
        world.public.push(tunnel.id, rules_to("http_status:418"), 3)
        until(lambda: metrics_json(world.port, "/config")["version"] == 3, "the new rules are there")
        assert visit(world.public, HOSTNAME).status == 418
        assert figures(world.port)["cloudflared_orchestration_config_version"] == 3
    assert tunnel.token not in world.log()
    assert tunnel.secret not in world.log()


def test_a_token_of_an_empty_object_runs_as_nobodys_tunnel(world: World) -> None:
    """Accepted here, refused at the edge, for ever."""
    token = base64.b64encode(b"{}").decode()
    environment = {"TUNNEL_TOKEN": token, "TUNNEL_EDGE": world.public.address}
    # An id behind `run` does not count beside a token; it says whose this is to whoever looks at this machine.
    arguments = (*world.flags, "tunnel", "run", world.tunnel.id)
    with cloudflared(
        world.public, *arguments, folder=world.folder, environment=environment, connected=False
    ) as process:
        world.until_said("Unauthorized: Tunnel not found")
        assert metrics_json(world.port, "/diag/tunnel")["tunnelID"] == str(uuid.UUID(int=0))
        assert process.poll() is None


def test_a_quick_tunnel_has_a_name_of_its_own(world: World) -> None:
    """A new one at every start, one connection, told at /quicktunnel."""
    arguments = (*world.flags, "tunnel", "--url", world.service)
    names = set()
    for _ in range(2):
        with cloudflared(world.public, *arguments, folder=world.folder):
            until(world.is_listening, "the metrics port opens")
            until(lambda: metrics_json(world.port, "/quicktunnel")["hostname"], "it knows its name")
            name = metrics_json(world.port, "/quicktunnel")["hostname"]
            assert name.endswith(".trycloudflare.com")
            assert visit(world.public, name).status == 200
            assert visit(world.public, HOSTNAME).status == 530
            names.add(name)
    assert len(names) == 2


# --- the table of what /ready and a visitor see ---


def test_while_it_starts_the_metrics_port_is_refused(world: World) -> None:
    """As when DNS does not answer: for 40 seconds, of which this needs a moment."""
    with cloudflared(
        world.public,
        *("--config", str(world.configured(stand_in="start=40")), *world.flags, "tunnel", "run"),
        folder=world.folder,
        connected=False,
    ):
        world.until_said("Generated Connector ID")
        with pytest.raises(ConnectionRefusedError):
            metrics(world.port, "/ready")
        assert visit(world.public, HOSTNAME).status == 530


def test_an_unreachable_edge_is_waited_for(world: World) -> None:
    """It stays, says 503 and tries for ever; when the edge is there it registers."""
    world.public.disconnect()
    with world.running(connected=False) as process:
        world.until_said("Unable to establish connection with Cloudflare edge")
        world.until_said("Retrying connection in up to")
        assert metrics_json(world.port, "/ready")["readyConnections"] == 0
        assert world.ready() == 503
        assert visit(world.public, HOSTNAME).status == 530
        world.public.reconnect()
        until_connected(world.public)
        until(lambda: world.ready() == 200, "ready")
        assert process.poll() is None


@pytest.mark.parametrize("registration", [Registration.UNAUTHORIZED, Registration.NOT_FOUND])
def test_refused_credentials_are_tried_for_ever(world: World, registration: Registration) -> None:
    """503, `Unauthorized` in the log, failures counted, and the gauge that is no readiness says 1 meanwhile."""
    world.public.registration = registration
    with world.running(connected=False, stand_in="backoff=0.2") as process:
        until(lambda: world.log().count("Unauthorized") >= 4, "it tries again")
        assert process.poll() is None
        assert world.ready() == 503
        counted = figures(world.port)
        failures = 'cloudflared_tunnel_tunnel_register_fail{error="server_error",rpcName="registerConnection"}'
        assert counted[failures] >= 2
        assert visit(world.public, HOSTNAME).status == 530
    assert f'ERR Register tunnel error from server side error="{registration}"' in world.log()


def test_a_wrong_secret_and_a_deleted_tunnel_are_refused_by_the_edge_itself(world: World) -> None:
    """No order to the edge: it knows its tunnels."""
    wrong = NamedTunnel(world.tunnel.id, "d3Jvbmc=", world.tunnel.account, world.public.address)
    config = str(world.configured(tunnel=wrong))
    arguments = ("--config", config, *world.flags, "tunnel", "run")
    with cloudflared(world.public, *arguments, folder=world.folder, connected=False):
        world.until_said("Unauthorized: Invalid tunnel secret")
        world.public.delete(world.tunnel.id)
        world.until_said("Unauthorized: Tunnel not found")


@pytest.mark.parametrize(
    ("registration", "said"),
    [
        (Registration.HANGS_UP, 'initial tunnel connection failed error="connection with edge closed"'),
        (Registration.REFUSED, 'initial tunnel connection failed error="the edge is being maintained"'),
        (Registration.SILENT, 'initial tunnel connection failed error="context deadline exceeded"'),
    ],
)
def test_other_failures_of_the_first_connection_end_it(world: World, registration: Registration, said: str) -> None:
    """With 1."""
    world.public.registration = registration
    config = str(world.configured(stand_in="rpc=0.2"))
    done = run(world.folder, "--config", config, *world.flags, "tunnel", "run")
    assert done.returncode == 1
    assert said in done.stderr


def test_an_origin_that_is_down_is_502_and_ready(world: World) -> None:
    """The counters tell it apart from a 502 of the origin's own; the log names address and rule."""
    down = world.other_port
    with world.running(rules_to(f"http://127.0.0.1:{down}")):
        answer = visit(world.public, HOSTNAME)
        assert (answer.status, answer.body) == (502, b"error code: 502\n")
        assert world.ready() == 200
        counted = figures(world.port)
    assert counted["cloudflared_tunnel_request_errors"] == 1
    assert not [name for name in counted if "response_by_code" in name]
    assert f"dial tcp 127.0.0.1:{down}: connect: connection refused" in world.log()
    assert "Unable to reach the origin service." in world.log()
    assert f"ingressRule=0 originService=http://127.0.0.1:{down}" in world.log()


def test_an_unknown_origin_is_502_too(world: World) -> None:
    """`no such host`."""
    with world.running(rules_to("http://nowhere.invalid:80")):
        assert visit(world.public, HOSTNAME).status == 502
    assert "lookup nowhere.invalid: no such host" in world.log()


def test_localhost_is_ipv6_alone_when_it_is_told_so(world: World) -> None:
    """The service listens on 127.0.0.1, and the log names [::1]; otherwise localhost is both."""
    rules = rules_to(f"http://localhost:{world.origin.port}")
    with world.running(rules):
        assert visit(world.public, HOSTNAME).status == 200
    with world.running(rules, stand_in="ipv6"):
        assert visit(world.public, HOSTNAME).status == 502
    assert f"dial tcp [::1]:{world.origin.port}: connect: connection refused" in world.log()


def test_an_origin_that_hangs_is_524_and_ready(world: World) -> None:
    """When the edge's patience is over."""
    world.public.patience = 0.2
    with world.running():
        assert visit(world.public, HOSTNAME, "/hang").status == 524
        assert world.ready() == 200


def test_a_frozen_process_accepts_and_says_nothing(world: World) -> None:
    """At its metrics port, and to the edge: 524. Thawed it goes on."""
    world.public.patience = 0.2
    with world.running() as process:
        with frozen(process.pid):
            with pytest.raises(TimeoutError):
                metrics(world.port, "/ready", limit=0.2)
            assert visit(world.public, HOSTNAME).status == 524
        assert world.ready() == 200
        assert visit(world.public, HOSTNAME).status == 200


def test_the_edge_may_forget_it_while_it_says_ready(world: World) -> None:
    """200 here, 530 there."""
    with world.running():
        world.public.forget(world.public.connectors[0].id)
        assert visit(world.public, HOSTNAME).status == 530
        assert world.ready() == 200


def test_lost_connections_show_at_once_and_come_back(world: World) -> None:
    """503, the words of the log, then a wait; the same process and connector."""
    with world.running(stand_in="backoff=0.4") as process:
        connector = metrics_json(world.port, "/ready")["connectorId"]
        world.public.disconnect()
        until(lambda: world.ready() == 503, "503", limit=2)
        assert visit(world.public, HOSTNAME).status == 530
        world.until_said('Connection terminated error="connection with edge closed"')
        assert "Lost connection with the edge" in world.log()
        world.public.reconnect()
        until_connected(world.public)
        assert world.public.connectors[0].id == connector
        until(lambda: world.ready() == 200, "ready again")
        assert process.poll() is None


def test_the_edge_may_shun_whom_it_knows(world: World) -> None:
    """The same process never gets in again, a new one does: a restart is what helps."""
    with world.running(stand_in="backoff=0.1") as process:
        world.public.shuns_the_known = True
        world.public.cut()
        until(lambda: world.log().count("Retrying connection") >= 6, "it tries again and again")
        assert world.ready() == 503
        assert process.poll() is None
    with world.running():
        assert visit(world.public, HOSTNAME).status == 200
    assert len(world.public.arrivals) == 2


def test_two_of_one_tunnel_share_its_requests(world: World, tmp_path: Path) -> None:
    """Each with a connector's id of its own; one without rules answers its share with 503."""
    other = tmp_path / "other"
    other.mkdir()
    config = write_config(other / "config.yml", world.tunnel, [], edge=world.public.address)
    arguments = ("--config", str(config), "--metrics", f"127.0.0.1:{world.other_port}", "tunnel", "run")
    with world.running(), cloudflared(world.public, *arguments, folder=other):
        assert len({one.id for one in world.public.connectors}) == 2
        statuses = [visit(world.public, HOSTNAME).status for _ in range(10)]
    assert sorted(statuses) == [200] * 5 + [503] * 5


# --- signals ---


def test_sigterm_is_503_at_once_and_lets_a_request_end(world: World) -> None:
    """New ones go elsewhere, the one in flight is answered, then it exits 0; the metrics stay up meanwhile."""
    asked, released = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        asked.set()
        released.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    slow = Listener(answer)
    world.public.patience = 20
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(visit(world.public, HOSTNAME, limit=20).status))
    with closing(slow), world.running(rules_to(f"http://127.0.0.1:{slow.port}")) as process:
        asking.start()
        assert asked.wait(10)
        process.send_signal(signal.SIGTERM)
        until(lambda: not world.public.connectors, "it unregisters", limit=2)
        assert world.ready() == 503
        assert visit(world.public, HOSTNAME).status == 530
        released.set()
        assert process.wait(10) == 0
        asking.join(10)
    assert answers == [200]
    assert "Initiating graceful shutdown due to signal terminated ..." in world.log()


def test_the_grace_period_bounds_it(world: World) -> None:
    """A request that hangs is given up; the second signal is the end."""
    world.public.patience = 30
    for grace, second, status in (("0.2", False, 0), ("30s", True, -signal.SIGTERM)):
        with world.running(grace_period=grace) as process:
            world.origin.asked.clear()
            asking = threading.Thread(target=visit, args=(world.public, HOSTNAME, "/hang"))
            asking.start()
            until(lambda: "/hang" in world.origin.asked, "the origin is asked")
            process.send_signal(signal.SIGTERM)
            if second:
                until(lambda: not world.public.connectors, "it unregisters")
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == status
            asking.join(10)


def test_a_connection_that_comes_too_late_unregisters_at_once(world: World) -> None:
    """It was registering while the end began: no new request is sent its way."""
    world.public.registration_takes = 1.0
    with world.running(grace_period="30s", stand_in="rpc=10,spacing=0.01") as process:
        asking = threading.Thread(target=visit, args=(world.public, HOSTNAME, "/hang"))
        asking.start()
        until(lambda: "/hang" in world.origin.asked, "the origin is asked")
        process.send_signal(signal.SIGTERM)
        until(lambda: world.log().count("Registered tunnel connection") == 4, "the others are registered")
        until(lambda: not world.public.connectors, "all have unregistered")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        asking.join(10)


def test_sighup_is_the_end_and_no_reload(world: World) -> None:
    """By signal 1; the edge says 530 at once."""
    with world.running() as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == -signal.SIGHUP
        until(lambda: not world.public.connectors, "the edge notices")
        assert visit(world.public, HOSTNAME).status == 530


def test_its_log_can_be_json(world: World) -> None:
    """One object a line; below `info` the line to wait for is not there."""
    with world.running(output="json", logfile=str(world.folder / "file.jsonl")):
        world.until_said("Registered tunnel connection")
    lines = [json.loads(line) for line in world.log().splitlines()]
    assert {"level", "time", "message"} <= set(lines[0])
    assert json.loads((world.folder / "file.jsonl").read_text().splitlines()[0])["level"] == "info"
    (world.folder / "cloudflared.log").unlink()
    with world.running(loglevel="warn"):
        pass
    assert "Registered" not in world.log()
