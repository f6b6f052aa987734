"""The tunnel, whole deploys against a cloudflared and an edge that behave like the real ones. FAILURES 36 to 48.

Each says which link is broken, and restarts cloudflared only where a restart can help: how often it was started is
counted at the edge, or by the service manager whose cloudflared it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from support.edge import Edge, Registration, Reply, edge
from support.edge_behaviours import answering
from support.stacks import Stack, lives, until
from support.tunnels import (
    cloudflared,
    declare,
    forwarded,
    frozen,
    hostname_of,
    rules_to,
    system_service,
    write_config,
)
from support.verdicts import assert_failed, assert_never_started
from support.visitors import visit


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("edge")) as one:
        yield one


@pytest.fixture
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of whoever else runs a cloudflared here."""
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(autouse=True)
def limits(stack: Stack) -> None:
    stack.timeouts(tunnel_ready="6s", public="3s")


def verdict(stack: Stack) -> str:
    return str(stack.report()["tunnel"]["verdict"])


def starts(stack: Stack) -> int:
    """How often our cloudflared was started, whether it reached the edge or not."""
    return stack.log("tunnel").count("Generated Connector ID")


def options(stack: Stack) -> tuple[str, ...]:
    """Those of a cloudflared that somebody else starts with the stack's own file."""
    table = stack.manifest["tunnel"]
    return ("--config", table["config"], "--no-autoupdate", "--metrics", table["metrics"], "tunnel", "run")


def assert_not_restarted(stack: Stack, public: Edge, before: int = 1) -> None:
    assert len(public.arrivals) == before, "it was restarted, and that could not help"


# --- 36: what it would be started with ---


def test_a_cloudflared_that_is_not_installed_is_named_before_anything_starts(stack: Stack, public: Edge) -> None:
    """TOOL_MISSING, with where it was looked for."""
    declare(stack, public)
    stack.manifest["tunnel"]["command"] = ["cloudflared-of-nobody"]

    done = stack.deploy()

    assert_failed(stack, done, "TOOL_MISSING", "cloudflared-of-nobody", rollback="not needed")
    assert_never_started(stack, "frontend")
    assert not public.arrivals


def _no_file(stack: Stack, config: Path) -> None:
    config.unlink()


def _no_yaml(stack: Stack, config: Path) -> None:
    config.write_text("tunnel: [\n")


def _no_catch_all(stack: Stack, config: Path) -> None:
    config.write_text(config.read_text().replace("- service: http_status:404\n", ""))


def _no_credentials(stack: Stack, config: Path) -> None:
    next(config.parent.glob("*-*-*-*-*.json")).unlink()


def _no_token(stack: Stack, config: Path) -> None:
    del stack.manifest["tunnel"]["config"]
    stack.manifest["tunnel"]["token"] = "this-is-no-token-of-cloudflare"


@pytest.mark.parametrize(
    ("spoil", "code", "named"),
    [
        (_no_file, "TUNNEL_CONFIG_MISSING", "config.yml"),
        (_no_yaml, "TUNNEL_CONFIG_INVALID", "config.yml:2"),
        (_no_catch_all, "TUNNEL_CONFIG_INVALID", "config.yml"),
        (_no_credentials, "TUNNEL_CONFIG_INVALID", ".json"),
        (_no_token, "TUNNEL_CONFIG_INVALID", "token"),
    ],
)
def test_a_configuration_that_cloudflared_would_refuse_is_refused_before_anything_starts(
    stack: Stack, public: Edge, spoil: Any, code: str, named: str
) -> None:
    """File and line; cloudflared itself is never started, and agrees."""
    declare(stack, public)
    spoil(stack, stack.folder / "config.yml")

    done = stack.deploy()

    report = assert_failed(stack, done, code, named, rollback="not needed")
    assert report["failure"]["phase"] == "PRECHECK"
    assert "this-is-no-token" not in done.output + json.dumps(report)
    assert_never_started(stack, "frontend")
    assert not public.arrivals


# --- well, and 37 ---


@pytest.mark.parametrize("with_token", [False, True], ids=["file", "token"])
def test_a_tunnel_that_does_not_run_is_started_and_proved(stack: Stack, public: Edge, *, with_token: bool) -> None:
    """One start, one connector, the public name answers with this deploy's id; a second deploy touches nothing."""
    tunnel = declare(stack, public, with_token=with_token)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    report = stack.report()
    assert verdict(stack) == "routed"
    assert report["tunnel"]["observations"]["public"] == "ours"
    assert {"tunnel", "frontend"} == {one["name"] for one in report["services"]}
    assert visit(public, hostname_of(stack)).headers["x-flawless-deploy-id"] == report["deploy_id"]
    assert_not_restarted(stack, public)
    assert starts(stack) == 1
    assert tunnel.token not in " ".join(psutil.Process(stack.pid("tunnel")).cmdline())
    pid = stack.pid("tunnel")

    again = stack.deploy()

    assert again.exit_code == 0, again.output
    assert stack.pid("tunnel") == pid
    assert_not_restarted(stack, public)


def test_one_that_was_killed_is_not_running_and_is_started(stack: Stack, public: Edge, foreign: Path) -> None:
    """TUNNEL_NOT_RUNNING in status, with what to paste; the next deploy starts one of ours."""
    declare(stack, public)
    with cloudflared(public, *options(stack), folder=foreign):
        assert stack.deploy().exit_code == 0
    public.wait_for(lambda: not public.connectors)

    status = stack.run("tunnel", "status")

    assert status.exit_code != 0
    assert "TUNNEL_NOT_RUNNING" in status.output
    assert "flawless start tunnel" in status.output
    assert stack.deploy().exit_code == 0
    assert stack.pid("tunnel")
    assert_not_restarted(stack, public, before=2)


def test_one_of_somebody_else_is_verified_and_not_fought(stack: Stack, public: Edge, foreign: Path) -> None:
    """A system service carries the name: no second one is started, and this one is left alone."""
    declare(stack, public)
    with cloudflared(public, *options(stack), folder=foreign) as process:
        done = stack.deploy()

        assert done.exit_code == 0, done.output
        assert verdict(stack) == "routed"
        assert stack.pid("tunnel") is None
        assert str(process.pid) in json.dumps(stack.report())
        assert_not_restarted(stack, public)
        assert stack.run("stop", "--all").exit_code == 0
        assert process.poll() is None


# --- 38, 39: its way to the edge ---


def test_without_a_way_to_the_edge_it_is_restarted_once_and_no_more(stack: Stack, public: Edge) -> None:
    """TUNNEL_NOT_CONNECTED: two starts in all, then everything is put back."""
    declare(stack, public, stand_in="backoff=0.2")
    stack.timeouts(tunnel_ready="5s")
    public.disconnect()

    done = stack.deploy()

    assert_failed(stack, done, "TUNNEL_NOT_CONNECTED", hostname_of(stack))
    assert starts(stack) == 2
    assert stack.pid("tunnel") is None
    assert stack.pid("frontend") is None


def test_a_restart_cures_lost_connections_that_do_not_come_back(stack: Stack, public: Edge) -> None:
    """The edge takes only a new process: one restart, and the deploy passes."""
    declare(stack, public, stand_in="backoff=0.5")
    assert stack.deploy().exit_code == 0
    public.shuns_the_known = True
    public.cut()
    public.wait_for(lambda: not public.connectors)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert verdict(stack) == "routed"
    assert len(public.arrivals) == 2
    assert stack.report()["recovery"]["attempted"]


def test_credentials_that_the_edge_refuses_are_named_at_once_and_not_tried_again(stack: Stack, public: Edge) -> None:
    """TUNNEL_CREDENTIALS ends the gate before its time; no restart."""
    declare(stack, public, stand_in="backoff=0.2")
    stack.timeouts(tunnel_ready="40s")
    public.registration = Registration.UNAUTHORIZED

    done = stack.deploy()

    assert_failed(stack, done, "TUNNEL_CREDENTIALS", "Unauthorized")
    assert done.seconds < 35
    assert starts(stack) == 1
    assert_not_restarted(stack, public)


# --- 40 to 44: what it does with a request ---


def test_a_service_that_is_down_behind_a_good_tunnel_is_the_services_fault(
    stack: Stack, public: Edge, foreign: Path
) -> None:
    """TUNNEL_ORIGIN_DOWN names the address of the rule; nobody restarts the tunnel."""
    declare(stack, public)
    with cloudflared(public, *options(stack), folder=foreign):
        assert stack.deploy().exit_code == 0
        assert stack.run("stop", "frontend").exit_code == 0

        status = stack.run("tunnel", "status")

        assert status.exit_code != 0
        assert "TUNNEL_ORIGIN_DOWN" in status.output
        assert f"127.0.0.1:{stack.port('frontend')}" in status.output
        assert "flawless" in status.output
        assert_not_restarted(stack, public)


def test_a_rule_that_names_another_port_is_shown_with_the_line_to_change(stack: Stack, public: Edge) -> None:
    """TUNNEL_ROUTE_MISMATCH: the port it names, the one the service has; no restart."""
    name = hostname_of(stack)
    stack.service("frontend", "answer=site", "echo", role="frontend")
    declare(stack, public, rules=rules_to(f"http://127.0.0.1:{stack.port('other')}", name))

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_ROUTE_MISMATCH", str(stack.port("other")), str(stack.port("frontend")))
    assert f"http://127.0.0.1:{stack.port('frontend')}" in "\n".join(report["failure"]["next_steps"])
    assert starts(stack) == 1


def test_localhost_where_the_service_is_on_ipv4_alone_is_named(stack: Stack, public: Edge) -> None:
    """TUNNEL_IPV6_ORIGIN: write 127.0.0.1."""
    name = hostname_of(stack)
    stack.service("frontend", "answer=site", "echo", role="frontend")
    service = f"http://localhost:{stack.port('frontend')}"
    declare(stack, public, rules=rules_to(service, name), stand_in="ipv6")

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_IPV6_ORIGIN", "localhost")
    assert "127.0.0.1" in "\n".join(report["failure"]["next_steps"])
    assert starts(stack) == 1


def test_localhost_that_works_is_no_failure(stack: Stack, public: Edge) -> None:
    """Here cloudflared falls back to IPv4, and the proof from outside stands above the guess."""
    name = hostname_of(stack)
    stack.service("frontend", "answer=site", "echo", role="frontend")
    declare(stack, public, rules=rules_to(f"http://localhost:{stack.port('frontend')}", name))

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert verdict(stack) == "routed"


@contextmanager
def stale(stack: Stack, public: Edge, foreign: Path) -> Iterator[Any]:
    """A system service that was started when its file still named another port."""
    name = hostname_of(stack)
    stack.service("frontend", "answer=site", "echo", role="frontend")
    tunnel = declare(stack, public, rules=rules_to(f"http://127.0.0.1:{stack.port('other')}", name))
    with system_service(public, *options(stack), folder=foreign) as service:
        pid = service.pid
        # The product tells the two moments apart by a tenth of a second.
        until(lambda: _age(pid) > 0.5, "it has been running for a while")
        rules = rules_to(f"http://127.0.0.1:{stack.port('frontend')}", name)
        write_config(stack.folder / "config.yml", tunnel, rules, edge=public.address)
        yield service


def _age(pid: int) -> float:
    return time.time() - psutil.Process(pid).create_time()


def test_a_file_that_was_edited_since_is_read_by_one_restart(stack: Stack, public: Edge, foreign: Path) -> None:
    """With `restart` of the manifest: once, by that argv, and the deploy passes."""
    with stale(stack, public, foreign) as service:
        stack.manifest["tunnel"]["restart"] = service.restart

        done = stack.deploy()

        assert done.exit_code == 0, done.output
        assert verdict(stack) == "routed"
        assert service.orders == 1
        assert len(public.arrivals) == 2


def test_without_an_order_for_it_a_stale_one_is_named_and_left(stack: Stack, public: Edge, foreign: Path) -> None:
    """TUNNEL_STALE_CONFIG: the file, since when it runs; it is not ours to end."""
    with stale(stack, public, foreign) as service:
        pid = service.pid

        done = stack.deploy()

        assert_failed(stack, done, "TUNNEL_STALE_CONFIG", "config.yml", str(pid))
        assert lives(pid)
        assert service.orders == 0
        assert_not_restarted(stack, public)


def test_a_file_without_a_rule_for_the_name_is_refused_before_anything_starts(stack: Stack, public: Edge) -> None:
    """TUNNEL_NO_RULE, with the rule to add."""
    stack.service("frontend", "answer=site", "echo", role="frontend")
    rules = rules_to(f"http://127.0.0.1:{stack.port('frontend')}", "somebody-else.example.org")
    declare(stack, public, rules=rules)

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_NO_RULE", hostname_of(stack), rollback="not needed")
    assert hostname_of(stack) in "\n".join(report["failure"]["next_steps"])
    assert not public.arrivals


@pytest.mark.parametrize("rules", [[], [{"service": "http_status:404"}]], ids=["none", "catch-all"])
def test_pushed_rules_without_the_name_are_seen_in_the_live_ones(stack: Stack, public: Edge, rules: Any) -> None:
    """TUNNEL_NO_RULE: 503 with no rules, 404 by the catch-all; no restart."""
    stack.service("frontend", "answer=site", "echo", role="frontend")
    declare(stack, public, rules=rules, with_token=True)

    done = stack.deploy()

    assert_failed(stack, done, "TUNNEL_NO_RULE", hostname_of(stack))
    assert starts(stack) == 1


def test_the_moment_before_pushed_rules_come_is_waited_for(stack: Stack, public: Edge) -> None:
    """With a token cloudflared registers first and has its rules later: 503 meanwhile (measured), and no failure."""
    public.configuration_takes = 1.5
    declare(stack, public, with_token=True)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert verdict(stack) == "routed"
    assert starts(stack) == 1


# --- 45 to 48: what the public name shows, and who else is there ---


def test_an_edge_that_has_forgotten_it_takes_a_new_one(stack: Stack, public: Edge) -> None:
    """200 here and 530 there: one restart, and the deploy passes."""
    declare(stack, public)
    assert stack.deploy().exit_code == 0
    public.forget(public.connectors[0].id)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert len(public.arrivals) == 2


def test_a_name_that_leads_to_another_tunnel_is_restarted_once_and_named(stack: Stack, public: Edge) -> None:
    """TUNNEL_EDGE_DISAGREES: two starts, no more; the 530 is told."""
    declare(stack, public)
    public.route(hostname_of(stack), public.tunnel().id)

    done = stack.deploy()

    assert_failed(stack, done, "TUNNEL_EDGE_DISAGREES", hostname_of(stack), "530")
    assert starts(stack) == 2


def _without_rules(_asked: Any) -> Reply:
    return Reply(503)


def _older_release(_asked: Any) -> Reply:
    headers = {"Content-Type": "text/html", "X-Flawless-Deploy-Id": "20200101T000000Z-000000"}
    return Reply(200, b"<title>frontend</title>", headers)


@pytest.mark.parametrize("answer", [_without_rules, _older_release])
def test_another_connector_that_takes_its_share_is_named_with_it(stack: Stack, public: Edge, answer: Any) -> None:
    """TUNNEL_OTHER_CONNECTOR says how many of the answers were ours; a restart does not help."""
    tunnel = declare(stack, public)
    public.add_connector(tunnel.id, answer)

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_OTHER_CONNECTOR", hostname_of(stack))
    asked = public.asked(hostname_of(stack))
    assert {record.connector for record in asked} == {"", *public.arrivals}
    assert " of " in "\n".join([report["failure"]["cause"], *report["failure"]["evidence"]])
    assert starts(stack) == 1


def test_a_quick_tunnel_in_place_of_the_named_one_is_named(stack: Stack, public: Edge, foreign: Path) -> None:
    """TUNNEL_TEMPORARY: its address, its pid; it is neither ended nor taken for ours."""
    declare(stack, public)
    url = f"http://127.0.0.1:{stack.port('frontend')}"
    arguments = ("--metrics", stack.manifest["tunnel"]["metrics"], "tunnel", "--url", url)
    with cloudflared(public, *arguments, folder=foreign) as process:
        done = stack.deploy()

        assert_failed(stack, done, "TUNNEL_TEMPORARY", ".trycloudflare.com", str(process.pid))
        assert process.poll() is None
        assert_not_restarted(stack, public)


def test_a_frozen_one_of_ours_is_restarted_once(stack: Stack, public: Edge) -> None:
    """Another process, and the deploy passes."""
    declare(stack, public)
    assert stack.deploy().exit_code == 0
    pid = stack.pid("tunnel")
    assert pid is not None

    with frozen(pid):
        done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.pid("tunnel") not in {None, pid}
    assert not lives(pid)
    assert len(public.arrivals) == 2


def test_a_frozen_one_of_somebody_else_is_named_and_left(stack: Stack, public: Edge, foreign: Path) -> None:
    """TUNNEL_HUNG: its pid, and that only its owner may restart it."""
    declare(stack, public)
    with cloudflared(public, *options(stack), folder=foreign) as process, frozen(process.pid):
        done = stack.deploy()

        report = assert_failed(stack, done, "TUNNEL_HUNG", str(process.pid))
        steps = report["failure"]["next_steps"]
        assert "systemctl restart cloudflared" in steps[0]
        assert not [step for step in steps if "flawless tunnel restart" in step or "logs tunnel" in step]
        assert lives(process.pid)
        assert_not_restarted(stack, public)


def test_one_that_says_nothing_of_itself_keeps_ours_from_nothing(stack: Stack, public: Edge, foreign: Path) -> None:
    """Frozen, its token's file gone: whose tunnel it carries nobody can tell. Ours is started, and it is let be."""
    other = public.tunnel("other.example.org")
    token = foreign / "token"
    token.write_text(other.token)
    declare(stack, public)
    stack.manifest["tunnel"]["restart"] = ["touch", str(foreign / "restarted")]
    words = ("tunnel", "--token-file", str(token), "--metrics", f"127.0.0.1:{stack.port('theirs')}", "run")
    with cloudflared(public, *words, folder=foreign) as process:
        token.unlink()
        with frozen(process.pid):
            done = stack.deploy()

        assert done.exit_code == 0, done.output
        assert stack.pid("tunnel") is not None
        assert lives(process.pid)
        assert not (foreign / "restarted").exists()


# --- what was proved by mistake before ---


def test_the_tunnels_own_name_is_asked_whatever_else_is(stack: Stack, public: Edge) -> None:
    """A check of another address proves that one alone."""
    stack.timeouts(tunnel_ready="6s", public="3s")
    declare(stack, public, checks=[{"url": f"http://127.0.0.1:{stack.port('frontend')}/"}])
    public.behave(hostname_of(stack), answering(530))

    done = stack.deploy()

    assert done.exit_code == 1, done.output
    assert public.asked(hostname_of(stack))
    assert json.loads(stack.run("tunnel", "status", "--json").stdout)["code"] is not None


def test_a_twin_elsewhere_that_answers_the_same_is_counted_out(stack: Stack, public: Edge) -> None:
    """The page says of itself whose it is nowhere; but cloudflared here was handed none of the requests."""
    stack.timeouts(tunnel_ready="6s", public="3s")
    stack.service("frontend", "answer=site", role="frontend")
    _twin(stack, public)

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_OTHER_CONNECTOR", "cloudflared here was handed 0 requests")
    assert report["tunnel"]["verdict"] == "other connector"


def test_without_the_count_a_twin_would_be_believed(stack: Stack, public: Edge) -> None:
    """As the same bytes are no proof."""
    stack.service("frontend", "answer=site", role="frontend")
    _twin(stack, public)

    assert _named(stack, _COUNTS_NOTHING) == ""
    codes = {check["code"] for phase in stack.report()["phases"] for check in phase["checks"]}
    assert "PUBLIC_UNSIGNED" in codes, "it is said that no answer carries the deploy's id"


_COUNTS_NOTHING: Final = """
from flawless.wiring.tunnel import TunnelOf
async def nothing(self): return None
TunnelOf._handed = nothing
"""


def _twin(stack: Stack, public: Edge) -> None:
    declare(stack, public)
    elsewhere = public.tunnel()
    public.route(hostname_of(stack), elsewhere.id)
    public.add_connector(elsewhere.id, lambda asked: forwarded(stack.port("frontend"), asked))


def test_a_rollback_of_the_tunnel_ends_at_the_public_name(stack: Stack, public: Edge) -> None:
    """What ran before reads the file that is wrong now: that it runs again is not that the site is there again."""
    stack.timeouts(tunnel_ready="6s", public="3s")
    tunnel = declare(stack, public)
    assert stack.deploy().exit_code == 0
    wrong = rules_to(f"http://127.0.0.1:{stack.port('nobody')}", hostname_of(stack))
    write_config(stack.folder / "config.yml", tunnel, wrong, edge=public.address)

    done = stack.deploy()

    report = assert_failed(stack, done, "TUNNEL_ROUTE_MISMATCH", rollback="failed")
    assert f"{hostname_of(stack)} is DOWN now" in "\n".join(report["rollback"]["actions"])
    assert stack.run("status").exit_code == 2


def test_a_stack_without_a_port_behind_a_tunnel_is_told_so(stack: Stack, public: Edge) -> None:
    """A worker alone serves nobody: a verdict like any other, and no fault of our own."""
    stack.timeouts(tunnel_ready="6s", public="3s")
    declare(stack, public)
    del stack.manifest["services"]["frontend"]
    stack.service("mail", "silent", role="worker", port=None, ready=None)

    assert _named(stack, "pass") not in {"", "DEPLOY_INTERNAL", "DEPLOY_CHECK_HUNG"}


def test_a_frozen_one_with_an_order_for_it_is_restarted_by_that(stack: Stack, public: Edge, foreign: Path) -> None:
    """By `restart` of the manifest, once."""
    declare(stack, public)
    with system_service(public, *options(stack), folder=foreign) as service:
        stack.manifest["tunnel"]["restart"] = service.restart
        with frozen(service.pid):
            done = stack.deploy()

        assert done.exit_code == 0, done.output
        assert service.orders == 1


# --- each of them is shown to fail when what sees it is blind ---


def _blind(observation: str, state: str, outcome: str = "Passed()") -> str:
    """The product, with one observation of this machine that says always the same."""
    return f"""
from flawless.checks.tunnel import observations as tunnel
from flawless.core.check import Passed
from flawless.core.tunnel import *
tunnel.{observation} = lambda *_: Seen({state}, {outcome})
"""


_BLIND_TO_THE_LINE: Final = _blind("_connection", "Connection.READY") + _blind("_metrics", "Metrics.ANSWERS")
"""Without a line it may not even open its metrics port."""

_BLIND_OUTSIDE: Final = """
from flawless.wiring.tunnel import TunnelOf
TunnelOf._why_not = lambda self, local: "nobody asks"
"""
_NEVER_RESTARTS: Final = """
from flawless.deploy.steps.tunnel import VerifyTunnel
VerifyTunnel._restart_helps = lambda self, failed: False
"""
_ALWAYS_RESTARTS: Final = """
from flawless.deploy.steps.tunnel import VerifyTunnel
VerifyTunnel._restart_helps = lambda self, failed: True
"""
_UNCHECKED: Final = """
from flawless.checks.tunnel.config import TunnelConfigured
from flawless.core.check import Passed
async def passes(self, limit): return Passed()
TunnelConfigured.ask = passes
"""


def _named(stack: Stack, mutation: str) -> str:
    """The code with which the blind product fails; nothing when it calls the deploy good."""
    done = stack.deploy(mutation=mutation)
    return "" if done.exit_code == 0 else str(stack.failure()["code"])


def _other_port(stack: Stack, public: Edge) -> None:
    stack.service("frontend", "answer=site", "echo", role="frontend")
    declare(stack, public, rules=rules_to(f"http://127.0.0.1:{stack.port('other')}", hostname_of(stack)))


def _ipv6(stack: Stack, public: Edge) -> None:
    stack.service("frontend", "answer=site", "echo", role="frontend")
    service = f"http://localhost:{stack.port('frontend')}"
    declare(stack, public, rules=rules_to(service, hostname_of(stack)), stand_in="ipv6")


def _no_rules(stack: Stack, public: Edge) -> None:
    declare(stack, public, rules=[], with_token=True)


def _unauthorized(stack: Stack, public: Edge) -> None:
    declare(stack, public)
    public.registration = Registration.UNAUTHORIZED


def _disconnected(stack: Stack, public: Edge) -> None:
    declare(stack, public)
    public.disconnect()


def _elsewhere(stack: Stack, public: Edge) -> None:
    declare(stack, public)
    public.route(hostname_of(stack), public.tunnel().id)


def _shared(stack: Stack, public: Edge) -> None:
    public.add_connector(declare(stack, public).id, _older_release)


@pytest.mark.parametrize(
    ("world", "code", "mutation"),
    [
        (_other_port, "TUNNEL_ROUTE_MISMATCH", _blind("route_seen", "Route.RIGHT")),
        (_ipv6, "TUNNEL_IPV6_ORIGIN", _blind("route_seen", "Route.RIGHT")),
        (_no_rules, "TUNNEL_NO_RULE", _blind("route_seen", "Route.RIGHT")),
        (_unauthorized, "TUNNEL_CREDENTIALS", _blind("_connection", "Connection.READY")),
        (_disconnected, "TUNNEL_NOT_CONNECTED", _BLIND_TO_THE_LINE),
        (_elsewhere, "TUNNEL_EDGE_DISAGREES", _BLIND_OUTSIDE),
        (_shared, "TUNNEL_OTHER_CONNECTOR", _BLIND_OUTSIDE),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("TUNNEL") else "",
)
def test_a_blind_product_names_something_else(
    stack: Stack, public: Edge, world: Callable[[Stack, Edge], None], code: str, mutation: str
) -> None:
    """The scenarios above hold by their observation, not by luck; and no blindness makes it say yes."""
    stack.timeouts(tunnel_ready="2s", public="1s")
    world(stack, public)

    assert _named(stack, mutation) not in {"", code}


@pytest.mark.parametrize(
    ("arguments", "code", "mutation"),
    [
        (["tunnel", "--url", "{url}"], "TUNNEL_TEMPORARY", _blind("_kind", "Kind.EXPECTED")),
        ([], "TUNNEL_HUNG", _blind("_metrics", "Metrics.ANSWERS")),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("TUNNEL") else "",
)
def test_a_blind_product_takes_what_somebody_else_runs_for_something_else(
    stack: Stack, public: Edge, foreign: Path, arguments: list[str], code: str, mutation: str
) -> None:
    """The same for a quick tunnel, and for a frozen process."""
    stack.timeouts(tunnel_ready="2s", public="1s")
    declare(stack, public)
    url = f"http://127.0.0.1:{stack.port('frontend')}"
    words = [word.format(url=url) for word in arguments] or list(options(stack))
    is_frozen = code == "TUNNEL_HUNG"
    with cloudflared(public, *words, folder=foreign) as process, frozen(process.pid) if is_frozen else nullcontext():
        assert _named(stack, mutation) not in {"", code}


def test_a_product_blind_for_the_files_age_restarts_nothing(stack: Stack, public: Edge, foreign: Path) -> None:
    """A file that was edited is then a rule that leads elsewhere."""
    with stale(stack, public, foreign) as service:
        stack.manifest["tunnel"]["restart"] = service.restart

        assert _named(stack, _blind("file_seen", "File.CURRENT")) == "TUNNEL_ROUTE_MISMATCH"
        assert service.orders == 0


def test_a_product_that_never_restarts_does_not_cure_a_frozen_one(stack: Stack, public: Edge) -> None:
    """What `once` is for."""
    declare(stack, public)
    assert stack.deploy().exit_code == 0
    pid = stack.pid("tunnel")
    assert pid is not None

    with frozen(pid):
        assert _named(stack, _NEVER_RESTARTS) == "TUNNEL_HUNG"
        assert stack.pid("tunnel") == pid


def test_a_product_that_always_restarts_does_so_for_refused_credentials(stack: Stack, public: Edge) -> None:
    """What `no` is for: the count of starts sees it."""
    _unauthorized(stack, public)

    assert _named(stack, _ALWAYS_RESTARTS) == "TUNNEL_CREDENTIALS"
    assert starts(stack) == 2


def test_without_its_preflight_check_a_bad_configuration_comes_to_light_behind_a_started_service(
    stack: Stack, public: Edge
) -> None:
    """Too late: the frontend had been started by then."""
    declare(stack, public)
    _no_catch_all(stack, stack.folder / "config.yml")

    assert _named(stack, _UNCHECKED) != ""
    assert stack.failure()["phase"] == "TUNNEL_START_OR_VERIFY"
    assert stack.log("frontend") or stack.record("frontend")


def test_a_product_that_does_not_look_for_the_process_calls_it_something_else(stack: Stack, public: Edge) -> None:
    """Nobody runs it: then that is what has to be said, and by nothing else it can be."""
    declare(stack, public)
    blind = """
from flawless.checks.tunnel import observations
from flawless.core.tunnel import *
nobody = observations._nobody
observations._nobody = lambda *given: replace(nobody(*given), process=Seen(Process.OURS, Passed()))
from dataclasses import replace
from flawless.core.check import Passed
"""
    told = json.loads(stack.run("tunnel", "status", "--json").stdout)
    assert told["code"] == "TUNNEL_NOT_RUNNING"
    assert json.loads(stack.run("tunnel", "status", "--json", mutation=blind).stdout)["code"] != "TUNNEL_NOT_RUNNING"


def test_a_product_that_does_not_ask_the_origin_blames_something_else(stack: Stack, public: Edge) -> None:
    """The tunnel is well, and the service behind it is not: that is seen at the service's own address."""
    declare(stack, public)
    assert stack.deploy().exit_code == 0
    assert stack.run("stop", "frontend").exit_code == 0
    blind = """
from flawless.checks.tunnel import observations
from flawless.core.check import Passed
from flawless.core.tunnel import *
async def answers(*_): return Seen(Origin.ANSWERS, Passed())
observations.origin_seen = answers
observations.route_seen = lambda *_: Seen(Route.RIGHT, Passed())
from flawless.wiring.tunnel import TunnelOf
TunnelOf._why_not = lambda self, local: "nobody asks"
"""
    told = json.loads(stack.run("tunnel", "status", "--json").stdout)
    assert told["code"] == "TUNNEL_ORIGIN_DOWN"
    assert json.loads(stack.run("tunnel", "status", "--json", mutation=blind).stdout)["code"] != "TUNNEL_ORIGIN_DOWN"
