"""The public address, asked from outside: does the name lead to this host, and to this release?

A 200 is no proof. An answer counts when it carries the id of a deploy whose services run here or, where the services
say none, when it is the same as what they answer here at the same time. No credential is ever sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from flawless.checks.answer import Wanted, deploy_id_of
from flawless.checks.public.certificate import presented
from flawless.checks.public.page import Asset, page_of
from flawless.checks.public.sample import ROUND, Reply, Sample, Weight
from flawless.checks.public.site import ECHO, Astray, Local, Origin, Site, in_words
from flawless.core.answer import Answer
from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.clock import Clock
from flawless.core.reason import Reason
from flawless.core.tunnel import Public, Seen

REQUEST: Final = 5.0
"""Seconds for one request; what takes longer is lost."""

ASSETS: Final = 20
"""Scripts and styles of a page that are asked for."""

EXPIRES_SOON: Final = timedelta(days=14)

SAMPLED: Final = 0.75
"""The part of a check's time in which it samples; the rest is for scripts and styles."""

_TRIES: Final = 3
"""Requests for one script before it counts as lost: 4 % of them may be."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a state is called: its reason, its cause, and what to do where the replies do not know better."""

    reason: Reason
    cause: str
    step: str


_MEANINGS: Final[Mapping[Public, _Meaning]] = {
    Public.MIXED: _Meaning(
        Reason.TUNNEL_OTHER_CONNECTOR,
        "a second connector answers a part of the requests for {host}",
        "end cloudflared wherever else it runs with this tunnel: cloudflared tunnel info TUNNEL shows its connectors",
    ),
    Public.NO_TUNNEL: _Meaning(
        Reason.TUNNEL_EDGE_DISAGREES,
        "{host} answers 530: the edge knows no connected tunnel for it",
        "see whether cloudflared is connected: flawless tunnel status",
    ),
    Public.BAD_GATEWAY: _Meaning(
        Reason.TUNNEL_ORIGIN_DOWN,
        "{host} answers 502: the edge does not reach the service behind it",
        "see which address the tunnel's rule names, and whether the service listens there: flawless status",
    ),
    Public.NOT_ON_TUNNEL: _Meaning(
        Reason.PUBLIC_NOT_ON_TUNNEL,
        "{host} is not on the tunnel: the edge looks for the site at an address of its own",
        "put the name on the tunnel: cloudflared tunnel route dns --overwrite-dns TUNNEL {host}",
    ),
    Public.WRONG_SITE: _Meaning(
        Reason.PUBLIC_WRONG_SITE,
        "{url} is answered by something that is not this release",
        "see where the name leads: dig +short {host}",
    ),
    Public.STALE: _Meaning(
        Reason.PUBLIC_STALE,
        "{url} does not show this release",
        "see what runs here: flawless status",
    ),
    Public.ASSET_TYPE: _Meaning(
        Reason.PUBLIC_ASSET_TYPE,
        "the page at {url} does not work: a script or style of it is none",
        "see why the file is not served: build it anew; a catch-all route that answers with the page hides it",
    ),
    Public.TLS: _Meaning(
        Reason.PUBLIC_TLS,
        "{host} cannot be reached over TLS",
        "look at it: openssl s_client -connect {host}:{port} -servername {host}",
    ),
    Public.REDIRECT: _Meaning(
        Reason.PUBLIC_REDIRECT,
        "{url} leads nowhere: its redirects do not end on the same site",
        "follow it: curl -sIL {url}",
    ),
    Public.ACCESS_WALL: _Meaning(
        Reason.PUBLIC_ACCESS_WALL,
        "something in front of {host} turns us away before the site is reached",
        "check a path that needs no login",
    ),
    Public.UNREACHABLE: _Meaning(
        Reason.PUBLIC_UNREACHABLE,
        "{url} cannot be reached reliably",
        "try it yourself: curl -sv {url} -o /dev/null",
    ),
    Public.UNHEALTHY: _Meaning(
        Reason.PUBLIC_UNHEALTHY,
        "{url} is answered by this release, and not as it should be",
        "see what the service printed: flawless logs -n 50",
    ),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What one look at one address brought, before its page's files are asked for."""

    seen: Seen[Public]
    sample: Sample

    @property
    def page(self) -> Answer | None:
        ours = self.sample.of(Weight.OURS)
        return ours[-1].answer if ours else None


@dataclass(frozen=True, slots=True)
class PublicReachable:
    """Claims that a public address is answered by this release, by nobody else, and as the manifest says.

    `requests`: how many are sent in one look. `through_tunnel`: a tunnel carries the host, so that another connector
    may share it. `distrusted`: hosts that somebody else has answered for; what is remembered from look to look.
    """

    url: str
    wanted: Wanted
    site: Site
    local: Local
    clock: Clock
    requests: int = 60
    through_tunnel: bool = False
    resolve: Mapping[str, str] = field(default_factory=dict)
    distrusted: set[str] = field(default_factory=set)
    optional: bool = False

    @property
    def id(self) -> str:
        return f"public.reachable:{self.url}"

    @property
    def claim(self) -> str:
        return f"{self.url} is answered by this release"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    async def ask(self, limit: float) -> Outcome:
        """The more time, the more is asked: 60 requests take some seconds, and fewer than 20 prove nothing."""
        return (await self.look(limit)).outcome

    async def look(self, limit: float) -> Seen[Public]:
        began = self.clock.monotonic()
        taken = await self.take(limit * SAMPLED)
        return await self.finish(taken, limit - (self.clock.monotonic() - began))

    async def take(self, limit: float) -> Taken:
        """A sample: as many replies as are needed, or as there is time for."""
        strict = self.host in self.distrusted
        sample = Sample(self.requests * (2 if strict else 1), strict=strict)
        origin = Origin(self.local)
        try:
            async with asyncio.timeout(limit):
                share = min(REQUEST, limit * 0.9)
                # A round first: where all of it is lost, nothing else is sent.
                await asyncio.gather(*(self._one(sample, origin, share) for _ in range(ROUND)))
                await asyncio.gather(*(self._lane(sample, origin, share) for _ in range(ROUND)))
        except TimeoutError:
            pass  # what has come by then is what is judged
        if sample.of(Weight.FOREIGN):
            self.distrusted.add(self.host)
        state = sample.state(through_tunnel=self.through_tunnel)
        outcome = self._passed(sample) if state is Public.OURS else await self._failed(state, sample)
        return Taken(Seen(state, outcome), sample)

    async def finish(self, taken: Taken, limit: float) -> Seen[Public]:
        """Of a page that is ours, its own scripts and styles as well."""
        page = page_of(taken.page, taken.page.peer) if taken.page is not None else None
        if taken.seen.state is not Public.OURS or page is None or not page.assets:
            return taken.seen
        gate = asyncio.Semaphore(ROUND)
        limit = max(limit, 0.1)
        found = await asyncio.gather(*(self._asset(one, gate, limit) for one in page.assets[:ASSETS]))
        for state in (Public.ASSET_TYPE, Public.UNREACHABLE):
            said = [told for kind, told in found if kind is state]
            if said:
                return Seen(state, self.failure(state, said))
        assert isinstance(taken.seen.outcome, Passed)
        told = f"{len(found)} of its scripts and styles come as what they are"
        return replace(taken.seen, outcome=replace(taken.seen.outcome, evidence=(*taken.seen.outcome.evidence, told)))

    async def _lane(self, sample: Sample, origin: Origin, limit: float) -> None:
        while await self._one(sample, origin, limit):
            pass

    async def _one(self, sample: Sample, origin: Origin, limit: float) -> bool:
        """One more request, where one is asked for."""
        if more := sample.send():
            sample.add(await self.site.reply(self.url, self.wanted, origin, limit))
        return more

    async def _asset(self, asset: Asset, gate: asyncio.Semaphore, limit: float) -> tuple[Public, str]:
        """Asked again when the edge loses it; a file that is wrong is wrong at once."""
        lost = f"{asset.url}: no answer within {limit:.1f} s"
        try:
            async with asyncio.timeout(limit):
                for _ in range(_TRIES):
                    async with gate:
                        state, lost = await self._tried(asset, min(REQUEST, limit * 0.9))
                    if state is not Public.UNREACHABLE:
                        return state, lost
        except TimeoutError:
            pass  # said below, with what was seen last
        return Public.UNREACHABLE, lost

    async def _tried(self, asset: Asset, limit: float) -> tuple[Public, str]:
        try:
            async with asyncio.timeout(limit):
                answer = (await self.site.follow(asset.url, limit)).last
        except Astray as astray:
            return Public.ASSET_TYPE, f"{asset.url}: {astray}"
        except (OSError, ValueError) as error:
            return Public.UNREACHABLE, f"{asset.url}: {in_words(error) or 'no answer in time'}"
        if answer.status in (429, *range(502, 505), *range(520, 531)):
            return Public.UNREACHABLE, f"{asset.url}: {answer.status}"
        wrong = asset.wrong_type(answer)
        return (Public.OURS, "") if wrong is None else (Public.ASSET_TYPE, wrong)

    def _passed(self, sample: Sample) -> Passed:
        ours = sample.of(Weight.OURS)
        how = f"{len(ours)} of {len(sample.replies)} answers {ours[-1].said}"
        lost = _counted(sample.of(Weight.BLIP))
        short = () if len(sample.replies) >= sample.wanted else (f"there was no time for {sample.wanted} requests",)
        ends = min((at for one in ours if one.answer and (at := one.answer.certificate_ends)), default=None)
        holds = (f"its certificate holds until {ends:%Y-%m-%d}",) if ends is not None else ()
        concern = self._expiring(ends) or (None if _is_signed(ours) else Concern(Reason.PUBLIC_UNSIGNED, ECHO[0]))
        return Passed((how, *lost, *short, *holds), concern)

    def _expiring(self, ends: datetime | None) -> Concern | None:
        left = ends - self.clock.now() if ends is not None else None
        if ends is None or left is None or left >= EXPIRES_SOON:
            return None
        step = f"renew the certificate of {self.host}: it ends in {left.days} days, on {ends:%Y-%m-%d %H:%M} UTC"
        return Concern(Reason.PUBLIC_CERTIFICATE_EXPIRING, step)

    async def _failed(self, state: Public, sample: Sample) -> Failed:
        ours, foreign = sample.of(Weight.OURS), sample.of(Weight.FOREIGN)
        telling = [one for one in sample.replies if one.weight is not Weight.OURS]
        if foreign:
            telling = foreign
        elif state is not Public.UNREACHABLE:
            telling = [one for one in telling if one.state is state]
        said = list(_counted(telling))
        if ours and (foreign or state is Public.UNREACHABLE):
            said.insert(0, f"{len(ours)} of {len(sample.replies)} answers were ours")
        if not sample.replies:
            said.append("no answer came in the time there was")
        if sample.strict and not sample.is_whole:
            said.append(f"{sample.wanted} are needed, as somebody else has answered before")
        if state is Public.TLS:
            host, port = self._place()
            said.extend(await presented(host, port, self.host, REQUEST / 2))
        steps = tuple(dict.fromkeys(step for one in telling if one.state is state for step in one.steps))
        # What comes and goes may be gone the next time, and so may a handshake that breaks off; somebody else's answer
        # is not forgiven.
        is_passing = bool(ours) or (state is Public.TLS and all(one.weight is Weight.BLIP for one in telling))
        failed = self.failure(state, said, steps)
        return replace(failed, permanent=False) if is_passing and not foreign else failed

    def failure(self, state: Public, said: Sequence[str], steps: Sequence[str] = ()) -> Failed:
        """The failure that a state is, with what was seen; `steps` are those the replies know better."""
        meaning = _MEANINGS[state]
        reason = meaning.reason
        if not self.through_tunnel and state in (Public.NO_TUNNEL, Public.BAD_GATEWAY):
            reason = Reason.PUBLIC_UNREACHABLE
        words = {"url": self.url, "host": self.host, "port": self.port}
        first = tuple(steps) or (meaning.step.format(**words),)
        cause = meaning.cause.format(**words)
        return Failed(
            reason,
            cause,
            tuple(said) or (cause,),
            (*first, f"what the code means: flawless explain {reason}"),
        )

    def _place(self) -> tuple[str, int]:
        pinned = self.resolve.get(f"{self.host}:{self.port}")
        if pinned is None:
            return self.host, self.port
        address, _, port = pinned.rpartition(":")
        return address.strip("[]"), int(port)


def _is_signed(ours: Sequence[Reply]) -> bool:
    """Whether the answers say themselves whose they are."""
    return any(one.answer is not None and deploy_id_of(one.answer) is not None for one in ours)


def _counted(replies: Sequence[Reply], most: int = 5) -> tuple[str, ...]:
    """What was said, the most frequent first, each with how often."""
    counted = Counter(one.said for one in replies)
    return tuple(f"{times} x {said}" if times > 1 else said for said, times in counted.most_common(most))
