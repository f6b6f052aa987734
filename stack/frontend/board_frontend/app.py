"""The ASGI application, put together: pages, the proxy, and what guards both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import pages
from .backend import Backend, Offline
from .proxy import forward
from .settings import Settings

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
NOTHING_BUT_OURS = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Guard:
    """Signs every answer with the deploy, adds the security headers, and takes changes from our own pages only."""

    def __init__(self, app: ASGIApp, deploy_id: str) -> None:
        self.app = app
        self._headers = {
            "Content-Security-Policy": NOTHING_BUT_OURS,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            # Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        } | ({"X-Flawless-Deploy-Id": deploy_id} if deploy_id else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        foreign = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD") and _is_foreign(scope)
        refusal = PlainTextResponse("This request comes from another site, so nothing was changed.\n", 403)
        await (refusal if foreign else self.app)(scope, receive, send_guarded)


def _is_foreign(scope: Scope) -> bool:
    """Browsers send Origin with every POST. A request with neither header is a program's, with no one's rights."""
    headers = Headers(scope=scope)
    if (origin := headers.get("origin")) is not None:
        return urlsplit(origin).netloc != headers.get("host")
    return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


async def health(request: Request) -> Response:
    """The frontend's own. `/health/*` is the backend's: a frontend that says `alive` in its place would lie."""
    return JSONResponse(
        {"status": "serving", "service": "board-frontend", "deployId": request.app.state.settings.deploy_id}
    )


async def on_offline(request: Request, error: Exception) -> Response:
    if request.url.path.startswith(("/api/", "/health/")):
        body = {"error": {"code": "BACKEND_OFFLINE", "message": str(error)}}
        return JSONResponse(body, 503, {"Retry-After": "10"})
    return pages.offline(request, str(error))


async def on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return pages.notice(request, 404, "Nothing here", "This page does not exist, or no longer does.")
    return pages.notice(request, error.status_code, HTTPStatus(error.status_code).phrase, error.detail)


async def on_defect(request: Request, _: Exception) -> Response:
    """The traceback is in the log, where it belongs."""
    return pages.notice(request, 500, "Something broke", "This is our mistake, and it has been written down.")


def create_app(settings: Settings, transport: httpx2.AsyncBaseTransport | None = None) -> ASGIApp:
    """Asks the backend nothing yet: the frontend serves at once, if only to say that the board is offline."""
    backend = Backend(settings.backend_url, transport)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await backend.close()

    app = Starlette(
        routes=[
            *pages.ROUTES,
            Route("/frontend/health", health),
            Route("/api/{path:path}", forward, methods=EVERY_METHOD),
            Route("/health/{path:path}", forward, methods=EVERY_METHOD),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        exception_handlers={HTTPException: on_http, Offline: on_offline, Exception: on_defect},
        lifespan=lifespan,
    )
    app.state.backend = backend
    app.state.settings = settings
    return Guard(app, settings.deploy_id)
