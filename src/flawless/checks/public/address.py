"""The public name and address, seen from outside by all checks at once, as the two states the verdict needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from urllib.parse import urlsplit

from flawless.checks.answer import Wanted
from flawless.checks.environment import told_address
from flawless.checks.public.name import NameKnown
from flawless.checks.public.reachable import SAMPLED, PublicReachable, Taken
from flawless.checks.public.sample import LEAST, Weight
from flawless.checks.public.site import Local, Site
from flawless.core.answer import Http
from flawless.core.check import Finding, Skipped
from flawless.core.clock import Clock
from flawless.core.settings import PublicCheck, PublicSettings, Settings
from flawless.core.tunnel import Name, Outside, Public, Seen
from flawless.manifest.tunnel import declared, hostname

Arrivals = Callable[[], Awaitable[float | None]]
"""How many requests cloudflared here has been handed so far (`cloudflared_tunnel_total_requests`); None: not known."""

WORST_FIRST: Final = (
    # Somebody else has what is ours.
    *(Public.MIXED, Public.WRONG_SITE, Public.STALE),
    # The way to us is broken: the nearest link to the visitor first.
    *(Public.TLS, Public.REDIRECT, Public.ACCESS_WALL, Public.NOT_ON_TUNNEL, Public.NO_TUNNEL, Public.BAD_GATEWAY),
    # It is ours, or may be, and is not as it should be.
    *(Public.UNREACHABLE, Public.UNHEALTHY, Public.ASSET_TYPE),
    # One that was not asked leaves the proof open.
    *(Public.UNASKED, Public.OURS),
)
"""Which state stands for all required checks: the first of these that any of them is in."""

NAMES_WORST_FIRST: Final = (
    *(Name.OFFLINE, Name.NOWHERE, Name.ELSEWHERE, Name.UNASKED),
    *(Name.RESOLVES, Name.PINNED),
)
"""The same for names."""

_UNKNOWN: Final = (Name.OFFLINE, Name.NOWHERE, Name.ELSEWHERE)

_NAME_WITHIN: Final = 6.0
"""Seconds that the names may take, here and elsewhere."""

State = TypeVar("State", Name, Public)


@dataclass(frozen=True, slots=True)
class Look:
    """What all public checks showed at once: the two states for the verdict, and a finding a question."""

    outside: Outside
    findings: tuple[Finding, ...]

    @property
    def optional(self) -> tuple[Finding, ...]:
        """Those that no verdict rests on: each speaks for itself."""
        return tuple(one for one in self.findings if one.optional)


@dataclass(frozen=True, slots=True)
class _Named:
    check: NameKnown
    seen: Seen[Name]
    latency: float

    @property
    def finding(self) -> Finding:
        return Finding(self.check.id, self.check.claim, self.seen.outcome, self.latency, self.check.optional)


@dataclass(frozen=True, slots=True)
class _Looked:
    check: PublicReachable
    seen: Seen[Public]
    latency: float
    taken: Taken | None = None

    @property
    def finding(self) -> Finding:
        return Finding(self.check.id, self.check.claim, self.seen.outcome, self.latency, self.check.optional)

    @property
    def ours(self) -> int:
        """How many answers came through the tunnel and were ours."""
        return len(self.taken.sample.of(Weight.OURS)) if self.taken and self.check.through_tunnel else 0

    def elsewhere(self, said: str) -> _Looked:
        """The same look, where it seemed ours, with the word of the counter against it."""
        if not self.check.through_tunnel or self.seen.state is not Public.OURS:
            return self
        return replace(self, seen=Seen(Public.MIXED, self.check.failure(Public.MIXED, [said])), taken=None)


class PublicAddress:
    """Every public check of a stack. Kept for as long as a gate asks: it remembers who has answered before.

    `ids`: the deploys of the services that run here. `hostname`: what the tunnel carries, where there is one.
    `arrivals`: what cloudflared here counts, to tell even a connector that answers just as we do.
    """

    def __init__(
        self,
        settings: PublicSettings,
        http: Http,
        clock: Clock,
        *,
        ids: frozenset[str],
        local: Local,
        hostname: str = "",
        arrivals: Arrivals | None = None,
    ) -> None:
        self._clock = clock
        self._arrivals = arrivals
        self.checks = _checks(settings, Site(http, ids), local, clock, hostname.lower())
        self.names = _names(self.checks, settings)

    async def observe(self, limit: float) -> Look:
        """The names first, then every address whose name is known, side by side; all within the limit."""
        ends = self._clock.monotonic() + limit
        names = await asyncio.gather(*(self._named(one, min(_NAME_WITHIN, limit / 2)) for one in self.names))
        known = {one.check.key: one for one in names}
        before = await self._counted()
        looks = await asyncio.gather(*(self._taken(one, known[_key(one)], ends) for one in self.checks))
        looks = _held_against(looks, before, await self._counted())
        looks = await asyncio.gather(*(self._finished(one, ends) for one in looks))
        findings = (*(one.finding for one in names), *(one.finding for one in looks))
        return Look(Outside(_name_of(names), _public_of(looks)), findings)

    async def _named(self, check: NameKnown, limit: float) -> _Named:
        began = self._clock.monotonic()
        seen = await check.look(limit)
        return _Named(check, seen, self._clock.monotonic() - began)

    async def _taken(self, check: PublicReachable, name: _Named, ends: float) -> _Looked:
        if name.seen.state in _UNKNOWN:
            outcome = Skipped(f"{check.host} is not known here, so {check.url} was not asked")
            # Required, it is the name's to fail; optional, nothing else says that it is not there.
            return _Looked(check, Seen(Public.UNASKED, name.seen.outcome if check.optional else outcome), 0.0)
        began = self._clock.monotonic()
        taken = await check.take(max((ends - began) * SAMPLED, 0.1))
        return _Looked(check, taken.seen, self._clock.monotonic() - began, taken)

    async def _finished(self, one: _Looked, ends: float) -> _Looked:
        """Scripts and styles come last, so that the counter tells of the sample alone."""
        if one.taken is None:
            return one
        began = self._clock.monotonic()
        seen = await one.check.finish(one.taken, ends - began)
        return replace(one, seen=seen, latency=one.latency + self._clock.monotonic() - began)

    async def _counted(self) -> float | None:
        if self._arrivals is None:
            return None
        try:
            async with asyncio.timeout(2):
                return await self._arrivals()
        except TimeoutError:
            return None


def _held_against(looks: Sequence[_Looked], before: float | None, after: float | None) -> list[_Looked]:
    """Fewer requests handed to cloudflared here than were answered as ours: another one answers just the same.

    Visitors add to the count, so that it can prove another connector and never disprove one; a count that went back is
    that of another process.
    """
    ours = sum(one.ours for one in looks)
    if before is None or after is None or not 0 <= after - before < ours:
        return list(looks)
    said = f"of {ours} answers that look like ours, cloudflared here was handed {after - before:.0f} requests"
    return [one.elsewhere(said) for one in looks]


def _public_of(looks: Sequence[_Looked]) -> Seen[Public]:
    required = [one.seen for one in looks if not one.check.optional]
    return _worst(required, WORST_FIRST) or Seen(Public.UNASKED, Skipped("no required check of the public address"))


def _name_of(names: Sequence[_Named]) -> Seen[Name]:
    required = [one.seen for one in names if not one.check.optional]
    return _worst(required, NAMES_WORST_FIRST) or Seen(Name.UNASKED, Skipped("no required check of the public address"))


def _worst(seen: Sequence[Seen[State]], order: Sequence[State]) -> Seen[State] | None:
    return min(seen, key=lambda one: order.index(one.state), default=None)


def _checks(
    settings: PublicSettings, site: Site, local: Local, clock: Clock, hostname: str
) -> tuple[PublicReachable, ...]:
    """The checks of one host share its requests, and what is known of who has answered for it."""
    shares = Counter(urlsplit(one.url).hostname for one in settings.checks)
    distrusted: set[str] = set()
    return tuple(
        PublicReachable(
            one.url,
            Wanted(one.status, one.json_subset),
            site,
            local,
            clock,
            max(LEAST, -(-settings.requests // shares[urlsplit(one.url).hostname])),
            through_tunnel=urlsplit(one.url).hostname == hostname,
            resolve=settings.resolve,
            distrusted=distrusted,
            optional=one.optional,
        )
        for one in settings.checks
    )


def _key(check: PublicReachable) -> str:
    """The name as it is looked up: apart from the others of its host where its port is pinned."""
    place = f"{check.host}:{check.port}"
    return place if place in check.resolve else check.host


def _names(checks: Sequence[PublicReachable], settings: PublicSettings) -> tuple[NameKnown, ...]:
    """Each name once; required when any check of it is."""
    asked: dict[str, list[PublicReachable]] = {}
    for one in checks:
        asked.setdefault(_key(one), []).append(one)
    return tuple(
        NameKnown(
            of_it[0].host,
            settings.resolve.get(key),
            settings.resolvers,
            key,
            optional=all(one.optional for one in of_it),
        )
        for key, of_it in asked.items()
    )


def asked_of(settings: Settings) -> PublicSettings | None:
    """What is asked from outside; None where neither a tunnel nor a public check is declared.

    The name that the tunnel carries, and the address that people are told, are proved whatever else is declared: where
    no required check asks that host, its first page is asked.
    """
    tunnel = declared(settings)
    if tunnel is None and settings.public is None:
        return None
    public = settings.public or PublicSettings()
    required = {urlsplit(one.url).hostname for one in public.checks if not one.optional}
    carried = f"https://{hostname(settings)}/" if tunnel is not None and hostname(settings) else ""
    missing = {urlsplit(one).hostname: one for one in (carried, told_address(settings)) if one}
    further = [PublicCheck(url=address) for host, address in missing.items() if host not in required]
    checks = (*further, *public.checks)
    return public.model_copy(update={"checks": checks}) if checks else None
