"""A service's own recovery routes: what it says of earlier recoveries, and the order for the one we may give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flawless.adapters.http import LocalHttp
from flawless.core.answer import Answer
from flawless.core.check import Failed
from flawless.core.secret import Secret
from flawless.core.service import Ordered


@dataclass(frozen=True, slots=True)
class RecoveryRoutes:
    """`identity` is asked before the admin password is sent: it goes to a process of ours or to nobody."""

    http: LocalHttp
    base: str
    stats_path: str
    action_path: str
    password: Secret
    identity: Callable[[], Awaitable[Failed | None]]

    async def stats(self, limit: float) -> object:
        try:
            answer = await self.http.ask("GET", self.base + self.stats_path, limit=limit)
            return answer.json()
        except (OSError, ValueError):
            return None

    async def act(self, limit: float) -> Ordered:
        stranger = await self.identity()
        if stranger is not None:
            return Ordered(f"not tried: {stranger.cause}", taken=False)
        headers = {"X-Flawless-Request": "1"}
        if self.password:
            headers["X-Admin-Password"] = self.password.reveal()
        try:
            answer = await self.http.ask("POST", self.base + self.action_path, limit=limit, headers=headers, json={})
        except TimeoutError:
            return Ordered(f"POST {self.action_path} was not answered within {limit:g} s", taken=True)
        except (OSError, ValueError) as error:
            return Ordered(f"POST {self.action_path} failed: {error}", taken=False)
        # 409: one runs already; 429: one has just run.
        taken = answer.status < 400 or answer.status in {409, 429}
        return Ordered(f"POST {self.action_path} answered {answer.status}{_message(answer)}", taken)


def _message(answer: Answer) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""
    said = body.get("message") or body.get("error") if isinstance(body, dict) else None
    return f": {str(said)[:200]}" if said else ""
