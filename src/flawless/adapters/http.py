"""HTTP requests to services on this machine: no proxy, no redirect, a bounded body, one total limit."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from typing import Any, Final

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
                return await _ask(client, method, url, headers or {}, json)
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
            self._client = asyncio.ensure_future(asyncio.to_thread(_client))

    async def _opened(self) -> Any:
        self.prepare()
        assert self._client is not None
        # Whoever asks first may be cut short; the others still wait for it.
        return await asyncio.shield(self._client)


def _client() -> Any:
    import httpx2

    # Only http:// is asked here, and building a TLS context would cost every command tens of milliseconds.
    # A fresh connection each time: a kept one would go to the process that was there before.
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(verify=False, trust_env=False, follow_redirects=False, limits=limits, timeout=None)


async def _ask(client: Any, method: str, url: str, headers: Mapping[str, str], json: object) -> Answer:
    async with client.stream(method, url, headers=headers, json=json) as response:
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
            peer=url,
        )


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
