"""The questions to Stripe: does it accept the key, and does it send its events to this stack? Nothing is charged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flawless.checks.environment import Address, is_misplaced, mode_of
from flawless.checks.interfaces.api import Api, Document, Provider
from flawless.core.check import Concern, Failed, Outcome, Passed, Skipped
from flawless.core.reason import Reason

STRIPE: Final = Provider(
    "Stripe",
    "key",
    "external.stripe",
    "https://api.stripe.com",
    "/v1",
    "https://dashboard.stripe.com/apikeys",
    "https://status.stripe.com",
    "Balance: read",
)
PAGE: Final = 100
"""Webhook endpoints that are asked for; no account of Stripe's may have more than a few."""

_ACCOUNT: Final = re.compile(r"acct_[A-Za-z0-9]{4,40}")


@dataclass(frozen=True, slots=True)
class StripeAcceptsKey:
    """The account is shown to the key. `users`: where they are, which decides whether a test key is right."""

    api: Api
    users: Address | None = None
    webhook_secret: str = ""
    optional: bool = False

    id = "external.stripe"
    claim = "Stripe accepts the key"

    async def ask(self, limit: float) -> Outcome:
        until = self.api.until(limit)
        found = await self.api.get("/v1/account", until)
        if isinstance(found, Failed) and found.reason is Reason.API_FORBIDDEN:
            # A restricted key sees what it was given, and rarely the account.
            found = await self.api.get("/v1/balance", until)
        if isinstance(found, Failed):
            return found
        if found.body.get("object") not in {"account", "balance"}:
            return self.api.unexpected(found.path, f"status {found.status} and neither an account nor a balance")
        return self._judged(found)

    def _judged(self, found: Document) -> Outcome:
        mode = self._mode(found.body)
        if self.users is not None and is_misplaced(mode, self.users):
            return self._misplaced(mode, self.users.host)
        return Passed((f"{self.api.host} answered {found.path} with 200", *self._seen(found.body, mode)))

    def _mode(self, body: Mapping[str, Any]) -> str:
        """What Stripe says of it, else how the key begins."""
        if isinstance(body.get("livemode"), bool):
            return "live" if body["livemode"] else "test"
        return mode_of(self.api.key.reveal())

    def _seen(self, body: Mapping[str, Any], mode: str) -> Iterator[str]:
        account = body.get("id")
        if isinstance(account, str) and _ACCOUNT.fullmatch(account):
            yield f"account {account}"
        if mode:
            yield f"{mode} mode"
        if self.webhook_secret:
            yield f"the webhook secret is a {self.webhook_secret}"

    def _misplaced(self, mode: str, host: str) -> Failed:
        other = "live" if mode == "test" else "test"
        return self.api.failed(
            Reason.API_KEY_MODE,
            f"Stripe takes the key for one of {mode} mode, and users are on {host}",
            (f"{self.api.host} accepted it, in {mode} mode",),
            (f"put the {other} key into {self.api.where}, or mend base_url in flawless.toml",),
        )


@dataclass(frozen=True, slots=True)
class StripeSendsEvents:
    """A webhook endpoint of the account leads to this stack. `address`: where Stripe would have to send to."""

    api: Api
    address: str
    optional: bool = False

    id = "external.webhook"
    claim = "Stripe sends its events to this stack"

    async def ask(self, limit: float) -> Outcome:
        found = await self.api.get(f"/v1/webhook_endpoints?limit={PAGE}", self.api.until(limit))
        if isinstance(found, Failed):
            return _unseen() if found.reason is Reason.API_FORBIDDEN else found
        endpoints = found.body.get("data")
        if found.status != 200 or not isinstance(endpoints, list):
            return self.api.unexpected(found.path, f"status {found.status} and no list")
        ours = [one for one in endpoints if isinstance(one, dict) and self._is_ours(one.get("url"))]
        return self._judged(ours, len(endpoints), has_more=found.body.get("has_more") is True)

    def _judged(self, ours: list[dict[str, Any]], seen: int, *, has_more: bool) -> Outcome:
        place = _origin(self.address)
        if any(one.get("status") == "enabled" for one in ours):
            return Passed((f"an endpoint on {place} is enabled",))
        if not ours and has_more:
            return Skipped(f"the first {seen} endpoints are none of {place}, and Stripe has more of them")
        what = "is disabled" if ours else f"is none of the {seen} that the account has"
        step = f"add {self.address.rstrip('/')}/... at https://dashboard.stripe.com/webhooks, then: flawless deploy"
        return Passed((f"an endpoint on {place} {what}",), Concern(Reason.API_WEBHOOK_MISSING, step))

    def _is_ours(self, url: object) -> bool:
        return isinstance(url, str) and _origin(url) == _origin(self.address)


def _unseen() -> Skipped:
    return Skipped("the key may not see webhook endpoints (403), so nobody knows whether one leads here")


def _origin(url: str) -> str:
    """`https://shop.example.org`, however it is written."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return ""
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{port}" if port not in {None, usual} else "")
