"""`/health`: what a deploy, a supervisor and a load balancer ask. Liveness never asks the database."""

from __future__ import annotations

import hmac
import os
import platform
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .errors import refusal
from .recovery import Recovery
from .services import State
from .settings import Settings

STARTED = time.monotonic()
WEAK_PASSWORD = 12
"""Characters; a shorter admin password is as good as none."""
FAILURES_A_MINUTE = 10


class Health:
    """The five routes over one picture of the services."""

    def __init__(self, settings: Settings, recovery: Recovery) -> None:
        self._settings = settings
        self._recovery = recovery
        self._failures = 0
        self._refused: deque[float] = deque(maxlen=FAILURES_A_MINUTE)

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/live", self.live),
            Route("/db", self.db),
            Route("/status", self.status),
            Route("/recovery-stats", self.recovery_stats),
            Route("/recover", self.recover, methods=["POST"]),
        ]

    async def live(self, _: Request) -> Response:
        message = "The process serves; this says nothing of its database."
        return JSONResponse(
            {
                "status": "alive",
                "service": "board-backend",
                "timestamp": _now(),
                "uptime": _uptime(),
                "pid": os.getpid(),
            }
            | {"port": self._settings.port, "message": message, "deployId": self._settings.deploy_id}
        )

    async def db(self, _: Request) -> Response:
        state = await self._recovery.services["db"].ask()
        self._failures = 0 if state.healthy else self._failures + 1
        return JSONResponse(
            {
                "ready": state.healthy,
                "latencyMs": _ms(state),
                "lastPingAt": _now(),
                "lastError": state.error or None,
                "failureCount": self._failures,
                "databaseUrl": "configured" if self._settings.database_url else "missing",
                "message": "The database answers." if state.healthy else state.error,
                "timestamp": _now(),
                "deployId": self._settings.deploy_id,
            },
            200 if state.healthy else 503,
        )

    async def status(self, _: Request) -> Response:
        """Always 200: the body is the news. Both services are required, so there is no `degraded` in between."""
        states = await self._recovery.ask()
        reasons = [f"{name}: {state.error}" for name, state in states.items() if not state.healthy]
        return JSONResponse(
            {
                "ok": not reasons,
                "status": "unhealthy" if reasons else "healthy",
                "timestamp": _now(),
                "uptimeSec": _uptime(),
                "mode": "normal",
                "build": {"commit": self._settings.commit or None, "python": platform.python_version()},
                "server": {"alive": True, "uptime": _uptime(), "pid": os.getpid(), "port": self._settings.port},
                "database": {"ready": states["db"].healthy, "latencyMs": _ms(states["db"]), "breaker": None},
                "services": {name: _service(state) for name, state in states.items()},
                "degradedReasons": reasons,
                "incidents": None,
                "deployId": self._settings.deploy_id,
            }
        )

    async def recovery_stats(self, _: Request) -> Response:
        unhealthy = [name for name, state in (await self._recovery.ask()).items() if not state.healthy]
        return JSONResponse(
            {
                "stats": self._recovery.stats(),
                "history": self._recovery.history(),
                "needsRecovery": {"needed": bool(unhealthy), "services": unhealthy},
                "timestamp": _now(),
                "deployId": self._settings.deploy_id,
            }
        )

    async def recover(self, request: Request) -> Response:
        if refused := self._refuse(request):
            return refused
        if self._recovery.running:
            return refusal(
                409, "RECOVERY_RUNNING", "A recovery is under way; its result will be in /health/recovery-stats."
            )
        results = await self._recovery.attempt()
        message = "Nothing needed recovery."
        if results:
            message = "Recovered." if all(result["success"] for result in results) else "Recovery did not help."
        return JSONResponse(
            {
                "message": message,
                "attempted": bool(results),
                "services": [result["service"] for result in results],
                "results": results,
                "stats": self._recovery.stats(),
                "deployId": self._settings.deploy_id,
            }
        )

    def _refuse(self, request: Request) -> Response | None:
        password = self._settings.admin_password
        if len(password) < WEAK_PASSWORD:
            message = f"Closed: ADMIN_PASSWORD is not set, or shorter than {WEAK_PASSWORD} characters."
            return refusal(503, "ADMIN_CLOSED", message)
        if len(self._refused) == FAILURES_A_MINUTE and (left := self._refused[0] + 60 - time.monotonic()) > 0:
            return refusal(429, "ADMIN_SLOW_DOWN", "Too many wrong passwords.", retry_after=int(left) + 1)
        if not hmac.compare_digest(request.headers.get("x-admin-password", "").encode(), password.encode()):
            self._refused.append(time.monotonic())
            return refusal(401, "ADMIN_REFUSED", "Send the admin password in the header X-Admin-Password.")
        if not _meant(request):
            return refusal(403, "FOREIGN_REQUEST", "Send a JSON body or X-Flawless-Request: 1, from this origin.")
        return None


def _meant(request: Request) -> bool:
    """A page elsewhere cannot make a browser send these."""
    headers = request.headers
    deliberate = headers.get("content-type", "").startswith("application/json") or "x-flawless-request" in headers
    return deliberate and urlsplit(headers.get("origin", "")).netloc in ("", headers.get("host"))


def _service(state: State) -> dict[str, Any]:
    return {
        "healthy": state.healthy,
        "required": True,
        "lastChecked": _now(),
        "latency": _ms(state),
        "error": state.error or None,
        "hasDetails": False,
    }


def _ms(state: State) -> float:
    return round(state.latency * 1000, 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _uptime() -> float:
    return round(time.monotonic() - STARTED, 1)
