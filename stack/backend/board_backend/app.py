"""The ASGI application, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import api, errors
from .database import Database
from .health import Health
from .recovery import Recovery
from .services import Storage
from .settings import Settings


class Identity:
    """Says on every answer, errors too, which deploy's process gave it; and that no answer may be kept."""

    def __init__(self, app: ASGIApp, deploy_id: str) -> None:
        self.app = app
        self._headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if deploy_id:
            self._headers["X-Flawless-Deploy-Id"] = deploy_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self.app(scope, receive, send_signed)


def create_app(settings: Settings) -> ASGIApp:
    """Connects to nothing yet: the process is alive at once, and ready when its database is."""
    database = Database(settings.database_url)
    storage = Storage(settings.storage)
    recovery = Recovery({"db": database, "storage": storage}, settings.storage / "recoveries.json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await database.close()

    app = Starlette(
        routes=[Mount("/api", routes=api.ROUTES), Mount("/health", routes=Health(settings, recovery).routes)],
        exception_handlers=errors.HANDLERS,
        lifespan=lifespan,
    )
    app.state.database = database
    # Outside of everything, so that the answer to a defect is signed too.
    return Identity(app, settings.deploy_id)
