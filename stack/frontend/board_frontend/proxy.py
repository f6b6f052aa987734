"""`/api/*` and `/health/*`, handed to the backend and back, so that a browser speaks to one origin."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .backend import Backend

BODY_LIMIT = 1024 * 1024
"""Bytes of a request's body."""

# RFC 9110, 7.6.1: these speak of one connection. Date, lengths and encodings are set anew here.
ONE_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
    "content-encoding",
    "content-length",
    "date",
}


async def forward(request: Request) -> Response:
    """The Host header stays, so that the backend can tell its own origin from a foreign one."""
    backend: Backend = request.app.state.backend
    path = request.scope["raw_path"].decode("latin-1")
    target = f"{path}?{request.url.query}" if request.url.query else path
    content = await read_body(request, BODY_LIMIT)
    answer = await backend.send(request.method, target, headers=_passed_on(request.headers.items()), content=content)
    response = Response(answer.content, answer.status_code)
    for name, value in _passed_on(answer.headers.multi_items()):
        response.headers.append(name, value)
    return response


async def read_body(request: Request, limit: int) -> bytes:
    """At most `limit` bytes; 413 for more, without reading the rest."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"A request holds at most {limit} bytes.")
    return bytes(body)


def _passed_on(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    named = {option.strip().lower() for name, value in headers if name == "connection" for option in value.split(",")}
    return [(name, value) for name, value in headers if name.lower() not in ONE_HOP | named]
