"""Requests to services on this machine, against a server whose paths are faults."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator

import pytest

from flawless.adapters.http import BODY_LIMIT, LocalHttp
from support.http_faults import Faults, faulty
from support.keepers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[Faults]:
    with faulty() as one:
        yield one


@pytest.fixture
async def http() -> AsyncIterator[LocalHttp]:
    client = LocalHttp()
    yield client
    await client.aclose()


def url(server: Faults, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


async def test_an_answer_is_its_status_type_headers_and_body(http: LocalHttp, server: Faults) -> None:
    """Header names in small letters; where it went stands in it."""
    answer = await http.ask("GET", url(server, "/health/db"), limit=5)
    assert (answer.status, answer.content_type, answer.json()) == (200, "application/json", {"ready": True})
    assert answer.headers["connection"] == "close"
    assert answer.describe() == f'{url(server, "/health/db")} answered 200 application/json: {{"ready": true}}'


async def test_headers_and_a_body_are_sent(http: LocalHttp, server: Faults) -> None:
    """What a recovery needs."""
    await http.ask("POST", url(server, "/"), limit=5, headers={"X-Flawless-Request": "1"}, json={})
    [head] = server.heads
    assert head.startswith("POST / HTTP/1.1\r\n")
    assert "x-flawless-request: 1" in head.lower()


@pytest.mark.parametrize("path", ["/hang", "/drip"])
async def test_one_limit_holds_for_all_of_it(http: LocalHttp, server: Faults, path: str) -> None:
    """No answer, or a byte now and then for ever: both are a time-out."""
    with pytest.raises(TimeoutError):
        await http.ask("GET", url(server, path), limit=0.2)


@pytest.mark.parametrize("path", ["/binary"])
async def test_what_does_not_speak_http_is_a_value_error(http: LocalHttp, server: Faults, path: str) -> None:
    """Something else listens there."""
    with pytest.raises(ValueError, match=r".+"):
        await http.ask("GET", url(server, path), limit=5)


async def test_a_connection_that_is_reset_is_the_systems_error(http: LocalHttp, server: Faults) -> None:
    """With its errno; one that is closed without an answer is the same to whoever asked."""
    for path in ("/reset", "/closed", "/closed-in-head"):
        with pytest.raises(ConnectionResetError) as error:
            await http.ask("GET", url(server, path), limit=5)
        assert error.value.errno == errno.ECONNRESET


async def test_half_a_body_is_no_answer(http: LocalHttp, server: Faults) -> None:
    """It ended before it was all there, and that is no breach of HTTP but an end."""
    with pytest.raises(ConnectionAbortedError, match="its answer was cut short: received 4 bytes, expected 100"):
        await http.ask("GET", url(server, "/cut"), limit=5)
    with pytest.raises(ConnectionAbortedError, match="its answer was cut short: incomplete chunked read"):
        await http.ask("GET", url(server, "/cut-in-chunks"), limit=5)


async def test_nobody_there_is_refused_with_its_errno(http: LocalHttp) -> None:
    """The machine's own word for it."""
    with pytest.raises(ConnectionRefusedError) as error:
        await http.ask("GET", f"http://127.0.0.1:{free_port()}/", limit=5)
    assert error.value.errno == errno.ECONNREFUSED


async def test_a_body_without_end_is_read_up_to_a_bound(http: LocalHttp, server: Faults) -> None:
    """And the connection is given up then."""
    answer = await http.ask("GET", url(server, "/endless"), limit=10)
    assert len(answer.body) == BODY_LIMIT


async def test_a_redirect_is_not_followed(http: LocalHttp, server: Faults) -> None:
    """What is asked is this process, and no other."""
    assert (await http.ask("GET", url(server, "/redirect"), limit=5)).status == 302


async def test_json_nested_without_end_is_no_json(http: LocalHttp, server: Faults) -> None:
    """A hostile body ends no check."""
    answer = await http.ask("GET", url(server, "/deep"), limit=5)
    with pytest.raises(ValueError, match="nested"):
        answer.json()


async def test_no_proxy_of_the_environment_is_used(
    http: LocalHttp, server: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that goes through a proxy asks somebody else."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert (await http.ask("GET", url(server, "/health/db"), limit=5)).status == 200


async def test_each_question_is_a_connection_of_its_own(http: LocalHttp, server: Faults) -> None:
    """A kept one would lead to the process that was there before."""
    for _ in range(2):
        await http.ask("GET", url(server, "/flap"), limit=5)
    assert server.asked["/flap"] == 2
    assert len(server.heads) == 2


async def test_a_client_that_was_never_used_is_closed_too() -> None:
    """Nothing to do is no error."""
    await LocalHttp().aclose()
