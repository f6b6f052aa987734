"""The questions to the Cloudflare API: is the token active, is the tunnel connected, does the name lead to it?

The last two are the API's own view, and evidence for the tunnel's verdict; what visitors get is proved from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from flawless.checks.interfaces.api import Api, Document, Provider
from flawless.core.check import Concern, Failed, Outcome, Passed, Skipped
from flawless.core.plain import printable
from flawless.core.reason import Reason

CLOUDFLARE: Final = Provider(
    "Cloudflare",
    "token",
    "external.cloudflare",
    "https://api.cloudflare.com",
    "/client/v4",
    "https://dash.cloudflare.com/profile/api-tokens",
    "https://www.cloudflarestatus.com",
    "Account > Cloudflare Tunnel: Read",
    malformed=frozenset({6003, 6111}),
)
EXPIRING: Final = timedelta(days=14)
"""A token that ends sooner is a warning."""

_UNSEEN: Final = {Reason.API_FORBIDDEN, Reason.API_UNAUTHORIZED}
_LABELS: Final = 6
"""Ends of a name that are tried as its zone, the longest first."""


@dataclass(frozen=True, slots=True)
class CloudflareAcceptsToken:
    """The token is active: the user's own, or else one of the account."""

    api: Api
    account: str = ""
    optional: bool = False

    id = "external.cloudflare"
    claim = "Cloudflare accepts the token"

    async def ask(self, limit: float) -> Outcome:
        until = self.api.until(limit)
        found = await self.api.get("/client/v4/user/tokens/verify", until)
        if isinstance(found, Failed) and found.reason in _UNSEEN and self.account:
            # A token that belongs to an account is unknown to the first address.
            found = await self.api.get(f"/client/v4/accounts/{quote(self.account, safe='')}/tokens/verify", until)
        if isinstance(found, Failed):
            return found
        token = _result(self.api, found)
        if isinstance(token, Failed):
            return token
        if not isinstance(token, dict) or not isinstance(token.get("status"), str):
            return self.api.unexpected(found.path, "a success that tells no status of the token")
        return self._judged(found.path, token)

    def _judged(self, path: str, token: Mapping[str, Any]) -> Outcome:
        status = printable(token["status"])[:20]
        if status != "active":
            return self.api.refused(path, f"answered that the token is {status}")
        said = f"{self.api.host} answered {path} with 200: the token is active"
        ends = _moment(token.get("expires_on"))
        if ends is None:
            return Passed((said,))
        left = ends - self.api.clock.now()
        lasts = f"it ends on {ends:%Y-%m-%d}, in {left.days} days"
        return Passed((said, lasts), self._expiring() if left < EXPIRING else None)

    def _expiring(self) -> Concern:
        console = self.api.provider.console
        step = f"make a new token at {console}, put it into {self.api.where}, then: flawless deploy"
        return Concern(Reason.API_TOKEN_EXPIRING, step)


@dataclass(frozen=True, slots=True)
class CloudflareSeesTunnel:
    """The tunnel has connections to the edge, as far as the API knows; it may be some seconds late."""

    api: Api
    account: str
    tunnel: str
    optional: bool = False

    id = "external.tunnel"
    claim = "Cloudflare sees the tunnel connected"

    async def ask(self, limit: float) -> Outcome:
        if not self.account or not self.tunnel:
            missing = "tunnel" if self.account else "account"
            return Skipped(f"external.cloudflare.{missing} is not set, so the API cannot be asked for the tunnel")
        path = f"/client/v4/accounts/{quote(self.account, safe='')}/cfd_tunnel/{quote(self.tunnel, safe='')}"
        found = await self.api.get(path, self.api.until(limit))
        if isinstance(found, Failed) and found.reason in _UNSEEN:
            return Skipped("the token may not see tunnels: it lacks Account > Cloudflare Tunnel: Read")
        if isinstance(found, Document) and found.status == 404:
            return self._unconnected(path, "unknown: the account has no such tunnel")
        tunnel = _result(self.api, found)
        if isinstance(tunnel, Failed):
            return tunnel
        return self._judged(path, tunnel if isinstance(tunnel, dict) else {})

    def _judged(self, path: str, tunnel: Mapping[str, Any]) -> Outcome:
        if tunnel.get("deleted_at"):
            return self._unconnected(path, "deleted")
        match tunnel.get("status"):
            case "healthy":
                return Passed((f"the tunnel is healthy{_connections(tunnel)}",))
            case "degraded":
                step = "see what it printed: flawless logs tunnel -n 50"
                said = f"the tunnel is degraded{_connections(tunnel)}: some connections to the edge are lost"
                return Passed((said,), Concern(Reason.TUNNEL_NOT_CONNECTED, step))
            case "down" | "inactive" as status:
                return self._unconnected(path, f"{status}{_connections(tunnel)}")
        return self.api.unexpected(path, "a success that tells no status of the tunnel")

    def _unconnected(self, path: str, what: str) -> Failed:
        return self.api.failed(
            Reason.TUNNEL_NOT_CONNECTED,
            f"Cloudflare does not see the tunnel {self.tunnel} connected",
            (f"GET {self.api.host}{path}: the tunnel is {what}",),
            (
                "see what it printed: flawless logs tunnel -n 50",
                "see whether external.cloudflare.tunnel in flawless.toml is the tunnel that runs here",
            ),
        )


@dataclass(frozen=True, slots=True)
class NameLeadsToTunnel:
    """The DNS record of the public name is a proxied CNAME to the tunnel."""

    api: Api
    hostname: str
    tunnel: str
    optional: bool = False

    id = "external.dns"
    claim = "the public name leads to the tunnel"

    async def ask(self, limit: float) -> Outcome:
        if not self.tunnel or not self.hostname:
            missing = "external.cloudflare.tunnel" if self.hostname else "tunnel.hostname"
            return Skipped(f"{missing} is not set, so nobody knows what the record should be")
        until = self.api.until(limit)
        zone = await self._zone(until)
        if isinstance(zone, Failed):
            return _unless_unseen(zone, "zones: it lacks Zone > Zone: Read")
        if zone is None:
            return Skipped(f"the token sees no zone that {self.hostname} is in")
        records = await self._records(zone, until)
        if isinstance(records, Failed):
            return _unless_unseen(records, "DNS records: it lacks Zone > DNS: Read")
        return self._judged(records)

    async def _zone(self, until: float) -> str | Failed | None:
        """The id of the zone that the name is in; None when the token sees none."""
        for name in _zones_of(self.hostname):
            zones = await self._listed(f"/client/v4/zones?name={quote(name, safe='')}", until)
            if isinstance(zones, Failed):
                return zones
            found = next((one["id"] for one in zones if isinstance(one.get("id"), str)), None)
            if found is not None:
                return str(found)
        return None

    async def _records(self, zone: str, until: float) -> list[dict[str, Any]] | Failed:
        """Those of the name, else those of the wildcard beside it."""
        wildcard = f"*.{self.hostname.partition('.')[2]}"
        records: list[dict[str, Any]] | Failed = []
        for name in (self.hostname, wildcard):
            path = f"/client/v4/zones/{quote(zone, safe='')}/dns_records?name={quote(name, safe='')}"
            records = await self._listed(path, until)
            if records:  # a failure too
                break
        return records

    async def _listed(self, path: str, until: float) -> list[dict[str, Any]] | Failed:
        found = await self.api.get(path, until)
        result = _result(self.api, found)
        if isinstance(result, Failed):
            return result
        if not isinstance(result, list):
            return self.api.unexpected(path, "a success that is no list")
        return [one for one in result if isinstance(one, dict)]

    def _judged(self, records: list[dict[str, Any]]) -> Outcome:
        wanted = f"{self.tunnel}.cfargotunnel.com".lower()
        told = [_record(one) for one in records if one.get("type") in {"A", "AAAA", "CNAME"}]
        if any(_leads_to(one, wanted) and one.get("proxied") is True for one in records):
            return Passed((f"{self.hostname}: {'; '.join(told)}",))
        return self.api.failed(
            Reason.PUBLIC_NOT_ON_TUNNEL,
            f"the DNS record of {self.hostname} does not lead to the tunnel",
            (
                f"{self.hostname}: {'; '.join(told) or 'no record of its own, and no wildcard'}",
                f"it should be: CNAME {wanted}, proxied",
            ),
            (
                f"mend the record: cloudflared tunnel route dns --overwrite-dns {self.tunnel} {self.hostname}",
                "then: flawless deploy",
            ),
        )


def _result(api: Api, found: Document | Failed) -> Any:
    """`result` of an answer that calls itself a success; else the failure."""
    if isinstance(found, Failed):
        return found
    if found.status != 200 or found.body.get("success") is not True:
        return api.unexpected(found.path, f"status {found.status} and no success")
    return found.body.get("result")


def _unless_unseen(failed: Failed, what: str) -> Outcome:
    return Skipped(f"the token may not see {what}") if failed.reason in _UNSEEN else failed


def _moment(text: object) -> datetime | None:
    """`2026-12-01T00:00:00Z`; None for a token without end."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def _connections(tunnel: Mapping[str, Any]) -> str:
    found = tunnel.get("connections")
    return f", with {len(found)} connections" if isinstance(found, list) else ""


def _zones_of(hostname: str) -> Iterator[str]:
    labels = hostname.lower().rstrip(".").split(".")
    for start in range(max(len(labels) - _LABELS, 0), len(labels) - 1):
        yield ".".join(labels[start:])


def _leads_to(record: Mapping[str, Any], wanted: str) -> bool:
    content = record.get("content")
    return record.get("type") == "CNAME" and isinstance(content, str) and content.lower().rstrip(".") == wanted


def _record(one: Mapping[str, Any]) -> str:
    kind, content = (printable(str(one.get(key)))[:100] for key in ("type", "content"))
    return f"{kind} {content}, {'proxied' if one.get('proxied') is True else 'not proxied'}"
