"""FAILURES 55 and 57: whatever an interface of others answers is named, and no key leaves for another host."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest

from flawless.adapters.http import BODY_LIMIT, RemoteHttp
from flawless.checks.interfaces.api import PAUSE, Api
from flawless.checks.interfaces.cloudflare import CLOUDFLARE, CloudflareAcceptsToken
from flawless.checks.interfaces.openai import OPENAI, OpenAIAcceptsKey
from flawless.checks.interfaces.stripe import STRIPE, StripeAcceptsKey
from flawless.core.answer import Answer
from flawless.core.check import Check, Failed, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from support.clock import ManualClock
from support.far_ends import GIGABYTE, UNKNOWN_HOST, FarEnd, cloudflare, openai, stripe, witness
from support.keepers import free_port

pytestmark = pytest.mark.anyio

Open = Callable[..., AbstractContextManager[FarEnd]]
ALL: Final[dict[str, tuple[Any, Callable[[Api], Check], Open]]] = {
    "stripe": (STRIPE, StripeAcceptsKey, stripe),
    "openai": (OPENAI, OpenAIAcceptsKey, openai),
    "cloudflare": (CLOUDFLARE, CloudflareAcceptsToken, cloudflare),
}


@pytest.fixture
async def http() -> AsyncIterator[RemoteHttp]:
    client = RemoteHttp()
    yield client
    await client.aclose()


@pytest.fixture(params=list(ALL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def far_end(name: str) -> Iterator[FarEnd]:
    with ALL[name][2]() as one:
        yield one


def api(name: str, http: Any, base_url: str, key: str, timeout: float = 5.0) -> Api:
    return Api(ALL[name][0], Secret(key), http, ManualClock(), timeout, "THE_KEY (.env:3)", base_url)


async def ask(name: str, http: Any, base_url: str, key: str, limit: float = 5.0) -> Any:
    return await ALL[name][1](api(name, http, base_url, key, limit)).ask(limit)


async def failed(name: str, http: Any, base_url: str, key: str, limit: float = 5.0) -> Failed:
    outcome = await ask(name, http, base_url, key, limit)
    assert isinstance(outcome, Failed), outcome
    return outcome


def told(failure: Failed) -> str:
    return "\n".join([failure.cause, *failure.evidence, *failure.next_steps])


async def test_a_key_that_is_accepted_passes_with_one_plain_get(http: RemoteHttp, name: str, far_end: FarEnd) -> None:
    """Nothing is created: one GET, with the key in the one header that it belongs to."""
    outcome = await ask(name, http, far_end.url, far_end.key)
    assert isinstance(outcome, Passed), outcome
    [request] = far_end.requests
    assert request.method == "GET"
    assert [header for header, value in request.headers.items() if far_end.key in value] == ["authorization"]
    assert request.raw.count(far_end.key.encode()) == 1
    assert far_end.url.removeprefix("http://") in outcome.evidence[0]


ROWS: Final[dict[str, tuple[int | str, Reason, bool, tuple[str, ...]]]] = {
    "401": (401, Reason.API_UNAUTHORIZED, False, ("answered 401", "THE_KEY (.env:3)")),
    "403": (403, Reason.API_FORBIDDEN, False, ("answered 403", "the permission")),
    "429": (429, Reason.API_RATE_LIMITED, False, ("429", "without a Retry-After")),
    "500": (500, Reason.API_UNAVAILABLE, True, ("answered 500",)),
    "503": (503, Reason.API_UNAVAILABLE, True, ("answered 503",)),
    "418": (418, Reason.API_UNEXPECTED, False, ("status 418",)),
    "redirect": ("redirect", Reason.API_UNEXPECTED, False, ("a redirect to https://login.example.org",)),
    "html": ("html", Reason.API_UNEXPECTED, False, ("text/html", "no JSON")),
    "endless": ("endless", Reason.API_UNEXPECTED, False, ("a body without end", str(BODY_LIMIT))),
    "nonsense": ("nonsense", Reason.API_UNEXPECTED, False, ("something else than HTTP",)),
    "reset": ("reset", Reason.API_UNAVAILABLE, True, ("cannot be reached",)),
    "closed": ("closed", Reason.API_UNAVAILABLE, True, ("closed without an answer",)),
    "cut": ("cut", Reason.API_UNAVAILABLE, True, ("cut short",)),
}


@pytest.mark.parametrize("row", list(ROWS))
async def test_what_it_answers_is_named(http: RemoteHttp, name: str, far_end: FarEnd, row: str) -> None:
    """The code, the host, what to do; asking again only where that helps; no part of the key, though they repeat it."""
    kind, reason, helps, said = ROWS[row]
    far_end.fail_with(kind, to="https://login.example.org/?next=secret")
    failure = await failed(name, http, far_end.url, far_end.key)
    assert failure.reason is reason
    assert (failure.retry_after is not None) is helps
    text = told(failure)
    assert all(one in text for one in (*said, far_end.url.removeprefix("http://")))
    assert f"flawless explain {reason}" in text
    assert not shared(text, far_end.key)
    assert "next=secret" not in text
    assert far_end.sent < GIGABYTE // 32


def shared(text: str, key: str) -> list[str]:
    """Pieces of the key behind its well-known beginning that stand in the text."""
    body = key[8:] if key.startswith("sk_") else key[3:]
    return [body[at : at + 5] for at in range(len(body) - 4) if body[at : at + 5] in text]


@pytest.mark.parametrize("kind", ["hang", "drip"])
async def test_no_answer_in_time_is_a_time_out(http: RemoteHttp, name: str, far_end: FarEnd, kind: str) -> None:
    """None at all, or a byte a second: the limit holds for the whole answer."""
    far_end.fail_with(kind)
    failure = await failed(name, http, far_end.url, far_end.key, limit=0.3)
    assert (failure.reason, failure.retry_after) == (Reason.API_TIMEOUT, PAUSE)
    assert "was not answered in full within 0.3 s" in told(failure)


async def test_a_name_that_nobody_knows(http: RemoteHttp, name: str) -> None:
    """API_DNS, with the name."""
    failure = await failed(name, http, UNKNOWN_HOST, "sk_test_0123456789")
    assert (failure.reason, failure.retry_after) == (Reason.API_DNS, None)
    assert "api.interface.invalid" in told(failure)


async def test_nobody_there(http: RemoteHttp, name: str) -> None:
    """A proxy of one's own that does not run."""
    port = free_port()
    failure = await failed(name, http, f"http://127.0.0.1:{port}", "sk_test_0123456789")
    assert failure.reason is Reason.API_UNAVAILABLE
    assert f"127.0.0.1:{port}" in told(failure)
    assert "ECONNREFUSED" in told(failure)


async def test_a_certificate_that_nobody_vouches_for(http: RemoteHttp, name: str) -> None:
    """API_TLS with the library's own words, and not one request came through."""
    with ALL[name][2](tls=True) as far_end:
        failure = await failed(name, http, far_end.url, far_end.key)
        assert far_end.requests == []
        assert far_end.connections == 1
    assert failure.reason is Reason.API_TLS
    assert "unable to get local issuer certificate" in told(failure)


async def test_a_redirect_takes_the_key_nowhere(http: RemoteHttp, name: str, far_end: FarEnd) -> None:
    """The host it points to never hears of us."""
    with witness() as other:
        far_end.fail_with("redirect", to=f"{other.url}/v1/account")
        failure = await failed(name, http, far_end.url, far_end.key)
        assert (other.requests, other.connections) == ([], 0)
    assert other.url in told(failure)


@pytest.mark.parametrize(
    ("given", "pause"),
    [("2", 2.0), ("5", 5.0), ("6", None), ("Mon, 23 Nov 2026 14:15:05 GMT", 2.877), ("soon", None), ("-1", None)],
)
async def test_retry_after_is_honoured_where_it_fits(
    http: RemoteHttp, far_end: FarEnd, name: str, given: str, pause: float | None
) -> None:
    """Seconds or a date, up to what one question may take; what is longer would hold up the deploy."""
    far_end.fail_with(429, retry_after=given)
    failure = await failed(name, http, far_end.url, far_end.key)
    assert failure.retry_after == (None if pause is None else pytest.approx(pause))


async def test_a_retry_after_that_does_not_fit_is_none_for_an_outage_too(http: RemoteHttp) -> None:
    """It says itself that asking sooner does not help."""
    with openai() as far_end:
        far_end.fail_with(503, retry_after="3600")
        failure = await failed("openai", http, far_end.url, far_end.key)
    assert (failure.reason, failure.retry_after) == (Reason.API_UNAVAILABLE, None)


@pytest.mark.parametrize("key", ["line\nbreak1", "schlüssel1", " leading11", "trailing1 ", "\ttab"])
async def test_a_key_that_no_header_can_carry_is_not_sent(
    http: RemoteHttp, name: str, far_end: FarEnd, key: str
) -> None:
    """It is said, without it, and nobody is asked."""
    failure = await failed(name, http, far_end.url, key)
    assert failure.reason is Reason.API_UNAUTHORIZED
    assert key.strip() not in told(failure)
    assert far_end.connections == 0


@pytest.mark.parametrize("suffix", ["", "/", "prefix", "prefix/"])
async def test_a_base_url_may_end_as_the_paths_begin(http: RemoteHttp, name: str, far_end: FarEnd, suffix: str) -> None:
    """People know the addresses of these interfaces with and without their version."""
    base_url = far_end.url + suffix.replace("prefix", ALL[name][0].prefix)
    assert isinstance(await ask(name, http, base_url, far_end.key), Passed)


class Records:
    """An Http that remembers where it was sent, and answers nothing; or raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked: list[str] = []

    async def ask(self, method: str, url: str, *, limit: float, headers: Mapping[str, str] | None = None) -> Answer:
        self.asked.append(url)
        raise self.error


async def test_without_a_base_url_it_is_the_interfaces_own_host_over_tls(name: str) -> None:
    """A constant, and nothing that a variable could change."""
    client = Records(TimeoutError())
    failure = await failed(name, client, "", "sk_test_0123456789")
    [url] = client.asked
    assert url.startswith(f"https://api.{name}.com/")
    assert "base_url" not in told(failure)


async def test_our_own_want_of_descriptors_is_not_theirs(name: str) -> None:
    """HOST_LIMITS, never "the interface is down"."""
    failure = await failed(name, Records(OSError(errno.EMFILE, "Too many open files")), "", "sk_test_0123456789")
    assert failure.reason is Reason.HOST_LIMITS


async def test_a_name_server_that_is_not_there_is_a_matter_of_names(name: str) -> None:
    """The system's words for it are in the evidence."""
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    failure = await failed(name, Records(error), "", "sk_test_0123456789")
    assert failure.reason is Reason.API_DNS
    assert "Temporary failure in name resolution" in told(failure)


async def test_it_can_be_cut_short(http: RemoteHttp, name: str, far_end: FarEnd) -> None:
    """A deploy that ends takes its questions with it."""
    far_end.fail_with("hang")
    question = asyncio.ensure_future(ask(name, http, far_end.url, far_end.key))
    while not far_end.requests:
        await asyncio.sleep(0)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
