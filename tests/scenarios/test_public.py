"""The public name through whole deploys, behind an edge that behaves like the real one. FAILURES 49 to 54.

Each says which link is broken, and nothing is restarted for it. No cloudflared runs here: what carries the name to this
machine is the edge's own, so that nothing but the public name is looked at. The tunnel has its own scenarios.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from support import edge_behaviours as behaviours
from support.dns_server import dns_server
from support.edge import Asked, Behaviour, Certificate, Edge, Reply, edge, page
from support.stacks import Stack
from support.tunnels import forwarded
from support.verdicts import assert_failed, assert_gone

HOSTNAME: Final = "app.example.org"
OLDER: Final = "20261120T101500Z-0a1b2c"


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(tmp_path_factory.mktemp("edge")) as one:
        yield one


@pytest.fixture(autouse=True)
def limits(stack: Stack) -> None:
    """Short, and with the fewest requests: what they mean is tried here, not how many it takes."""
    stack.timeouts(public="4s")


def prepared(stack: Stack, public: Edge) -> None:
    """A frontend that signs its answers, and a public name that leads to it."""
    stack.service("frontend", "answer=site", "echo", role="frontend")
    tunnel = public.tunnel(HOSTNAME)
    public.add_connector(tunnel.id, lambda asked: forwarded(stack.port("frontend"), asked))
    stack.manifest["public"] = {
        "checks": [{"url": public.url(HOSTNAME), "status": 200}],
        "resolve": public.resolve,
        "ca_file": str(public.ca_file),
        "requests": 20,
    }


def assert_nothing_restarted(stack: Stack) -> None:
    assert stack.report()["recovery"]["attempted"] is False


def with_assets(_public: Edge, asked: Asked, ask: Callable[[], Reply]) -> Reply:
    """The page of what lies behind, which loads a script and a style more; all are there."""
    reply = ask() if asked.path == "/" else Reply(200, b"1")
    if asked.path == "/":
        tags = b'<script src="/app.js"></script><link rel="stylesheet" href="/app.css">'
        return Reply(reply.status, reply.body + tags, reply.headers, reply.connector)
    kind = "text/css" if asked.path.endswith(".css") else "text/javascript"
    return Reply(200, b"1", {"Content-Type": kind})


# --- all is well ---


def test_a_public_name_that_leads_here_is_proved(stack: Stack, public: Edge) -> None:
    """Exit 0: every answer carried this deploy's id, the page's files come as what they are."""
    prepared(stack, public)
    public.behave(HOSTNAME, with_assets)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    [found] = [one for one in outcomes(stack) if one["id"].startswith("public.reachable:")]
    assert (found["status"], found["code"]) == ("PASS", None)
    assert "20 of 20 answers carried the id of this release" in found["evidence"]
    assert "3 of its scripts and styles come as what they are" in found["evidence"]
    assert_nothing_restarted(stack)


def outcomes(stack: Stack) -> list[dict[str, Any]]:
    phases = {phase["name"]: phase for phase in stack.report()["phases"]}
    return list(phases["TUNNEL_START_OR_VERIFY"]["checks"])


# --- 49 to 52 ---

Broken = tuple[tuple[Behaviour, ...], str, tuple[str, ...]]


def broken() -> dict[str, Broken]:
    """Made anew for each test: a cache remembers what it was asked."""
    return {
        "49 refused by an origin": ((behaviours.answering(521),), "PUBLIC_NOT_ON_TUNNEL", ("521", HOSTNAME)),
        "49 bad certificate of an origin": ((behaviours.answering(526),), "PUBLIC_NOT_ON_TUNNEL", ("526",)),
        "50 parking page": (
            (behaviours.parking,),
            "PUBLIC_WRONG_SITE",
            ('a page titled "This domain is for sale"', "server: cloudflare"),
        ),
        "50 unsigned": ((behaviours.without_identity,), "PUBLIC_WRONG_SITE", (HOSTNAME,)),
        "50 older release": ((behaviours.older_release(OLDER),), "PUBLIC_STALE", (OLDER,)),
        "50 cached copy": (
            (behaviours.caching(without_query=True),),
            "PUBLIC_STALE",
            ("a cached copy (cf-cache-status: HIT)",),
        ),
        "51 scripts as html": (
            (behaviours.assets_as_html, with_assets),
            "PUBLIC_ASSET_TYPE",
            (f"https://{HOSTNAME}/app.js (script) comes as text/html",),
        ),
        "52 redirect loop": ((behaviours.redirect_loop,), "PUBLIC_REDIRECT", ("in a circle", " -> ")),
        "52 redirect away": (
            (behaviours.redirecting("https://elsewhere.example/"),),
            "PUBLIC_REDIRECT",
            ("https://elsewhere.example/",),
        ),
        "52 access": ((behaviours.access_wall,), "PUBLIC_ACCESS_WALL", ("Cloudflare Access",)),
        "52 challenge": ((behaviours.challenge,), "PUBLIC_ACCESS_WALL", ("cf-mitigated: challenge",)),
    }


BROKEN: Final = broken()


@pytest.mark.parametrize("row", BROKEN)
def test_a_name_that_does_not_show_this_release_fails_the_deploy(stack: Stack, public: Edge, row: str) -> None:
    """Its own code, what was seen, what to do; nothing is restarted, and what was started is stopped."""
    behaviour, code, named = broken()[row]
    prepared(stack, public)
    public.behave(HOSTNAME, *behaviour)

    done = stack.deploy()

    report = assert_failed(stack, done, code, *named)
    assert report["failure"]["phase"] == "TUNNEL_START_OR_VERIFY"
    assert_nothing_restarted(stack)
    assert_gone(stack, "frontend")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (Certificate.EXPIRED, "has expired"),
        (Certificate.OTHER_NAME, f"it is for not-{HOSTNAME}"),
        (Certificate.UNKNOWN_AUTHORITY, "of an authority that this machine does not know"),
    ],
)
def test_a_certificate_that_proves_nothing_fails_the_deploy(
    stack: Stack, public: Edge, what: Certificate, named: str
) -> None:
    """PUBLIC_TLS, told apart; nothing was sent to whoever that is."""
    prepared(stack, public)
    public.certify(HOSTNAME, what)

    done = stack.deploy()

    assert_failed(stack, done, "PUBLIC_TLS", named)
    assert public.asked(HOSTNAME) == []
    assert_nothing_restarted(stack)


@pytest.mark.parametrize("found", [True, False], ids=["elsewhere", "nowhere"])
def test_a_name_that_is_not_found_here(stack: Stack, public: Edge, *, found: bool) -> None:
    """Nobody here knows a name below .invalid; a resolver of the manifest's choice does, or says that there is none."""
    prepared(stack, public)
    name = "app.example.invalid"
    stack.manifest["public"]["checks"] = [{"url": f"https://{name}/"}]
    with dns_server({name: ["192.0.2.7"]} if found else {}) as resolver:
        stack.manifest["public"]["resolvers"] = [resolver.address]
        done = stack.deploy()

    named = "192.0.2.7" if found else "NXDOMAIN"
    assert_failed(stack, done, "PUBLIC_DNS_SPLIT" if found else "PUBLIC_DNS", name, named)
    assert_nothing_restarted(stack)


# --- 53, 54 ---


def test_a_tunnel_that_takes_long_to_register_passes(stack: Stack, public: Edge) -> None:
    """The name says 530 until then; nothing is started twice meanwhile."""
    stack.timeouts(public="20s")
    prepared(stack, public)
    public.behave(HOSTNAME, registering(3.0))

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert_nothing_restarted(stack)


def registering(seconds: float) -> Behaviour:
    """530 for so long after the first request; then what lies behind."""
    first: list[float] = []

    def behave(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
        first.append(time.monotonic())
        return ask() if time.monotonic() - first[0] >= seconds else page(1033, 530)

    return behave


def test_four_of_a_hundred_lost_pass(stack: Stack, public: Edge) -> None:
    """As many as at any edge; they are told."""
    stack.timeouts(public="20s")
    prepared(stack, public)
    stack.manifest["public"]["requests"] = 120
    public.behave(HOSTNAME, behaviours.blips(0.04, seed=54))

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert_nothing_restarted(stack)


# --- each of these observations, taken away ---

_ANY_ANSWER_IS_OURS: Final = """
import flawless.checks.public.site as site
async def any_answer(self, answer, url): return True
site.Origin.gives = any_answer
site.deploy_id_of = lambda answer: None
"""
_NO_COPIES: Final = """
import flawless.checks.public.site as site
site._copy = lambda answer: None
"""
_NO_FILES: Final = """
import flawless.checks.public.reachable as public
public.page_of = lambda answer, url: None
"""
_NO_BLIP_TOLERATED: Final = """
import flawless.checks.public.sample as sample
sample.tolerated = lambda answers: 0
"""


@pytest.mark.parametrize(
    ("row", "mutation"),
    [
        ("50 parking page", _ANY_ANSWER_IS_OURS),
        ("50 unsigned", _ANY_ANSWER_IS_OURS),
        ("50 older release", _ANY_ANSWER_IS_OURS),
        ("50 cached copy", _NO_COPIES),
        ("51 scripts as html", _NO_FILES),
    ],
)
def test_without_its_check_it_would_be_green(stack: Stack, public: Edge, row: str, mutation: str) -> None:
    """The scenario above fails when the product does not look."""
    prepared(stack, public)
    public.behave(HOSTNAME, *broken()[row][0])

    done = stack.deploy(mutation=mutation)
    assert done.exit_code == 0, done.output


_NO_ORIGINS: Final = """
import flawless.checks.public.site as site
site._ORIGIN_ABSENT.clear()
"""
_FOLLOWS_NOTHING: Final = """
import flawless.checks.public.site as site
site._REDIRECTS = ()
"""
_SEES_NO_WALL: Final = """
import flawless.checks.public.site as site
site._wall = lambda answer: None
"""
_TRUSTS_EVERYBODY: Final = """
import ssl
ssl.create_default_context = ssl._create_unverified_context
"""
_IMPATIENT: Final = """
from flawless.core.reason import Reason
for reason in Reason: reason.permanent = reason.permanent or reason.startswith("PUBLIC_")
"""
_ASKS_NOBODY_ELSE: Final = """
import flawless.checks.public.name as name
async def nobody(*_): return None
name._asked = nobody
"""


@pytest.mark.parametrize(
    ("row", "mutation"),
    [
        ("49 refused by an origin", _NO_ORIGINS),
        ("52 redirect loop", _FOLLOWS_NOTHING),
        ("52 redirect away", _FOLLOWS_NOTHING),
        ("52 challenge", _SEES_NO_WALL),
    ],
)
def test_without_its_check_it_would_be_called_something_else(
    stack: Stack, public: Edge, row: str, mutation: str
) -> None:
    """No blindness makes it a yes; but nobody would know what to do."""
    prepared(stack, public)
    public.behave(HOSTNAME, *broken()[row][0])

    assert stack.deploy(mutation=mutation).exit_code == 1
    assert stack.failure()["code"] != BROKEN[row][1]


def test_without_the_certificate_a_stranger_would_be_believed(stack: Stack, public: Edge) -> None:
    """Whoever sits between us and the edge could answer with anything, our id as well."""
    prepared(stack, public)
    public.certify(HOSTNAME, Certificate.UNKNOWN_AUTHORITY)

    assert stack.deploy(mutation=_TRUSTS_EVERYBODY).exit_code == 0


def test_without_the_independent_path_a_split_name_would_be_called_something_else(stack: Stack, public: Edge) -> None:
    """Found elsewhere, and not here: only somebody else can say so."""
    prepared(stack, public)
    name = "app.example.invalid"
    stack.manifest["public"]["checks"] = [{"url": f"https://{name}/"}]
    with dns_server({name: ["192.0.2.7"]}) as resolver:
        stack.manifest["public"]["resolvers"] = [resolver.address]
        assert stack.deploy(mutation=_ASKS_NOBODY_ELSE).exit_code == 1

    assert stack.failure()["code"] != "PUBLIC_DNS_SPLIT"


def test_without_patience_a_slow_registration_would_fail(stack: Stack, public: Edge) -> None:
    """As it did where a sleep was ten seconds long."""
    stack.timeouts(public="20s")
    prepared(stack, public)
    public.behave(HOSTNAME, registering(3.0))

    assert stack.deploy(mutation=_IMPATIENT).exit_code == 1


def test_without_tolerance_a_blip_would_fail_the_deploy(stack: Stack, public: Edge) -> None:
    """Every twelfth request is lost."""
    prepared(stack, public)
    public.behave(HOSTNAME, every(12))
    assert stack.deploy(mutation=_NO_BLIP_TOLERATED).exit_code == 1
    public.behave(HOSTNAME, every(12))
    assert stack.deploy().exit_code == 0


def every(nth: int) -> Behaviour:
    """One of so many is lost."""
    count, lock = [0], threading.Lock()

    def behave(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
        with lock:
            count[0] += 1
            is_lost = count[0] % nth == 0
        return Reply(502, b"error code: 502") if is_lost else ask()

    return behave
