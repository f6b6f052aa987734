"""Requests to services on this machine, against a server whose paths are faults."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
import trustme

from flawless.adapters.http import BODY_LIMIT, LocalHttp, RemoteHttp
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


class Tls:
    """A TLS server with a certificate of its own authority, that answers every request with what it was asked."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(self._context)
        self.heads: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


async def test_a_name_is_asked_where_the_manifest_says_it_is(tmp_path: Path) -> None:
    """The Host header and the certificate are those of the name; the end of the certificate is told."""
    async with Tls(tmp_path, "app.example.org") as server:
        place = f"127.0.0.1:{server.port}"
        client = RemoteHttp(ca_file=server.ca_file, resolve={"app.example.org:443": place})
        answer = await client.ask("GET", "https://app.example.org/a?b=c", limit=5)
        await client.aclose()
    assert (answer.status, answer.body, answer.peer) == (200, b"ok", "https://app.example.org/a?b=c")
    assert answer.certificate_ends is not None
    assert answer.certificate_ends > datetime.now(UTC)
    assert server.heads[0].startswith("GET /a?b=c HTTP/1.1\r\n")
    assert "host: app.example.org\r\n" in server.heads[0].lower()


@pytest.mark.parametrize("is_known", [True, False], ids=["wrong name", "unknown authority"])
async def test_a_certificate_that_does_not_prove_the_name_is_refused(tmp_path: Path, *, is_known: bool) -> None:
    """The TLS error itself comes out, with the library's own words for it; nothing was sent."""
    async with Tls(tmp_path, "other.example.org" if is_known else "app.example.org") as server:
        place = f"127.0.0.1:{server.port}"
        ca_file = server.ca_file if is_known else None
        client = RemoteHttp(ca_file=ca_file, resolve={"app.example.org:443": place})
        with pytest.raises(
            ssl.SSLCertVerificationError, match="mismatch" if is_known else "unable to get local issuer"
        ):
            await client.ask("GET", "https://app.example.org/", limit=5)
        await client.aclose()
    assert server.heads == []


async def test_a_body_without_end_is_not_whole(http: LocalHttp, server: Faults) -> None:
    """Who asked for a short answer can tell."""
    assert not (await http.ask("GET", url(server, "/endless"), limit=5)).is_whole
    assert (await http.ask("GET", url(server, "/"), limit=5)).is_whole
