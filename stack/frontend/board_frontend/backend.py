"""The backend as the frontend sees it: an API that answers, refuses, or is not there."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from starlette.exceptions import HTTPException

TOTAL = 10.0
"""Seconds for a whole exchange; above every limit of the backend's own, so that its answer is the one heard."""
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer."""

SILENT = "The part of the board that keeps your projects does not answer."
NO_DATABASE = "The board is running, but its database does not answer."


class Offline(Exception):
    """The backend cannot serve now; the text is a sentence for the person in front of the page."""


class Refused(Exception):
    """The backend will not take what was sent: a message for each field."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("refused")
        self.fields = fields


class Backend:
    """One client for the process. `transport` is the seam: a test passes the backend's own application."""

    def __init__(self, url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers={"Accept-Encoding": "identity"},
            timeout=TOTAL,
            limits=httpx2.Limits(max_connections=50, max_keepalive_connections=10),
            transport=transport,
            trust_env=False,  # a proxy in the environment has no business between us and our own backend
        )

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """A call of the API, answered with its JSON. Raises Offline, Refused, or HTTPException (404 and the like)."""
        answer = await self.send(method, path, **({} if body is None else {"json": body}))
        if answer.status_code == 204:
            return None
        document = _document(answer)
        if answer.status_code == 422:
            raise Refused(document["error"].get("fields", {}))
        if answer.is_error:
            raise HTTPException(answer.status_code, document["error"]["message"])
        return document

    async def send(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """One exchange, read whole. Raises Offline when no whole answer came in time."""
        try:
            async with asyncio.timeout(TOTAL), self._client.stream(method, path, **request) as response:
                return await _read(response)
        except (httpx2.TransportError, TimeoutError) as fault:
            raise Offline(SILENT) from fault

    async def close(self) -> None:
        await self._client.aclose()


async def _read(response: httpx2.Response) -> httpx2.Response:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise HTTPException(502, "The answer is too large.")
    return httpx2.Response(response.status_code, headers=response.headers, content=bytes(body))


def _document(answer: httpx2.Response) -> Any:
    """A stranger on the backend's port answers with something else: that is offline, whatever its status says."""
    if answer.status_code == 503:
        raise Offline(NO_DATABASE)
    if answer.is_server_error or not answer.headers.get("content-type", "").startswith("application/json"):
        raise Offline(SILENT)
    return answer.json()
