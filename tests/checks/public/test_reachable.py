"""The public address against real sites on loopback: whose answer it is, and every state that is not ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import trustme

from flawless.adapters.http import LocalHttp, RemoteHttp
from flawless.checks.answer import Wanted
from flawless.checks.public import reachable as module
from flawless.checks.public.reachable import PublicReachable
from flawless.checks.public.site import HOPS
from flawless.checks.public.site import Site as Asker
from flawless.core.answer import Answer
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.clock import SystemClock
from flawless.core.reason import Reason
from flawless.core.tunnel import Public
from support.clock import ManualClock
from support.keepers import free_port
from support.sites import Asked, Said, Site, Talk, echo, jsonic, page

pytestmark = pytest.mark.anyio

OURS: Final = "20261123T141502Z-3f9c2a"
OLDER: Final = "20261120T101500Z-0a1b2c"
HOST: Final = "app.example.org"
LIMIT: Final = 20.0
FEW: Final = 20
"""Requests in one look: what is tried here is what an answer means. How many it takes is tried in test_sample.py."""

BOARD: Final = Said(body=page("Board"))


def ours(said: Said = BOARD) -> Said:
    return echo(OURS, said)


def always(said: Said) -> Talk:
    return lambda _: said


def by_path(**paths: Said) -> Talk:
    """`index` is the root; a name stands for its path."""
    return lambda asked: paths.get(asked.path.strip("/").replace(".", "_") or "index", Said(404, b"no", "text/plain"))


class Look:
    """A public site, what is asked of it, and what came of it."""

    def __init__(self, site: Site, *, http: LocalHttp, local: Site | None = None, scheme: str = "http") -> None:
        self.site = site
        self.local = local
        self.http = http
        self.scheme = scheme
        self.here = LocalHttp()
        self.local_asked: list[str] = []

    def url(self, path: str = "/") -> str:
        return f"{self.scheme}://{HOST}{path}"

    def check(
        self,
        path: str = "/",
        wanted: Wanted | None = None,
        *,
        through_tunnel: bool = False,
        ids: frozenset[str] = frozenset({OURS}),
        requests: int = FEW,
    ) -> PublicReachable:
        return PublicReachable(
            self.url(path),
            wanted or Wanted(),
            Asker(self.http, ids),
            self.answered_here,
            SystemClock(),
            requests,
            through_tunnel=through_tunnel,
            resolve={f"{HOST}:{80 if self.scheme == 'http' else 443}": self.site.place},
        )

    async def answered_here(self, path: str) -> Answer | None:
        self.local_asked.append(path)
        if self.local is None:
            return None
        return await self.here.ask("GET", f"http://{self.local.place}{path}", limit=5)


@asynccontextmanager
async def looking(talk: Talk, *, local: Talk | None = None) -> AsyncIterator[Look]:
    """A site behind the public name and, where it is told, the origin here."""
    async with Site(talk) as site, Site(local or always(Said(503))) as origin:
        http = RemoteHttp(resolve={f"{HOST}:80": site.place})
        look = Look(site, http=http, local=origin if local else None)
        try:
            yield look
        finally:
            await http.aclose()
            await look.here.aclose()


async def seen(
    look: Look, path: str = "/", wanted: Wanted | None = None, *, tunnel: bool = False
) -> tuple[Public, Outcome]:
    found = await look.check(path, wanted, through_tunnel=tunnel).look(LIMIT)
    return found.state, found.outcome


async def refused(
    look: Look, path: str = "/", wanted: Wanted | None = None, *, tunnel: bool = False
) -> tuple[Public, Failed]:
    state, outcome = await seen(look, path, wanted, tunnel=tunnel)
    assert isinstance(outcome, Failed), outcome
    return state, outcome


def text(failed: Failed) -> str:
    return "\n".join([failed.cause, *failed.evidence])


# --- how it is asked ---


async def test_every_request_is_one_that_no_cache_has() -> None:
    """Each has a nonce of its own, in the query and a header, and says that no copy is wanted; at most 5 at once."""
    async with looking(always(ours())) as look:
        state, outcome = await seen(look, "/health?kind=live")
        assert state is Public.OURS, outcome
        assert isinstance(outcome, Passed)
        nonces = [one.headers["x-flawless-nonce"] for one in look.site.asked]
        assert len(set(nonces)) == len(nonces) == FEW
        assert [one.target for one in look.site.asked] == [f"/health?kind=live&flawless={one}" for one in nonces]
        assert {one.headers["cache-control"] for one in look.site.asked} == {"no-cache"}
        assert {one.headers["host"] for one in look.site.asked} == {HOST}
        assert not {"authorization", "cookie"} & {name for one in look.site.asked for name in one.headers}
        assert 1 < look.site.at_once <= 5
        assert outcome.evidence == (f"{FEW} of {FEW} answers carried the id of this release",)


# --- whose answer it is ---


async def test_an_id_in_the_json_proves_the_release() -> None:
    """As the backend's health routes tell it."""
    async with looking(always(jsonic({"status": "alive", "deployId": OURS}))) as look:
        assert (await seen(look, "/live", Wanted(json={"status": "alive"})))[0] is Public.OURS


async def test_another_id_is_an_older_release() -> None:
    """A 200 with the right page, from a deploy that does not run here."""
    async with looking(always(echo(OLDER))) as look:
        state, failed = await refused(look)
    assert (state, failed.reason, failed.is_permanent) == (Public.STALE, Reason.PUBLIC_STALE, True)
    assert f"20 x it was answered by deploy {OLDER}, which does not run here" in failed.evidence
    assert "another machine" in failed.next_steps[0]


async def test_what_is_no_deploy_id_is_somebody_else() -> None:
    """Any site may have a field of that name."""
    async with looking(always(jsonic({"deployId": "v17"}))) as look:
        state, failed = await refused(look)
    assert (state, failed.reason) == (Public.WRONG_SITE, Reason.PUBLIC_WRONG_SITE)


async def test_somebody_elses_page_is_named() -> None:
    """A parking page says 200: its title, its server and its status are told, and how to prove who one is."""
    parked = Said(body=page("Buy this domain"), headers={"Server": "parking/1.0", "Age": "77"})
    async with looking(always(parked), local=always(ours())) as look:
        state, failed = await refused(look)
    assert (state, failed.reason, failed.is_permanent) == (Public.WRONG_SITE, Reason.PUBLIC_WRONG_SITE, True)
    assert 'answered 200 text/html: a page titled "Buy this domain" (server: parking/1.0)' in text(failed)
    assert "X-Flawless-Deploy-Id" in failed.next_steps[0]
    assert len(look.site.asked) <= FEW + 4


async def test_without_an_id_the_same_answer_as_here_is_ours() -> None:
    """The service does not sign: byte for byte what it answers here, asked for the same path without our nonce."""
    async with looking(always(BOARD), local=always(BOARD)) as look:
        state, outcome = await seen(look, "/?a=b")
        assert state is Public.OURS
        assert isinstance(outcome, Passed)
        assert outcome.evidence == (f"{FEW} of {FEW} answers are the same as the service's own here",)
        assert set(look.local_asked) == {"/?a=b"}


def counting(title: str, *assets: str) -> Talk:
    """A page that is another one each time."""
    return lambda asked: Said(body=page(title, *assets) + f"<p>{asked.number} {id(asked)}".encode())


SCRIPTED: Final = by_path(index=Said(body=page("Board", "/app.js")), app_js=Said(200, b"1", "text/javascript"))


def live(talk: Talk) -> Talk:
    """The page is another one each time, what it loads is not."""
    return lambda asked: counting("Board", "/app.js")(asked) if asked.path == "/" else talk(asked)


async def test_a_page_made_anew_each_time_is_told_by_its_title_and_files() -> None:
    """The bodies differ, the title and the list of scripts do not."""
    async with looking(live(SCRIPTED), local=live(SCRIPTED)) as look:
        assert (await seen(look))[0] is Public.OURS


@pytest.mark.parametrize(
    "public",
    [counting("Board"), counting("Boards", "/app.js"), counting("Board", "/app.2.js")],
    ids=["a title alone", "another title", "another build"],
)
async def test_a_page_that_only_resembles_is_not_ours(public: Talk) -> None:
    """A title is no proof by itself, and another build has other files."""
    async with looking(public, local=counting("Board", "/app.js")) as look:
        assert (await refused(look))[0] is Public.WRONG_SITE


async def test_a_page_without_its_signature_is_not_ours_where_we_sign() -> None:
    """The same bytes, but the origin here signs: an older copy of a static page would look the same."""
    async with looking(always(BOARD), local=always(ours())) as look:
        assert (await refused(look))[0] is Public.WRONG_SITE


async def test_what_changed_here_meanwhile_accuses_nobody() -> None:
    """The origin here is asked anew before an answer is called foreign."""
    said = [page("before")]

    def now(asked: Asked) -> Said:
        said[0] = page("after") if asked.number >= 10 else page("before")
        return Said(body=said[0])

    async with looking(now, local=lambda _: Said(body=said[0])) as look:
        assert (await seen(look))[0] is Public.OURS


async def test_nothing_to_compare_with_is_no_proof() -> None:
    """No id, and no origin here that answers: a 200 is not ours by default."""
    async with looking(always(BOARD)) as look:
        assert (await refused(look))[0] is Public.WRONG_SITE


@pytest.mark.parametrize("status", [404, 503])
async def test_an_error_that_our_origin_does_not_give_is_somebody_elses(status: int) -> None:
    """The catch-all of another connector."""
    async with looking(always(Said(status, b"", "")), local=always(ours())) as look:
        assert (await refused(look))[0] is Public.WRONG_SITE


async def test_what_is_no_http_is_not_ours() -> None:
    """Something else listens at that address."""
    async with looking(always(Said(200, b"", headers={"X\r\n\x00": "y"}))) as look:
        state, failed = await refused(look)
    assert state is Public.WRONG_SITE
    assert "does not speak HTTP" in text(failed)


# --- a second connector ---


def every(nth: int, other: Said, else_: Said) -> Talk:
    return lambda asked: other if asked.number % nth == nth - 1 else else_


async def test_a_part_of_the_answers_is_somebody_elses() -> None:
    """Behind a tunnel that is another connector, with the share that is ours; without one, another site."""
    async with looking(every(4, echo(OLDER), ours())) as look:
        state, failed = await refused(look, tunnel=True)
        assert (state, failed.reason, failed.is_permanent) == (Public.MIXED, Reason.TUNNEL_OTHER_CONNECTOR, True)
        assert failed.evidence[0] == "15 of 20 answers were ours"
        assert "cloudflared tunnel info" in failed.next_steps[0]
    async with looking(every(4, Said(body=page("other")), ours())) as look:
        state, failed = await refused(look)
        assert (state, failed.reason) == (Public.WRONG_SITE, Reason.PUBLIC_WRONG_SITE)
        assert failed.evidence[0] == "15 of 20 answers were ours"


async def test_one_foreign_answer_in_a_hundred_fails() -> None:
    """None is tolerated."""
    async with looking(lambda asked: echo(OLDER) if asked.number == 99 else ours()) as look:
        found = await look.check(through_tunnel=True, requests=120).look(LIMIT)
    assert found.state is Public.MIXED


async def test_after_a_foreign_answer_twice_as_many_are_needed() -> None:
    """What was seen is remembered: a lucky look right after it is not enough, two are."""
    stranger = [True]
    async with looking(lambda asked: echo(OLDER) if stranger[0] and asked.number == 3 else ours()) as look:
        check = look.check(through_tunnel=True)
        assert (await check.look(LIMIT)).state is Public.MIXED
        stranger[0], before = False, len(look.site.asked)
        assert (await check.look(LIMIT)).state is Public.OURS
        assert len(look.site.asked) - before == 2 * FEW


async def test_after_a_foreign_answer_too_few_are_no_proof() -> None:
    """With no time for the second look there is no pass, and it says why."""
    number = [0]

    def slow_later(asked: Asked) -> Said:
        number[0] += 1
        return echo(OLDER) if asked.number == 3 else Said(-1) if number[0] > 50 else ours()

    async with looking(slow_later) as look:
        check = look.check(through_tunnel=True)
        await check.look(LIMIT)
        found = await check.look(1.0)
    assert found.state is Public.UNREACHABLE
    assert isinstance(found.outcome, Failed)
    assert f"{2 * FEW} are needed, as somebody else has answered before" in found.outcome.evidence


# --- copies ---


@pytest.mark.parametrize(
    "headers",
    [
        {"cf_cache_status": "HIT"},
        {"cf_cache_status": "STALE"},
        {"cf_cache_status": "UPDATING"},
        {"cf_cache_status": "REVALIDATED"},
        {"Age": "12"},
        {"X_Cache": "Hit from cloudfront"},
    ],
    ids=lambda headers: " ".join(*headers.items()),
)
async def test_a_cached_copy_is_no_proof(headers: dict[str, str]) -> None:
    """Even with our id: it would be there without us."""
    async with looking(always(echo(OURS, **headers))) as look:
        state, failed = await refused(look)
    assert (state, failed.reason) == (Public.STALE, Reason.PUBLIC_STALE)
    assert "a cached copy" in text(failed)
    assert "Cache-Control: no-store" in failed.next_steps[0]
    assert len(look.site.asked) <= 5


@pytest.mark.parametrize("status", ["MISS", "DYNAMIC", "BYPASS", "EXPIRED"])
async def test_what_the_cache_passed_on_is_proof(status: str) -> None:
    """The origin answered."""
    async with looking(always(echo(OURS, cf_cache_status=status, Age="0"))) as look:
        assert (await seen(look))[0] is Public.OURS


async def test_a_copy_of_our_page_without_our_id_is_called_a_copy() -> None:
    """From before we signed: it has our title."""
    copy = Said(body=page("Board"), headers={"cf-cache-status": "HIT"})
    async with looking(always(copy), local=always(ours())) as look:
        assert (await refused(look))[0] is Public.STALE


# --- what the edge says in place of an answer ---

EDGE: Final = {"Server": "cloudflare"}


@pytest.mark.parametrize(
    ("status", "body", "state", "with_tunnel", "without"),
    [
        (530, b"error code: 1033", Public.NO_TUNNEL, Reason.TUNNEL_EDGE_DISAGREES, Reason.PUBLIC_UNREACHABLE),
        (502, b"error code: 502", Public.BAD_GATEWAY, Reason.TUNNEL_ORIGIN_DOWN, Reason.PUBLIC_UNREACHABLE),
        *(
            (status, b"", Public.NOT_ON_TUNNEL, Reason.PUBLIC_NOT_ON_TUNNEL, Reason.PUBLIC_NOT_ON_TUNNEL)
            for status in (521, 522, 523, 525, 526)
        ),
        *(
            (status, b"", Public.UNREACHABLE, Reason.PUBLIC_UNREACHABLE, Reason.PUBLIC_UNREACHABLE)
            for status in (504, 520, 524)
        ),
        (409, b"error code: 1001", Public.NOT_ON_TUNNEL, Reason.PUBLIC_NOT_ON_TUNNEL, Reason.PUBLIC_NOT_ON_TUNNEL),
        (429, b"error code: 1015", Public.UNREACHABLE, Reason.PUBLIC_UNREACHABLE, Reason.PUBLIC_UNREACHABLE),
    ],
)
async def test_what_the_edge_says_in_place_of_an_answer(
    status: int, body: bytes, state: Public, with_tunnel: Reason, without: Reason
) -> None:
    """Each code means one broken link; after a round of five nothing more is sent."""
    async with looking(always(Said(status, body, "text/plain", EDGE)), local=always(ours())) as look:
        for tunnel, reason in ((True, with_tunnel), (False, without)):
            found, failed = await refused(look, tunnel=tunnel)
            assert (found, failed.reason) == (state, reason)
            assert f"{status}" in failed.evidence[0]
            assert body.decode().removeprefix("error code: ") in text(failed)
        assert len(look.site.asked) <= 2 * 9


async def test_an_error_of_our_own_is_not_the_edges() -> None:
    """A 502 that our service signs is its own."""
    async with looking(always(ours(Said(502, b"{}", "application/json")))) as look:
        state, failed = await refused(look)
    assert (state, failed.reason, failed.is_permanent) == (Public.UNHEALTHY, Reason.PUBLIC_UNHEALTHY, False)
    assert "status 502, not a 2xx" in text(failed)


async def test_blips_are_tolerated_and_told() -> None:
    """Three of twenty are lost in three ways; the site is ours."""
    lost = {4: Said(502), 9: Said(0), 14: Said(530)}
    async with looking(lambda asked: lost.get(asked.number, ours())) as look:
        state, outcome = await seen(look, tunnel=True)
    assert state is Public.OURS
    assert isinstance(outcome, Passed)
    assert outcome.evidence[0] == "17 of 20 answers carried the id of this release"
    assert len(outcome.evidence) == 4


async def test_more_than_blips_is_no_pass_and_no_reason_to_restart() -> None:
    """A fifth is lost to 530, the rest is ours: the tunnel is there, it is not NO_TUNNEL, and may get better."""
    async with looking(every(5, Said(530), ours())) as look:
        state, failed = await refused(look, tunnel=True)
    assert (state, failed.reason, failed.is_permanent) == (Public.UNREACHABLE, Reason.PUBLIC_UNREACHABLE, False)
    assert failed.evidence[0] == "16 of 20 answers were ours"


async def test_no_answer_in_time() -> None:
    """The site takes the request and says nothing."""
    async with looking(always(Said(-1))) as look:
        found = await look.check().look(1.0)
    assert (found.state, isinstance(found.outcome, Failed)) == (Public.UNREACHABLE, True)
    assert isinstance(found.outcome, Failed)
    assert found.outcome.reason is Reason.PUBLIC_UNREACHABLE
    assert "no answer within 0.7 s" in text(found.outcome)


async def test_nobody_there() -> None:
    """The connection is refused, in the system's words."""
    http = RemoteHttp(resolve={f"{HOST}:80": f"127.0.0.1:{free_port()}"})
    async with Site(always(ours())) as unused:
        state, failed = await refused(Look(unused, http=http))
    await http.aclose()
    assert (state, failed.reason) == (Public.UNREACHABLE, Reason.PUBLIC_UNREACHABLE)
    assert "Connection refused" in text(failed)


async def test_a_slow_site_is_proved_by_as_many_as_there_is_time_for() -> None:
    """Where the time ends behind 20 good answers it passes, and says that it asked for more."""
    async with looking(lambda asked: Said(-1) if asked.number >= 50 else ours()) as look:
        found = await look.check(requests=120).look(4.0)
    assert found.state is Public.OURS, found
    assert isinstance(found.outcome, Passed)
    assert "there was no time for 120 requests" in found.outcome.evidence
    async with looking(lambda asked: Said(-1) if asked.number >= 10 else ours()) as look:
        assert (await look.check(requests=120).look(2.0)).state is Public.UNREACHABLE


# --- what is wanted ---


async def test_ours_but_not_as_wanted() -> None:
    """The release answers, and the JSON says otherwise."""
    async with looking(always(ours(jsonic({"status": "degraded"})))) as look:
        state, failed = await refused(look, "/live", Wanted(json={"status": "alive"}))
    assert (state, failed.reason, failed.is_permanent) == (Public.UNHEALTHY, Reason.PUBLIC_UNHEALTHY, False)
    assert 'status is "degraded", not "alive"' in text(failed)


async def test_a_status_of_ones_own_choice() -> None:
    """Also one that elsewhere is an error."""
    async with looking(always(ours(Said(401, b"", headers={"WWW-Authenticate": "Basic"})))) as look:
        assert (await seen(look, "/", Wanted(status=(401,))))[0] is Public.OURS
        assert (await refused(look))[0] is Public.UNHEALTHY


# --- redirects ---


def to(location: str, status: int = 302) -> Said:
    return Said(status, headers={"Location": location})


async def test_a_redirect_on_the_same_site_is_followed() -> None:
    """The end proves whose it is."""
    async with looking(by_path(index=to("/home"), home=to(f"http://{HOST}/board"), board=ours())) as look:
        assert (await seen(look))[0] is Public.OURS


async def test_a_redirect_that_is_wanted_is_judged_by_its_status() -> None:
    """And still followed, for the proof."""
    talk = by_path(index=to("/home", 301), home=ours())
    async with looking(talk) as look:
        assert (await seen(look, "/", Wanted(status=(301,))))[0] is Public.OURS
    async with looking(by_path(index=to("/home", 301), home=echo(OLDER))) as look:
        assert (await refused(look, "/", Wanted(status=(301,))))[0] is Public.STALE


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (by_path(index=to("/a"), a=to("/")), f"in a circle: http://{HOST}/ -> http://{HOST}/a -> http://{HOST}/"),
        (lambda asked: to(asked.path + "a"), f"more than {HOPS} times"),
        (
            always(to("http://elsewhere.example/x")),
            "to another site: http://app.example.org/ -> http://elsewhere.example/x",
        ),
        (always(to(f"http://{HOST}:8080/")), "to another site"),
        (always(to(f"http://me:secret@{HOST}/x")), "to another site"),
        (always(to("ftp://elsewhere.example/")), "to another site"),
    ],
    ids=["a circle", "without end", "another host", "another port", "a user", "another scheme"],
)
async def test_a_redirect_that_does_not_end_on_the_site(talk: Callable[[Asked], Said], said: str) -> None:
    """It is not followed; the chain is told."""
    async with looking(talk) as look:
        state, failed = await refused(look)
        assert {one.headers["host"] for one in look.site.asked} == {HOST}
    assert (state, failed.reason) == (Public.REDIRECT, Reason.PUBLIC_REDIRECT)
    assert said in text(failed)


@pytest.mark.parametrize(
    "said",
    [
        to("https://team.cloudflareaccess.com/cdn-cgi/access/login/app.example.org"),
        Said(403, b"<title>Just a moment...</title>", headers={"cf-mitigated": "challenge"}),
        Said(401, b"", headers={"WWW-Authenticate": 'Basic realm="staging"'}),
        Said(403, b"", headers={"WWW-Authenticate": "Cloudflare-Access"}),
        Said(403, b"error code: 1020", "text/plain", EDGE),
    ],
    ids=["access", "challenge", "401", "403", "firewall"],
)
async def test_a_wall_in_front_of_the_site(said: Said) -> None:
    """It is named as what it is, and not as a wrong site."""
    async with looking(always(said), local=always(ours())) as look:
        state, failed = await refused(look)
    assert (state, failed.reason) == (Public.ACCESS_WALL, Reason.PUBLIC_ACCESS_WALL)
    assert "let this address pass" in failed.next_steps[0]


# --- TLS ---


class Authority:
    """One of our own, and sites with its certificates."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.file))

    def context(self, *names: str, until: datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=until).configure_cert(context)
        return context


@asynccontextmanager
async def over_tls(authority: Authority, context: ssl.SSLContext, *, knows: bool = True) -> AsyncIterator[Look]:
    async with Site(always(ours()), context) as site:
        http = RemoteHttp(ca_file=authority.file if knows else None, resolve={f"{HOST}:443": site.place})
        try:
            yield Look(site, http=http, scheme="https")
        finally:
            await http.aclose()


async def test_a_good_certificate_and_when_it_ends(tmp_path: Path) -> None:
    """The day is told."""
    authority = Authority(tmp_path)
    ends = datetime.now(UTC) + timedelta(days=90)
    async with over_tls(authority, authority.context(HOST, until=ends)) as look:
        state, outcome = await seen(look)
    assert state is Public.OURS
    assert isinstance(outcome, Passed)
    assert outcome.concern is None
    assert f"its certificate holds until {ends:%Y-%m-%d}" in outcome.evidence


@pytest.mark.parametrize(("days", "is_soon"), [(14.01, False), (13.99, True)])
async def test_a_certificate_that_ends_within_two_weeks_is_a_warning(
    tmp_path: Path, days: float, *, is_soon: bool
) -> None:
    """It passes, with a concern that says the day."""
    authority = Authority(tmp_path)
    async with over_tls(authority, authority.context(HOST, until=datetime.now(UTC) + timedelta(days=days))) as look:
        state, outcome = await seen(look)
    assert state is Public.OURS
    assert isinstance(outcome, Passed)
    if is_soon:
        assert outcome.concern is not None
        assert outcome.concern.reason is Reason.PUBLIC_CERTIFICATE_EXPIRING
        assert f"renew the certificate of {HOST}: it ends in 13 days" in outcome.concern.next_step
    else:
        assert outcome.concern is None


@pytest.mark.parametrize(
    ("names", "days", "knows", "cause", "fact"),
    [
        ((HOST,), -3, True, f"the certificate of {HOST} has expired", "it holds from Jan  1 00:00:00 2020 GMT to "),
        (("other.example.org",), 90, True, f"the certificate is not for {HOST}", "it is for other.example.org"),
        ((HOST,), 90, False, "of an authority that this machine does not know", "it was issued by trustme v"),
    ],
    ids=["expired", "wrong name", "unknown authority"],
)
async def test_a_certificate_that_proves_nothing(
    tmp_path: Path, names: tuple[str, ...], days: int, *, knows: bool, cause: str, fact: str
) -> None:
    """Told apart, with what the certificate says of itself; nothing was sent."""
    authority = Authority(tmp_path)
    context = authority.context(*names, until=datetime.now(UTC) + timedelta(days=days))
    async with over_tls(authority, context, knows=knows) as look:
        state, failed = await refused(look)
        assert look.site.asked == []
    assert (state, failed.reason, failed.is_permanent) == (Public.TLS, Reason.PUBLIC_TLS, True)
    assert cause in text(failed)
    assert fact in text(failed)


async def test_what_is_no_tls_at_all() -> None:
    """An http port behind an https address."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with Site(always(ours())) as unused, await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        http = RemoteHttp(resolve={f"{HOST}:443": f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        state, failed = await refused(Look(unused, http=http, scheme="https"))
        await http.aclose()
    assert (state, failed.reason, failed.is_permanent) == (Public.TLS, Reason.PUBLIC_TLS, False)


# --- the page's own files ---


def with_files(**files: Said) -> Talk:
    index = ours(Said(body=page("Board", "/app.js", "/board.css", "https://cdn.example/x.js", "/cdn-cgi/beacon.js")))
    return by_path(index=index, **files)


GOOD: Final = {"app_js": Said(200, b"1", "text/javascript; charset=utf-8"), "board_css": Said(200, b"", "text/css")}


async def test_the_pages_own_files_are_asked_for() -> None:
    """Those of its own host alone."""
    async with looking(with_files(**GOOD)) as look:
        state, outcome = await seen(look)
        assert state is Public.OURS
        assert isinstance(outcome, Passed)
        assert {one.path for one in look.site.asked} == {"/", "/app.js", "/board.css"}
        assert outcome.evidence[-1] == "2 of its scripts and styles come as what they are"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Said(200, page("Board"), "text/html"), "/app.js (script) comes as text/html"),
        (Said(404, b"", "text/plain"), "/app.js (script) answers 404"),
        (Said(200, b"1", ""), "/app.js (script) comes as nothing named"),
        (to("https://elsewhere.example/app.js"), "/app.js: it is sent to another site"),
    ],
    ids=["html", "404", "no type", "away"],
)
async def test_a_script_that_is_none(said: Said, why: str) -> None:
    """The page is there and does not work: the file is named."""
    async with looking(with_files(**{**GOOD, "app_js": said})) as look:
        state, failed = await refused(look)
    assert (state, failed.reason) == (Public.ASSET_TYPE, Reason.PUBLIC_ASSET_TYPE)
    assert f"http://{HOST}{why}" in text(failed)


async def test_a_file_that_the_edge_loses_is_asked_for_again() -> None:
    """A blip is no wrong type; what is lost for good cannot be said to be right."""
    tries: list[str] = []

    def losing(times: int) -> Talk:
        def talk(asked: Asked) -> Said:
            if asked.path == "/app.js":
                tries.append(asked.path)
                return Said(530) if len(tries) <= times else GOOD["app_js"]
            return with_files(**GOOD)(asked)

        return talk

    async with looking(losing(2)) as look:
        assert (await seen(look))[0] is Public.OURS
    tries.clear()
    async with looking(losing(99)) as look:
        state, failed = await refused(look)
    assert (state, failed.reason) == (Public.UNREACHABLE, Reason.PUBLIC_UNREACHABLE)
    assert f"http://{HOST}/app.js: 530" in text(failed)


# --- all of it ---


def test_every_state_but_two_has_its_failure() -> None:
    """OURS is a pass and UNASKED no answer."""
    assert set(module._MEANINGS) == set(Public) - {Public.OURS, Public.UNASKED}


async def test_it_keeps_its_limit() -> None:
    """A site that never answers costs the limit and no more."""
    clock = ManualClock()
    async with looking(always(Said(-1))) as look:
        outcome = await look.check().ask(0.4)
    assert isinstance(outcome, Failed)
    assert clock.slept == []
