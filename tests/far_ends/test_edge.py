"""The public edge behaves as the real one was measured to, and does every wrong it can be told to."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flawless.adapters.http import RemoteHttp
from support import edge_behaviours as behaviours
from support.edge import Asked, Behaviour, Certificate, Edge, Reply, edge
from support.listener import Reset
from support.stacks import can_connect, until
from support.tunnels import HOSTNAME
from support.visitors import visit


@pytest.fixture
def behind(public: Edge) -> Edge:
    """The edge with a tunnel whose one connector is no process: it answers as a service of ours."""
    body = json.dumps({"status": "alive", "deployId": "ours"}).encode()
    headers = {"Content-Type": "application/json", "X-Flawless-Deploy-Id": "ours"}
    public.add_connector(public.tunnel(HOSTNAME).id, lambda _: Reply(200, body, headers))
    return public


def test_a_name_without_a_connector_is_530_1033(public: Edge) -> None:
    """Whether it leads to a tunnel that nobody runs, or to none."""
    for _ in range(2):
        answer = visit(public, HOSTNAME)
        assert (answer.status, answer.body) == (530, b"error code: 1033\n")
        public.tunnel(HOSTNAME)


def test_an_answer_carries_the_marks_of_the_edge(behind: Edge) -> None:
    """`server`, `cf-ray` and `cf-cache-status`; and the edge keeps what was asked."""
    answer = visit(behind, HOSTNAME, "/health/live?nonce=1")

    assert answer.headers["server"] == "cloudflare"
    assert answer.headers["cf-ray"].endswith("-LHR")
    assert answer.headers["cf-cache-status"] == "DYNAMIC"
    [record] = behind.asked(HOSTNAME)
    assert (record.asked.path, record.asked.query, record.status) == ("/health/live", "nonce=1", 200)


@pytest.mark.parametrize("status", [502, *behaviours.NOT_ON_THE_TUNNEL])
def test_the_edges_own_pages_name_their_code(behind: Edge, status: int) -> None:
    """A name that is past the tunnel has codes that no tunnel gives."""
    behind.behave(HOSTNAME, behaviours.answering(status))

    answer = visit(behind, HOSTNAME)

    assert (answer.status, answer.body) == (status, f"error code: {status}\n".encode())


def test_what_hangs_is_524_when_patience_is_over(behind: Edge) -> None:
    """Or a time-out of whoever asked, if that is sooner."""
    behind.behave(HOSTNAME, behaviours.hanging)
    with pytest.raises(TimeoutError):
        visit(behind, HOSTNAME, limit=0.2)
    behind.patience = 0.1
    assert visit(behind, HOSTNAME).status == 524


def test_a_reset_is_a_reset(behind: Edge) -> None:
    """And it is noted with status 0."""
    behind.behave(HOSTNAME, behaviours.resetting)

    with pytest.raises(ConnectionResetError):
        visit(behind, HOSTNAME)

    behind.wait_for(lambda: behind.requests)
    assert behind.requests[0].status == 0


@pytest.mark.parametrize(
    ("behaviour", "status", "header", "value"),
    [
        (behaviours.parking, 200, "content-type", "text/html; charset=utf-8"),
        (behaviours.cached(b"old"), 200, "cf-cache-status", "HIT"),
        (behaviours.cached(b"old", age=7), 200, "age", "7"),
        (behaviours.older_release("before"), 200, "x-flawless-deploy-id", "before"),
        (behaviours.redirecting("https://elsewhere.example/"), 302, "location", "https://elsewhere.example/"),
        (behaviours.redirect_loop, 301, "location", f"https://{HOSTNAME}/a"),
        (behaviours.challenge, 403, "cf-mitigated", "challenge"),
        (behaviours.answering(503, b"soon", retry_after="9"), 503, "retry-after", "9"),
    ],
)
def test_each_wrong_is_shown_as_the_real_one_shows_it(
    behind: Edge, behaviour: Behaviour, status: int, header: str, value: str
) -> None:
    """One status and one header each by which it can be told."""
    behind.behave(HOSTNAME, behaviour)

    answer = visit(behind, HOSTNAME)

    assert (answer.status, answer.headers.get(header)) == (status, value)


def test_an_access_wall_leads_to_a_login(behind: Edge) -> None:
    """At a host of Cloudflare's."""
    behind.behave(HOSTNAME, behaviours.access_wall)

    assert visit(behind, HOSTNAME).headers["location"].startswith("https://team.cloudflareaccess.com/")


def test_an_older_release_says_so_in_its_body_too(behind: Edge) -> None:
    """And a page without identity says nothing, in head or body."""
    behind.behave(HOSTNAME, behaviours.older_release("before"))
    assert visit(behind, HOSTNAME).json()["deployId"] == "before"
    behind.behave(HOSTNAME, behaviours.without_identity)
    answer = visit(behind, HOSTNAME)
    assert "deployId" not in answer.json()
    assert "x-flawless-deploy-id" not in answer.headers


def test_a_cache_keeps_an_address_and_a_bad_one_a_path(behind: Edge) -> None:
    """A nonce gets round the first, not round the second."""
    for without_query, seen in ((False, "DYNAMIC"), (True, "HIT")):
        behind.behave(HOSTNAME, behaviours.caching(without_query=without_query))
        first, second, other = (visit(behind, HOSTNAME, f"/?nonce={number}") for number in (1, 1, 2))
        assert first.headers["cf-cache-status"] == "DYNAMIC"
        assert second.headers["cf-cache-status"] == "HIT"
        assert other.headers["cf-cache-status"] == seen


def test_a_share_of_blips_is_that_share_and_always_the_same(behind: Edge) -> None:
    """4 of 100, of every kind; with the same seed the same ones."""
    asked = Asked(HOSTNAME, "GET", "/", "", {})

    def statuses(seed: int) -> list[int]:
        behind.behave(HOSTNAME, behaviours.blips(0.04, seed))
        return [_status(behind, asked) for _ in range(2000)]

    first = statuses(1)
    assert 40 <= len([status for status in first if status != 200]) <= 120
    assert set(first) == {0, 200, 502, 530}
    assert statuses(1) == first
    assert statuses(2) != first


def _status(public: Edge, asked: Asked) -> int:
    try:
        return public.respond(asked).status
    except Reset:
        return public.requests[-1].status


def test_the_first_ones_fail_and_then_all_is_well(behind: Edge) -> None:
    """For a gate that waits."""
    behind.behave(HOSTNAME, behaviours.failing_first(2))

    assert [visit(behind, HOSTNAME).status for _ in range(3)] == [530, 530, 200]


def test_behaviours_lie_round_one_another(behind: Edge) -> None:
    """The first outermost: here one path is elsewhere, and all that is left is an older release."""
    behind.behave(HOSTNAME, behaviours.redirecting_once("/", "/home"), behaviours.older_release("before"))

    assert visit(behind, HOSTNAME).headers["location"] == "/home"
    assert visit(behind, HOSTNAME, "/home").headers["x-flawless-deploy-id"] == "before"
    behind.behave(HOSTNAME)
    assert visit(behind, HOSTNAME).headers["x-flawless-deploy-id"] == "ours"


def test_assets_come_as_html_and_the_page_as_before(behind: Edge) -> None:
    """What a single-page fallback does to scripts that are not there."""
    behind.behave(HOSTNAME, behaviours.assets_as_html)

    types = [visit(behind, HOSTNAME, path).content_type for path in ("/app.js", "/site.css", "/")]

    assert types == ["text/html; charset=utf-8", "text/html; charset=utf-8", "application/json"]


@pytest.mark.parametrize("what", Certificate)
def test_a_bad_certificate_is_refused(behind: Edge, what: Certificate) -> None:
    """By whoever verifies; the other names keep theirs."""
    behind.route("other.example.org", None)
    behind.certify(HOSTNAME, what)

    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        visit(behind, HOSTNAME)

    assert visit(behind, "other.example.org").status == 530
    assert not behind.asked(HOSTNAME)


def test_a_certificate_ends_when_it_is_told_to(behind: Edge) -> None:
    """In nine days, here."""
    behind.certify(HOSTNAME, timedelta(days=9))

    ends = visit(behind, HOSTNAME).certificate_ends

    assert ends is not None
    assert timedelta(days=8) < ends - datetime.now(UTC) <= timedelta(days=9)


def test_another_connector_takes_its_share(behind: Edge) -> None:
    """Turn by turn: half of the requests are answered by the one without rules."""
    behind.add_connector(behind._routes[HOSTNAME], lambda _: Reply(503))

    statuses = [visit(behind, HOSTNAME).status for _ in range(6)]

    assert sorted(statuses) == [200, 200, 200, 503, 503, 503]


def test_many_at_once_are_answered_each_for_itself(behind: Edge) -> None:
    """A hundred requests, ten at a time."""
    resolve = {f"{HOSTNAME}:443": f"127.0.0.1:{behind.port}"}

    async def all_asked() -> list[int]:
        client, turns = RemoteHttp(ca_file=behind.ca_file, resolve=resolve), asyncio.Semaphore(10)

        async def one(number: int) -> int:
            async with turns:
                return (await client.ask("GET", behind.url(HOSTNAME, f"/{number}"), limit=20)).status

        try:
            return await asyncio.gather(*(one(number) for number in range(100)))
        finally:
            await client.aclose()

    assert asyncio.run(all_asked()) == [200] * 100
    assert {record.asked.path for record in behind.requests} == {f"/{number}" for number in range(100)}


def test_nothing_is_left_of_it_even_while_it_hangs(tmp_path: Path) -> None:
    """No thread, no port: at the end of the block whoever still waits is cut off."""
    before = set(threading.enumerate())
    with edge(tmp_path, HOSTNAME) as public:
        public.patience = 60
        public.behave(HOSTNAME, behaviours.hanging)
        asking = threading.Thread(target=_swallowing, args=(public,))
        asking.start()
        ports = [public.port, public._back_port]
        until(lambda: public._front._open, "the visitor is connected")
    asking.join(10)

    assert set(threading.enumerate()) == before
    assert not [port for port in ports if can_connect(port)]


def _swallowing(public: Edge) -> None:
    with pytest.raises((OSError, ssl.SSLError, ValueError)):
        visit(public, HOSTNAME, limit=30)
