"""HTTP requests, to services here and to far ends: no proxy, no redirect, a bounded body, one total limit."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from flawless.core.answer import Answer

BODY_LIMIT: Final = 1024 * 1024
"""Bytes that are read of an answer; the rest is left unread."""


class LocalHttp:
    """One client for all probes of a command. Close it with `aclose`."""

    def __init__(self) -> None:
        self._client: asyncio.Future[Any] | None = None

    async def ask(
        self,
        method: str,
        url: str,
        *,
        limit: float,
        headers: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Answer:
        """Raises TimeoutError, OSError with its errno, or ValueError when what answers does not speak HTTP.

        An end without an answer is a ConnectionResetError, an end within the body a ConnectionAbortedError.
        """
        client = await self._opened()
        import httpx2

        try:
            async with asyncio.timeout(limit):
                return await self._asked(client, method, url, headers or {}, json)
        except httpx2.TimeoutException as error:
            raise TimeoutError(str(error)) from error
        except (httpx2.RemoteProtocolError, httpx2.DecodingError) as error:
            raise _protocol_error(str(error)) from error
        except httpx2.TransportError as error:
            raise _os_error(error) from error

    async def aclose(self) -> None:
        if self._client is not None:
            await (await self._client).aclose()

    def prepare(self) -> None:
        """Loads the library in a thread: its tenth of a second passes while a service boots."""
        if self._client is None:
            self._client = asyncio.ensure_future(asyncio.to_thread(self._made))

    async def ready(self) -> None:
        """Returns when the library is loaded: it is no part of the limit of a request."""
        await self._opened()

    async def _opened(self) -> Any:
        self.prepare()
        assert self._client is not None
        # Whoever asks first may be cut short; the others still wait for it.
        return await asyncio.shield(self._client)

    def _made(self) -> Any:
        # Only http:// is asked here, and building a TLS context would cost every command tens of milliseconds.
        return _client(verify=False)

    async def _asked(self, client: Any, method: str, url: str, headers: Mapping[str, str], json: object) -> Answer:
        return await _ask(client, method, url, headers, json)


class RemoteHttp(LocalHttp):
    """One client for the far ends of a command: certificates are verified against the system's authorities.

    `ca_file`: further authorities, PEM. `resolve`: "host:port" to "address:port", where a name is to be found before
    DNS says so; the certificate is still that of the name.
    """

    def __init__(self, *, ca_file: Path | None = None, resolve: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._ca_file = ca_file
        self._resolve = dict(resolve or {})

    def _made(self) -> Any:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return _client(verify=context)

    async def _asked(self, client: Any, method: str, url: str, headers: Mapping[str, str], json: object) -> Answer:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        place = self._resolve.get(f"{parts.hostname}:{port}")
        if place is None:
            return await _ask(client, method, url, headers, json)
        there = urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
        headers = {"Host": parts.netloc.rpartition("@")[2], **headers}
        return await _ask(client, method, there, headers, json, peer=url, name=parts.hostname)


def _client(*, verify: ssl.SSLContext | bool) -> Any:
    import httpx2

    # A fresh connection each time: a kept one would go to the process that was there before.
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(verify=verify, trust_env=False, follow_redirects=False, limits=limits, timeout=None)


async def _ask(
    client: Any,
    method: str,
    url: str,
    headers: Mapping[str, str],
    json: object,
    *,
    peer: str | None = None,
    name: str | None = None,
) -> Answer:
    """`peer`: the address as it was asked for. `name`: that of the certificate, where the URL has another."""
    extensions = {"sni_hostname": name} if name else {}
    async with client.stream(method, url, headers=headers, json=json, extensions=extensions) as response:
        ends = _certificate_ends(response)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= BODY_LIMIT:
                break
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            body=bytes(body[:BODY_LIMIT]),
            headers={name.lower(): value for name, value in response.headers.items()},
            peer=peer or url,
            is_whole=len(body) < BODY_LIMIT,
            certificate_ends=ends,
        )


def _certificate_ends(response: Any) -> datetime | None:
    """When the certificate of the connection ends; None without TLS. Known only while the connection is open."""
    session = response.extensions["network_stream"].get_extra_info("ssl_object")
    certificate = session.getpeercert() if session is not None else None
    if not certificate:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


def _protocol_error(said: str) -> OSError | ValueError:
    """What a breach of HTTP was. The library gives its text alone: "Server disconnected without sending a response.",
    "peer closed connection without sending complete message body (received 4 bytes, expected 100)".
    """
    if said.startswith("Server disconnected"):
        return ConnectionResetError(errno.ECONNRESET, "the connection was closed without an answer")
    if said.startswith("peer closed connection"):
        how = said.partition("(")[2].rstrip(")") or said
        return ConnectionAbortedError(errno.ECONNABORTED, f"its answer was cut short: {how}")
    return ValueError(said)


def _os_error(error: BaseException) -> OSError:
    """The operating system's own error below a transport's; without one, the connection was lost."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConnectionResetError(errno.ECONNRESET, str(error) or "the connection was cut")
