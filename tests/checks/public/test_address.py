"""All public checks at once: the name first, then every address, folded to the two states of the verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flawless.adapters.http import RemoteHttp
from flawless.checks.public.address import NAMES_WORST_FIRST, WORST_FIRST, Look, PublicAddress, asked_of
from flawless.core.answer import Answer
from flawless.core.check import Failed, Passed, Skipped, Status
from flawless.core.clock import SystemClock
from flawless.core.reason import Reason
from flawless.core.settings import PublicSettings, Settings
from flawless.core.tunnel import Name, Public
from support.sites import Asked, Said, Site, Talk, echo, jsonic, page

pytestmark = pytest.mark.anyio

OURS = "20261123T141502Z-3f9c2a"
OLDER = "20261120T101500Z-0a1b2c"
HOST = "app.example.org"
UNKNOWN = f"{'a' * 70}.example.org"
"""No name that DNS could have, so that nobody is asked for it."""


async def nothing(path: str) -> Answer | None:
    return None


def settings(*checks: Mapping[str, object], place: str = "127.0.0.1:1", requests: int = 20) -> PublicSettings:
    told = {"checks": checks, "resolve": {f"{HOST}:80": place}, "resolvers": [], "requests": requests}
    return PublicSettings.model_validate(told)


class Counter:
    """cloudflared's own count of requests: those of a site's that were handed to it."""

    def __init__(self, counted: Callable[[], float | None]) -> None:
        self._counted = counted

    async def __call__(self) -> float | None:
        return self._counted()


@asynccontextmanager
async def address(
    talk: Talk,
    *checks: Mapping[str, object],
    hostname: str = "",
    requests: int = 20,
    arrivals: Callable[[Site], Callable[[], Awaitable[float | None]]] | None = None,
) -> AsyncIterator[tuple[PublicAddress, Site]]:
    async with Site(talk) as site:
        public = settings(*checks, place=site.place, requests=requests)
        http = RemoteHttp(resolve=public.resolve)
        counter = arrivals(site) if arrivals else None
        yield (
            PublicAddress(
                public,
                http,
                SystemClock(),
                ids=frozenset({OURS}),
                local=nothing,
                hostname=hostname,
                arrivals=counter,
            ),
            site,
        )
        await http.aclose()


async def looked(talk: Talk, *checks: Mapping[str, object], hostname: str = "") -> Look:
    async with address(talk, *checks, hostname=hostname) as (public, _):
        return await public.observe(20.0)


def ours(_: Asked) -> Said:
    return echo(OURS)


ROOT = {"url": f"http://{HOST}/"}
LIVE = {"url": f"http://{HOST}/live", "json": {"status": "alive"}}


def by_path(asked: Asked) -> Said:
    return echo(OURS, jsonic({"status": "alive"})) if asked.path == "/live" else echo(OURS)


async def test_all_ours_is_ours() -> None:
    """One name, two addresses, a finding each; the pin is told."""
    look = await looked(by_path, ROOT, LIVE)
    assert (look.outside.name.state, look.outside.public.state) == (Name.PINNED, Public.OURS)
    assert [(one.id, one.status) for one in look.findings] == [
        (f"public.resolves:{HOST}:80", Status.PASS),
        (f"public.reachable:http://{HOST}/", Status.PASS),
        (f"public.reachable:http://{HOST}/live", Status.PASS),
    ]
    assert all(one.latency > 0 for one in look.findings[1:])


async def test_the_checks_of_a_host_share_its_requests() -> None:
    """120 are sent to a host, not to each check of it; never fewer than 20 for one."""
    async with address(by_path, ROOT, LIVE, requests=120) as (public, site):
        assert (await public.observe(20.0)).outside.public.state is Public.OURS
        assert len(site.asked) == 120
    async with address(by_path, ROOT, LIVE, requests=20) as (public, site):
        await public.observe(20.0)
        assert len(site.asked) == 40


async def test_the_worst_of_the_required_stands_for_all() -> None:
    """One address is ours, the other is an older release's: the name is not ours."""
    look = await looked(lambda asked: echo(OLDER) if asked.path == "/live" else echo(OURS), ROOT, LIVE)
    assert look.outside.public.state is Public.STALE
    assert [one.status for one in look.findings] == [Status.PASS, Status.PASS, Status.FAIL]


async def test_an_optional_check_speaks_for_itself() -> None:
    """It fails, and the verdict does not rest on it."""
    look = await looked(
        lambda asked: Said(404) if asked.path == "/live" else echo(OURS), ROOT, {**LIVE, "optional": True}
    )
    assert look.outside.public.state is Public.OURS
    [finding] = look.optional
    assert (finding.status, finding.optional, finding.makes_partial) == (Status.FAIL, True, True)


async def test_optional_checks_alone_prove_nothing() -> None:
    """No verdict rests on them, so there is none."""
    look = await looked(ours, {**ROOT, "optional": True})
    assert (look.outside.name.state, look.outside.public.state) == (Name.UNASKED, Public.UNASKED)
    assert isinstance(look.outside.public.outcome, Skipped)


async def test_a_name_that_is_not_found_is_not_asked() -> None:
    """The name fails, and the address is no failure of its own; what is ours elsewhere is not enough."""
    look = await looked(ours, ROOT, {"url": f"http://{UNKNOWN}/"})
    assert look.outside.name.state is Name.NOWHERE
    assert isinstance(look.outside.name.outcome, Failed)
    assert look.outside.public.state is Public.UNASKED
    assert [one.status for one in look.findings] == [Status.PASS, Status.FAIL, Status.PASS, Status.SKIP]


async def test_an_optional_address_of_an_unknown_name_fails_with_it() -> None:
    """Nothing else would say that it is not there; what is required is ours."""
    look = await looked(ours, ROOT, {"url": f"http://{UNKNOWN}/", "optional": True})
    assert (look.outside.name.state, look.outside.public.state) == (Name.PINNED, Public.OURS)
    assert [one.status for one in look.optional] == [Status.FAIL, Status.FAIL]


async def test_somebody_else_is_remembered_from_look_to_look() -> None:
    """The next look needs twice as many answers, of whichever check of the host."""
    strange = [True]

    def talk(asked: Asked) -> Said:
        return echo(OLDER) if strange[0] and asked.number == 3 else by_path(asked)

    async with address(talk, ROOT, LIVE, hostname=HOST) as (public, site):
        assert (await public.observe(20.0)).outside.public.state is Public.MIXED
        strange[0], before = False, len(site.asked)
        assert (await public.observe(20.0)).outside.public.state is Public.OURS
        assert len(site.asked) - before == 80


# --- the counter of cloudflared here ---


async def test_an_identical_connector_is_told_by_what_did_not_arrive() -> None:
    """Every answer is signed by our release; half of the requests never came to cloudflared here."""
    async with address(ours, ROOT, hostname=HOST, arrivals=lambda site: Counter(lambda: len(site.asked) // 2)) as (
        one,
        _,
    ):
        look = await one.observe(20.0)
    assert look.outside.public.state is Public.MIXED
    failed = look.outside.public.outcome
    assert isinstance(failed, Failed)
    assert failed.reason is Reason.TUNNEL_OTHER_CONNECTOR
    assert failed.evidence == ("of 20 answers that look like ours, cloudflared here was handed 10 requests",)
    assert look.findings[-1].status is Status.FAIL


@pytest.mark.parametrize(
    "counted",
    [
        lambda site: len(site.asked),
        lambda site: 1000 + 7 * len(site.asked),
        lambda site: None,
        lambda site: 1000 - len(site.asked),
    ],
    ids=["all arrived", "visitors too", "not known", "another process"],
)
async def test_a_counter_that_proves_nothing_accuses_nobody(counted: Callable[[Site], float | None]) -> None:
    """All came, or more, or it cannot be told."""
    async with address(ours, ROOT, hostname=HOST, arrivals=lambda site: Counter(lambda: counted(site))) as (one, _):
        assert (await one.observe(20.0)).outside.public.state is Public.OURS


async def test_the_pages_files_are_not_counted() -> None:
    """They may come from a cache, and are asked for behind the second look at the counter."""
    html = Said(body=page("Board", *(f"/{n}.js" for n in range(10))))

    def talk(asked: Asked) -> Said:
        return echo(OURS, html) if asked.path == "/" else Said(200, b"1", "text/javascript")

    def pages(site: Site) -> float:
        return sum(one.path == "/" for one in site.asked)

    async with address(talk, ROOT, hostname=HOST, arrivals=lambda site: Counter(lambda: pages(site))) as (one, _):
        look = await one.observe(20.0)
    assert look.outside.public.state is Public.OURS
    assert isinstance(look.outside.public.outcome, Passed)
    assert "10 of its scripts and styles come as what they are" in look.outside.public.outcome.evidence


# --- what is asked when nothing is said ---


def stack(**tables: Any) -> Settings:
    return Settings.model_validate({"name": "shop", **tables})


def test_a_tunnels_hostname_is_asked_for_its_first_page() -> None:
    """With the pins and authorities of [public], where there are any."""
    asked = asked_of(stack(tunnel={"hostname": HOST}, public={"resolve": {f"{HOST}:443": "127.0.0.1:8443"}}))
    assert asked is not None
    assert [(one.url, one.status, one.optional) for one in asked.checks] == [(f"https://{HOST}/", (), False)]
    assert asked.resolve == {f"{HOST}:443": "127.0.0.1:8443"}
    alone = asked_of(stack(tunnel={"hostname": HOST}))
    assert alone is not None
    assert [one.url for one in alone.checks] == [f"https://{HOST}/"]


OTHER_CHECK = {"url": "https://other.example.org/x"}


@pytest.mark.parametrize(
    ("tables", "urls"),
    [
        ({"public": {"checks": [OTHER_CHECK]}}, [OTHER_CHECK["url"]]),
        ({"public": {"checks": [OTHER_CHECK]}, "tunnel": {"hostname": HOST}}, [f"https://{HOST}/", OTHER_CHECK["url"]]),
        ({"public": {"checks": [{"url": f"https://{HOST}/x"}]}, "tunnel": {"hostname": HOST}}, [f"https://{HOST}/x"]),
        (
            {"public": {"checks": [{"url": f"https://{HOST}/x", "optional": True}]}, "tunnel": {"hostname": HOST}},
            [f"https://{HOST}/", f"https://{HOST}/x"],
        ),
        (
            {"base_url": "https://shop.example.org/de", "tunnel": {"hostname": HOST}},
            [f"https://{HOST}/", "https://shop.example.org/de"],
        ),
        ({"base_url": "http://127.0.0.1:3000", "public": {"checks": [OTHER_CHECK]}}, [OTHER_CHECK["url"]]),
        ({"base_url": f"https://{HOST}", "tunnel": {}}, [f"https://{HOST}"]),
    ],
    ids=[
        "own",
        "the tunnel's name too",
        "asked already",
        "optional proves nothing",
        "base_url too",
        "local",
        "by base_url",
    ],
)
def test_the_name_that_is_carried_and_the_address_that_is_told_are_proved(
    tables: dict[str, Any], urls: list[str]
) -> None:
    """Whatever else is declared: a verdict on a name that nobody asked would be a guess."""
    asked = asked_of(stack(**tables))
    assert asked is not None
    assert [one.url for one in asked.checks] == urls


def test_nothing_is_asked_where_nothing_is_declared() -> None:
    """base_url alone asks for nothing."""
    assert asked_of(stack()) is None
    assert asked_of(stack(base_url="https://shop.example.org")) is None
    assert asked_of(stack(public={}, tunnel={})) is None


def test_the_orders_name_every_state_once() -> None:
    """OURS is the best, and one that was not asked leaves it open."""
    assert sorted(WORST_FIRST) == sorted(Public)
    assert WORST_FIRST[-2:] == (Public.UNASKED, Public.OURS)
    assert sorted(NAMES_WORST_FIRST) == sorted(Name)
