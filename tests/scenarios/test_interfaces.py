"""Stripe, OpenAI and Cloudflare through whole deploys, against far ends that do as the real ones. FAILURES 55-57."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from support.canaries import KEY_CANARY, found_in
from support.far_ends import (
    GIGABYTE,
    UNKNOWN_HOST,
    VARIABLES,
    Cloudflare,
    FarEnd,
    OpenAI,
    Stripe,
    cloudflare,
    openai,
    stripe,
    trust,
    witness,
)
from support.stacks import Stack, until
from support.verdicts import assert_failed, assert_gone

KEYS: Final = {
    "STRIPE_SECRET_KEY": "sk_test_" + KEY_CANARY,
    "OPENAI_API_KEY": "sk-" + KEY_CANARY[::-1],
    "CLOUDFLARE_API_TOKEN": "cf." + KEY_CANARY.swapcase(),
}


class World:
    """A stack with one service, and the far ends that its manifest declares."""

    def __init__(self, stack: Stack, resources: ExitStack) -> None:
        self.stack = stack
        self.far_ends: dict[str, FarEnd] = {}
        self._resources = resources
        stack.backend()
        stack.manifest["external"] = {}
        stack.timeouts(external="5s")

    def declare(self, name: str, *, tls: bool = False, **keys: Any) -> FarEnd:
        """Declares the interface, with its key in the environment."""
        variable = VARIABLES[name]
        self.stack.environment[variable] = KEYS[variable]
        self.stack.secrets.add(KEYS[variable])
        opened = {"stripe": stripe, "openai": openai, "cloudflare": cloudflare}[name](KEYS[variable], tls=tls)
        far_end: FarEnd = self._resources.enter_context(opened)
        noun = "token" if name == "cloudflare" else "key"
        self.stack.manifest["external"][name] = {noun: f"${{{variable}}}", "base_url": far_end.url, **keys}
        self.far_ends[name] = far_end
        return far_end

    def all_three(self, **keys: Any) -> tuple[Stripe, OpenAI, Cloudflare]:
        one, two, three = (self.declare(name, **keys) for name in VARIABLES)
        assert isinstance(one, Stripe)
        assert isinstance(two, OpenAI)
        assert isinstance(three, Cloudflare)
        return one, two, three

    def outcome(self, id_: str) -> dict[str, Any]:
        """That of the report's `external`."""
        [found] = [one for one in self.stack.report()["external"] if one["id"] == id_]
        return dict(found)

    def incidents(self) -> list[dict[str, Any]]:
        """The open ones."""
        return self.stack.incidents()


@pytest.fixture
def world(stack: Stack) -> Iterator[World]:
    with ExitStack() as resources:
        yield World(stack, resources)


# --- all is well ---


def test_three_interfaces_that_accept_their_keys(world: World) -> None:
    """Exit 0; each is in the report with its latency and its base_url, which the text report shows; one GET each."""
    far_ends = world.all_three()
    done = world.stack.deploy()
    assert done.exit_code == 0, done.output
    report = world.stack.report()
    assert [(one["id"], one["status"]) for one in report["external"]] == [
        ("external.stripe", "PASS"),
        ("external.openai", "PASS"),
        ("external.cloudflare", "PASS"),
    ]
    text = max((world.stack.folder / "logs").glob("deploy-report-*.txt")).read_text()
    for one, far_end in zip(report["external"], far_ends, strict=True):
        assert one["latency_ms"] > 0
        assert one["base_url"] == far_end.url
        assert far_end.url in text
        assert [request.method for request in far_end.requests] == ["GET"]
    assert world.incidents() == []
    assert phase(report, "EXTERNAL_VERIFY")["status"] == "passed"


def test_they_cost_the_deploy_no_time(world: World) -> None:
    """Three that take a second each: when they are judged they have long answered, beside what takes time anyway."""
    for far_end in world.all_three():
        far_end.delay = 1.0
    world.stack.backend("wait=2")
    done = world.stack.deploy()
    assert done.exit_code == 0, done.output
    verify = phase(world.stack.report(), "EXTERNAL_VERIFY")
    assert [one["status"] for one in verify["checks"]] == ["PASS"] * 3
    assert all(one["latency_ms"] >= 1000 for one in verify["checks"])
    assert verify["duration_ms"] < 500


def test_without_asking_them_early_the_deploy_would_wait(world: World) -> None:
    """A product that asks when it judges takes the second."""
    for far_end in world.all_three():
        far_end.delay = 1.0
    world.stack.backend("wait=2")
    assert world.stack.deploy(mutation=_ASKS_LATE).exit_code == 0
    assert phase(world.stack.report(), "EXTERNAL_VERIFY")["duration_ms"] >= 1000


# --- every row of 55 ---

REFUSED: Final = {"401": (401, "API_UNAUTHORIZED"), "403": (403, "API_FORBIDDEN")}
OUT: Final[dict[str, tuple[int | str, str, int, tuple[str, ...]]]] = {
    "429": (429, "API_RATE_LIMITED", 1, ("429",)),
    "5xx": (503, "API_UNAVAILABLE", 2, ("503",)),
    "timeout": ("hang", "API_TIMEOUT", 2, ("within 0.4 s",)),
    "one byte a second": ("drip", "API_TIMEOUT", 2, ("within 0.4 s",)),
    "redirect": ("redirect", "API_UNEXPECTED", 1, ("a redirect to http://127.0.0.1:",)),
    "html": ("html", "API_UNEXPECTED", 1, ("text/html",)),
    "a body of 1 GB": ("endless", "API_UNEXPECTED", 1, ("a body without end",)),
}


@pytest.mark.parametrize(("row", "name"), [*(("401", name) for name in VARIABLES), ("403", "stripe")])
def test_a_key_that_is_refused_fails_the_deploy(world: World, row: str, name: str) -> None:
    """Exit 1, the code, the host, the variable and the file; everything as before; one CRITICAL incident of it."""
    stack = world.stack
    stack.backend("name=old", ready=ALIVE)
    assert stack.deploy().exit_code == 0
    status, code = REFUSED[row]
    far_end = world.declare(name)
    far_end.fail_with(status)
    stack.backend("name=new", ready=ALIVE)

    done = stack.deploy()

    rollback = "done" if any(event["event"] == "action.intended" for event in stack.journal()) else "not needed"
    report = assert_failed(stack, done, code, far_end.url.removeprefix("http://"), str(status), rollback=rollback)
    told = "\n".join(report["failure"]["next_steps"])
    assert VARIABLES[name] in told
    assert "process environment" in told
    assert stack.ask("backend")["service"] == "old"
    assert set(far_end.paths) <= {"/v1/account", "/v1/balance", "/v1/models", "/client/v4/user/tokens/verify"}
    [incident] = world.incidents()
    assert (incident["severity"], incident["category"]) == ("CRITICAL", "API")
    assert incident["id"] == report["incident_id"]


@pytest.mark.parametrize("row", list(OUT))
def test_an_outage_of_theirs_does_not_take_back_a_good_release(world: World, row: str) -> None:
    """Exit 2, the release serves; one question, and one more only where it helps; one WARN incident with next steps."""
    kind, code, asked, said = OUT[row]
    far_end = world.declare("openai", timeout="0.4s" if "0.4" in said[0] else "5s")
    with witness() as other:
        far_end.fail_with(kind, to=f"{other.url}/v1/models")
        done = world.stack.deploy()
        assert other.connections == 0
    assert done.exit_code == 2, done.output
    outcome = world.outcome("external.openai")
    assert (outcome["status"], outcome["code"], outcome["optional"]) == ("FAIL", code, False)
    assert all(one in "\n".join(outcome["evidence"]) for one in (*said, far_end.url.removeprefix("http://")))
    assert len(far_end.requests) == asked
    assert far_end.sent < GIGABYTE // 32
    assert code in done.stdout
    assert world.stack.is_served("backend")
    check_warned(world, code)


def test_a_name_that_does_not_resolve(world: World) -> None:
    """API_DNS, exit 2, with the name; nothing arrived anywhere."""
    world.declare("stripe")
    world.stack.manifest["external"]["stripe"]["base_url"] = UNKNOWN_HOST
    assert world.stack.deploy().exit_code == 2
    outcome = world.outcome("external.stripe")
    assert outcome["code"] == "API_DNS"
    assert "api.interface.invalid" in outcome["evidence"][0]
    check_warned(world, "API_DNS")


def test_a_certificate_nobody_vouches_for_gets_no_key(world: World) -> None:
    """API_TLS, exit 2, and not one request; the same far end, vouched for, passes."""
    far_end = world.declare("cloudflare", tls=True)
    assert world.stack.deploy().exit_code == 2
    assert world.outcome("external.cloudflare")["code"] == "API_TLS"
    assert far_end.requests == []
    check_warned(world, "API_TLS")
    world.stack.environment["SSL_CERT_FILE"] = str(trust(far_end, world.stack.folder))
    assert world.stack.deploy().exit_code == 0
    assert len(far_end.requests) == 1
    assert world.incidents() == []


def check_warned(world: World, code: str) -> None:
    """One incident, WARN, of category API, with what to do; the report names it."""
    [incident] = world.incidents()
    assert (incident["severity"], incident["category"]) == ("WARN", "API")
    assert incident["id"] == world.stack.report()["incident_id"]
    shown = json.loads(world.stack.run("incidents", "show", incident["id"], "--json").stdout)
    told = json.dumps(shown)
    assert code in told
    assert f"flawless explain {code}" in told


# --- the one retry ---


def test_one_bad_answer_is_asked_again_and_forgotten(world: World) -> None:
    """503 once: exit 0, asked twice, no incident."""
    far_end = world.declare("stripe")
    far_end.fail_with(503, times=1)
    assert world.stack.deploy().exit_code == 0
    assert far_end.paths == ["/v1/account", "/v1/account"]
    assert world.incidents() == []


def test_retry_after_is_waited_for(world: World) -> None:
    """429 with a second: asked again after that second, not sooner."""
    far_end = world.declare("openai")
    far_end.fail_with(429, times=1, retry_after="1")
    assert world.stack.deploy().exit_code == 0
    assert len(far_end.requests) == 2
    first, second = (request.at for request in far_end.requests)
    assert 1.0 <= second - first < 4.0


def test_a_retry_after_of_an_hour_is_not_waited_for(world: World) -> None:
    """It does not fit into the limit, so it is not asked again and the deploy goes on."""
    far_end = world.declare("openai")
    far_end.fail_with(429, retry_after="3600")
    done = world.stack.deploy()
    assert done.exit_code == 2, done.output
    assert len(far_end.requests) == 1
    assert "Retry-After: 3600 s" in "\n".join(world.outcome("external.openai")["evidence"])
    assert done.seconds < 20


# --- who decides what it costs ---


@pytest.mark.parametrize("kind", [401, 503])
def test_optional_makes_the_deploy_partial(world: World, kind: int) -> None:
    """Refused or out: exit 2, said as optional, the release serves, and a WARN incident is open until it is well."""
    far_end = world.declare("cloudflare", optional=True)
    far_end.fail_with(kind)
    done = world.stack.deploy()
    assert done.exit_code == 2, done.output
    assert world.outcome("external.cloudflare")["optional"] is True
    [incident] = world.incidents()
    assert (incident["severity"], incident["category"]) == ("WARN", "API")
    again = world.stack.deploy()
    assert again.exit_code == 2
    assert [one["id"] for one in world.incidents()] == [incident["id"]], "the same fault, seen again"
    far_end.heal()
    assert world.stack.deploy().exit_code == 0
    assert world.incidents() == []


def test_strict_fails_the_deploy_for_an_outage(world: World) -> None:
    """Exit 1 and the way back, because the manifest says so; one incident, and no WARN beside it."""
    far_end = world.declare("openai", strict=True)
    far_end.fail_with(503)
    done = world.stack.deploy()
    assert_failed(world.stack, done, "API_UNAVAILABLE", "503")
    assert_gone(world.stack, "backend")
    [incident] = world.incidents()
    assert incident["severity"] == "CRITICAL"


def test_one_refused_and_one_out_are_two_causes(world: World) -> None:
    """The failure is the key's, and has the CRITICAL incident; the outage has a WARN of its own."""
    one, two, _ = world.all_three()
    one.fail_with(401)
    two.fail_with(503)
    one.delay = 0.6  # judged in EXTERNAL_VERIFY, when both are known
    done = world.stack.deploy()
    assert done.exit_code == 1
    assert world.stack.failure()["code"] == "API_UNAUTHORIZED"
    found = {incident["severity"]: incident["summary"] for incident in world.incidents()}
    assert found == {"CRITICAL": "Stripe refuses the key", "WARN": "OpenAI is out of order"}


def test_two_refused_are_told_together(world: World) -> None:
    """The first gives the code, the other stands beside it."""
    one, two, _ = world.all_three()
    one.fail_with(401)
    two.fail_with(403)
    world.stack.deploy()
    failure = world.stack.failure()
    if failure["phase"] == "EXTERNAL_VERIFY":
        assert any("also API_FORBIDDEN: OpenAI knows the key" in line for line in failure["evidence"])
    assert failure["code"] in {"API_UNAUTHORIZED", "API_FORBIDDEN"}


def test_a_refusal_that_is_known_in_time_starts_no_backend(world: World, database_url: str) -> None:
    """The database takes a while, and by then the answer is there: no keeper, no log, nothing to put back."""
    stack = world.stack
    far_end = world.declare("stripe")
    far_end.fail_with(401)
    stack.manifest["database"] = {"url": database_url, "migrate": migrating_until(stack.folder / "answered")}
    far_end.on_request = (stack.folder / "answered").touch
    done = stack.deploy()
    report = assert_failed(stack, done, "API_UNAUTHORIZED", "401", rollback="not needed")
    assert report["failure"]["phase"] in {"MIGRATE_VERIFY", "BACKEND_START"}
    assert stack.record("backend") is None
    assert world.outcome("external.stripe")["code"] == "API_UNAUTHORIZED"


# --- 56: what is not asked ---


def test_what_is_not_declared_is_said_to_be_so(world: World) -> None:
    """Skipped: not declared; exit 0."""
    done = world.stack.deploy()
    assert done.exit_code == 0
    verify = phase(world.stack.report(), "EXTERNAL_VERIFY")
    assert (verify["status"], verify["because"]) == ("skipped", "not declared")


def test_what_is_disabled_is_skipped_with_its_reason(world: World) -> None:
    """SKIP, never PASS; exit 0; and nobody is asked."""
    far_end = world.declare("openai", enabled=False, reason="not bought yet")
    done = world.stack.deploy()
    assert done.exit_code == 0, done.output
    outcome = world.outcome("external.openai")
    assert (outcome["status"], outcome["evidence"]) == ("SKIP", ["disabled: not bought yet"])
    assert "not bought yet" in done.output
    assert far_end.connections == 0


@pytest.mark.parametrize(("written", "exit_code"), [("${CLOUDFLARE_API_TOKEN:-}", 0), ("${CLOUDFLARE_API_TOKEN}", 2)])
def test_an_optional_interface_without_a_key(world: World, written: str, exit_code: int) -> None:
    """SKIP with the reason. Where the manifest says that the token may be absent, that changes nothing; else exit 2."""
    far_end = world.declare("cloudflare", optional=True)
    del world.stack.environment["CLOUDFLARE_API_TOKEN"]
    world.stack.manifest["external"]["cloudflare"]["token"] = written
    done = world.stack.deploy()
    assert done.exit_code == exit_code, done.output
    outcome = world.outcome("external.cloudflare")
    assert outcome["status"] == "SKIP"
    assert "no token is set" in outcome["evidence"][0]
    assert far_end.connections == 0
    assert world.incidents() == []


def test_a_required_interface_without_a_key_fails(world: World) -> None:
    """Declared, not optional, and blank: ENV_BLANK before anything is started, and nobody is asked."""
    far_end = world.declare("stripe")
    world.stack.environment["STRIPE_SECRET_KEY"] = ""
    world.stack.manifest["external"]["stripe"]["key"] = "${STRIPE_SECRET_KEY:-}"
    done = world.stack.deploy()
    assert_failed(world.stack, done, "ENV_BLANK", "external.stripe.key", "flawless.toml:", rollback="not needed")
    assert world.stack.record("backend") is None
    assert far_end.connections == 0


# --- 57: a key goes to its own host, and into no output ---


def test_each_key_comes_to_its_own_host_alone(world: World) -> None:
    """What the three far ends received: each its own key, in one header, once a request, and none of another's."""
    world.all_three()
    assert world.stack.deploy().exit_code == 0
    for name, far_end in world.far_ends.items():
        assert far_end.requests
        received = {f"request {number}": request.raw for number, request in enumerate(far_end.requests)}
        for owner, variable in VARIABLES.items():
            assert bool(found_in(received, KEYS[variable])) is (owner == name), (name, owner)
        for request in far_end.requests:
            assert request.headers["authorization"] == f"Bearer {far_end.key}"


@pytest.mark.parametrize("kind", [None, 401, 503, "redirect"])
def test_no_output_shows_a_key(world: World, kind: int | str | None) -> None:
    """In fifteen spellings: not on the terminal, in no report, journal, log, incident; nor part of one they repeat."""
    with witness() as other:
        for far_end in world.all_three():
            if kind is not None:
                far_end.fail_with(kind, to=f"{other.url}/?key={far_end.key}")
        said = [world.stack.deploy("--verbose")]
        assert other.connections == 0
    said += [world.stack.run(*words.split()) for words in ("incidents list --json", "reports show last", "config show")]
    places = world.stack.readable(*said)
    for key in KEYS.values():
        own = [f"environment of {world.stack.pid('backend')}"]
        assert found_in(places, key, allowed=own) == []
        middle = key[5:12].encode()
        assert not [place for place, content in places.items() if place not in own and middle in content]


def test_another_machine_is_sent_no_key_in_the_clear(world: World) -> None:
    """http:// to a host that is not this one is refused with the manifest: exit 78, and the address is not repeated."""
    far_end = world.declare("stripe")
    world.stack.manifest["external"]["stripe"]["base_url"] = "${PROXY}"
    world.stack.environment["PROXY"] = "http://proxy.example.org"
    done = world.stack.deploy()
    assert done.exit_code == 78, done.output
    assert "external.stripe.base_url" in done.output
    assert far_end.connections == 0


# --- what else they are asked ---


def test_webhook_endpoints_that_do_not_lead_here_are_a_warning(world: World) -> None:
    """API_WEBHOOK_MISSING, exit 0, no incident; with an endpoint on the stack's own address it passes."""
    far_end = world.declare("stripe", webhook_secret="whsec_t1Zdp7dc4eC39HqLyjWDarjt0aBcDeFg")
    assert isinstance(far_end, Stripe)
    far_end.webhooks = ["https://old.example.org/hook"]
    world.stack.manifest["base_url"] = "https://staging.example.org"
    done = world.stack.deploy()
    assert done.exit_code == 0, done.output
    outcome = world.outcome("external.webhook")
    assert (outcome["status"], outcome["code"]) == ("WARN", "API_WEBHOOK_MISSING")
    assert "API_WEBHOOK_MISSING" in done.output
    assert world.incidents() == []
    far_end.webhooks.append("https://staging.example.org/api/stripe")
    assert world.stack.deploy().exit_code == 0
    assert world.outcome("external.webhook")["status"] == "PASS"


def test_a_record_that_does_not_lead_to_the_tunnel(world: World) -> None:
    """PUBLIC_NOT_ON_TUNNEL with what is there and what should be; the release stays, exit 2."""
    far_end = world.declare("cloudflare")
    assert isinstance(far_end, Cloudflare)
    world.stack.manifest["external"]["cloudflare"] |= {"account": far_end.account, "tunnel": far_end.tunnel}
    world.stack.manifest["base_url"] = f"https://{far_end.hostname}"
    far_end.records = [{"type": "A", "name": far_end.hostname, "content": "192.0.2.7", "proxied": True}]
    done = world.stack.deploy()
    assert done.exit_code == 2, done.output
    outcome = world.outcome("external.dns")
    assert outcome["code"] == "PUBLIC_NOT_ON_TUNNEL"
    assert "A 192.0.2.7, proxied" in "\n".join(outcome["evidence"])
    assert world.outcome("external.tunnel")["status"] == "PASS"


# --- the run that ends early ---


def test_a_deploy_that_fails_does_not_wait_for_them(world: World) -> None:
    """The backend ends at once, the far end hangs: the verdict does not take its time-out, and nothing goes on."""
    far_end = world.declare("openai", timeout="30s")
    far_end.fail_with("hang")
    world.stack.backend("exit=3")
    done = world.stack.deploy()
    assert_failed(world.stack, done, "SERVICE_EXITED", "exit status 3")
    assert done.seconds < 20
    assert "never retrieved" not in done.output


def test_an_interruption_does_not_wait_for_them(world: World) -> None:
    """Ctrl-C while the deploy waits for an answer: it is put back at once, exit 130, and nobody is asked any more."""
    far_end = world.declare("openai", timeout="30s")
    far_end.fail_with("hang")
    before = time.monotonic()
    with world.stack.deploying() as process:
        until(lambda: waits(world.stack), "the deploy waits in EXTERNAL_VERIFY")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert time.monotonic() - before < 30
    assert len(far_end.requests) == 1
    assert world.stack.failure()["code"] == "DEPLOY_INTERRUPTED"
    assert_gone(world.stack, "backend")


def waits(stack: Stack) -> bool:
    journals = list((stack.folder / ".flawless/journal").glob("*.jsonl"))
    return bool(journals) and b'"phase.started","phase":"EXTERNAL_VERIFY"' in journals[0].read_bytes()


# --- each check is what finds it ---

_BLIND: Final = """
from flawless.checks.interfaces.api import Api, Document
from flawless.core.check import Passed
from flawless.checks.interfaces import stripe
from flawless.checks.interfaces import openai
from flawless.checks.interfaces import cloudflare
async def ask(self, limit):
    await self.api.get("/", self.api.until(limit))
    return Passed(("asked",))
for kind in (stripe.StripeAcceptsKey, openai.OpenAIAcceptsKey, cloudflare.CloudflareAcceptsToken):
    kind.ask = ask
"""
_FOLLOWS: Final = """
from flawless.adapters import http
import httpx2
def client(*, verify):
    return httpx2.AsyncClient(verify=verify, trust_env=False, follow_redirects=True, timeout=None)
http._client = client
"""
_ASKS_LATE: Final = """
from flawless.deploy.steps.external import Interfaces, VerifyInterfaces
start, verify = Interfaces.start, Interfaces.verify
Interfaces.start = lambda self, run: None
async def late(self, run):
    start(self, run)
    return await verify(self, run)
Interfaces.verify = late
"""
_ASKS_ONCE: Final = """
from flawless.deploy.steps import external
external._OneRetry.asked = property(lambda self: 2, lambda self, value: None)
"""
_TAKES_ANY: Final = """
from flawless.checks.interfaces import cloudflare
from flawless.checks.interfaces import stripe
stripe.StripeSendsEvents._is_ours = lambda self, url: True
cloudflare._leads_to = lambda record, wanted: True
"""
_TOLERATES_ALL: Final = """
from flawless.checks.interfaces import declared as interfaces
interfaces.REFUSALS.clear()
"""
_NO_INCIDENT: Final = """
from flawless.deploy import deployment
deployment.is_out = lambda outcome: False
"""


@pytest.mark.parametrize("name", list(VARIABLES))
def test_without_the_check_a_refused_key_would_be_called_live(world: World, name: str) -> None:
    """A product that does not read the answer says yes."""
    world.declare(name).fail_with(401)
    assert world.stack.deploy(mutation=_BLIND).exit_code == 0


def test_without_the_one_retry_a_bad_moment_would_cost_the_deploy_its_zero(world: World) -> None:
    """A product that asks once calls it an outage."""
    far_end = world.declare("stripe")
    far_end.fail_with(503, times=1)
    assert world.stack.deploy(mutation=_ASKS_ONCE).exit_code == 2
    assert len(far_end.requests) == 1


def test_without_the_further_questions_nobody_would_miss_the_endpoint_or_the_record(world: World) -> None:
    """A product that takes whatever is listed for ours passes both."""
    one = world.declare("stripe", webhook_secret="whsec_t1Zdp7dc4eC39HqLyjWDarjt0aBcDeFg")
    far_end = world.declare("cloudflare")
    assert isinstance(one, Stripe)
    assert isinstance(far_end, Cloudflare)
    one.webhooks = ["https://old.example.org/hook"]
    far_end.records = [{"type": "A", "name": "app.staging.example.org", "content": "192.0.2.7", "proxied": True}]
    world.stack.manifest["external"]["cloudflare"] |= {"account": far_end.account, "tunnel": far_end.tunnel}
    world.stack.manifest["base_url"] = "https://app.staging.example.org"
    assert world.stack.deploy(mutation=_TAKES_ANY).exit_code == 0
    assert [world.outcome(f"external.{name}")["status"] for name in ("webhook", "dns")] == ["PASS", "PASS"]


def test_without_the_judgement_a_refusal_would_be_an_outage(world: World) -> None:
    """A product that tolerates everything leaves the new release with a key that nobody accepts."""
    world.declare("stripe").fail_with(401)
    assert world.stack.deploy(mutation=_TOLERATES_ALL).exit_code == 2


def test_a_product_that_follows_redirects_is_seen_by_the_witness(world: World) -> None:
    """The scenarios above would find a request at the other host."""
    with witness() as other:
        world.declare("openai").fail_with("redirect", to=f"{other.url}/v1/models")
        world.stack.deploy(mutation=_FOLLOWS)
        assert other.requests


def test_without_the_incident_nobody_would_remember_the_outage(world: World) -> None:
    """The WARN is what the deployment opens for what only made it partial."""
    world.declare("openai").fail_with(503)
    assert world.stack.deploy(mutation=_NO_INCIDENT).exit_code == 2
    assert world.incidents() == []


# --- how it is looked at ---

ALIVE: Final = [{"http": "/health/live", "json": {"status": "alive"}}]


def phase(report: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in report["phases"] if one["name"] == name]
    return dict(found)


def migrating_until(path: Path) -> dict[str, Any]:
    """Migrations that take as long as it takes until the file is there."""
    wait = f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)"
    return {"tool": "command", "apply": [sys.executable, "-c", wait]}
