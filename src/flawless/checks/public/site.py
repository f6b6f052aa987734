"""One request to the public address: where it ended, whose answer came, and what that says of the name."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from flawless.checks.answer import Wanted, complaints, deploy_id_of
from flawless.checks.public.certificate import why_refused
from flawless.checks.public.page import page_of
from flawless.checks.public.sample import Reply, Weight
from flawless.core.answer import Answer, Http
from flawless.core.plain import one_line
from flawless.core.tunnel import Public

HOPS: Final = 5
"""Redirects that are followed."""

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_DEPLOY_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_COPIES: Final = ("hit", "stale", "updating", "revalidated")
_ORIGIN_ABSENT: Final = {
    521: "the origin refuses the connection",
    522: "the origin does not take the connection",
    523: "there is no way to the origin",
    525: "the origin's TLS handshake fails",
    526: "the origin's certificate is not valid",
}
_NO_ANSWER: Final = {
    504: "the edge got no answer in time",
    520: "the edge got an answer that is none",
    524: "the edge reached the origin and got no answer within its limit (100 s or more): it hangs",
    527: "the edge lost the origin",
}
ECHO: Final = (
    "let the service send what it was started with in every answer: X-Flawless-Deploy-Id: $FLAWLESS_DEPLOY_ID",
    "see where the name leads: the DNS record, then the tunnel's rule for it",
)

Local = Callable[[str], Awaitable[Answer | None]]
"""What the local origin answers for a path, now, within a second or two; None when nothing does or it is not known."""


class Astray(Exception):
    """The request was led where it is not followed."""

    def __init__(self, state: Public, said: str, step: str) -> None:
        super().__init__(said)
        self.state = state
        self.step = step


@dataclass(frozen=True, slots=True)
class Way:
    """A request that ended in an answer: every address it was sent to, the first and the last answer."""

    chain: tuple[str, ...]
    first: Answer
    last: Answer


@dataclass(slots=True)
class Origin:
    """The local origin, remembered for the time of one look and asked anew before anybody is accused."""

    local: Local
    known: dict[str, list[Answer]] = field(default_factory=dict)

    async def gives(self, answer: Answer, url: str) -> bool:
        """Whether it answers the same at the same time. Where it tells whose it is, the same look is no proof."""
        known = self.known.setdefault(_path_of(url), [])
        if any(_is_same(one, answer, url) for one in known):
            return True
        now = await self.local(_path_of(url))
        if now is not None:
            known.append(now)
        return now is not None and _is_same(now, answer, url)

    def title(self, url: str) -> str:
        """That of its page, as far as it was asked; empty where there is none."""
        pages = [page for one in self.known.get(_path_of(url), ()) if (page := page_of(one, url)) is not None]
        return pages[-1].title if pages else ""


@dataclass(frozen=True, slots=True)
class Site:
    """Asks the public address. `ids`: the deploys that our running services were started by."""

    http: Http
    ids: frozenset[str]

    async def reply(self, url: str, wanted: Wanted, origin: Origin, limit: float) -> Reply:
        """One request that no cache has an answer for, and what came of it."""
        try:
            async with asyncio.timeout(limit):
                way = await self.follow(url, limit)
                return await self._judged(way, wanted, origin)
        except Astray as astray:
            return Reply(Weight.HARD, astray.state, str(astray), None, (astray.step,))
        except TimeoutError:
            return Reply(Weight.BLIP, Public.UNREACHABLE, f"no answer within {limit:.1f} s")
        except ssl.SSLCertVerificationError as error:
            said, step = why_refused(error, urlsplit(url).hostname or "")
            return Reply(Weight.HARD, Public.TLS, said, None, (step,))
        except ssl.SSLError as error:
            return Reply(Weight.BLIP, Public.TLS, f"TLS fails: {error.reason or error.strerror or error}")
        except OSError as error:
            return Reply(Weight.BLIP, Public.UNREACHABLE, in_words(error))
        except ValueError as error:
            said = f"what answers does not speak HTTP: {one_line(str(error), 80)}"
            return Reply(Weight.FOREIGN, Public.WRONG_SITE, said, None, ECHO)

    async def follow(self, url: str, limit: float) -> Way:
        """Along redirects on the same site, `limit` seconds each. The nonce is new each time; redirects may drop it."""
        nonce = secrets.token_hex(8)
        headers = {"Cache-Control": "no-cache", "Pragma": "no-cache", "X-Flawless-Nonce": nonce}
        chain, there = [url], _with_nonce(url, nonce)
        first: Answer | None = None
        while True:
            answer = replace(await self.http.ask("GET", there, limit=limit, headers=headers), peer=chain[-1])
            first = first or answer
            location = answer.headers.get("location", "") if answer.status in _REDIRECTS else ""
            if not location:
                return Way(tuple(chain), first, answer)
            there = _next(chain, urljoin(there, location))
            chain.append(there)

    async def _judged(self, way: Way, wanted: Wanted, origin: Origin) -> Reply:
        url, answer = way.chain[-1], way.last
        echoed = deploy_id_of(answer)
        if not (echoed in self.ids or (echoed is None and await origin.gives(answer, url))):
            return await self._unproved(answer, echoed, origin, url)
        if (copy := _copy(answer)) is not None:
            return _cached(answer, copy)
        # A redirect that is itself wanted is judged by its status; whose it is tells the place it leads to.
        is_wanted_redirect = way.first is not answer and way.first.status in wanted.status
        said = complaints(wanted, way.first if is_wanted_redirect else answer)
        if said:
            about = f"{'; '.join(said)} ({answer.describe()})"
            return Reply(Weight.HARD, Public.UNHEALTHY, about, answer)
        how = "carried the id of this release" if echoed else "are the same as the service's own here"
        return Reply(Weight.OURS, Public.OURS, how, answer)

    async def _unproved(self, answer: Answer, echoed: str | None, origin: Origin, url: str) -> Reply:
        if echoed is not None and _DEPLOY_ID.fullmatch(echoed):
            said = f"it was answered by deploy {echoed}, which does not run here"
            return Reply(Weight.FOREIGN, Public.STALE, said, answer, _OLDER)
        if (reply := _of_the_edge(answer) or _wall(answer)) is not None:
            return reply
        title = origin.title(url)
        page = page_of(answer, url)
        if (copy := _copy(answer)) is not None and page is not None and title and page.title == title:
            return _cached(answer, copy)
        said = f"{answer.describe()}{_server(answer)}"
        if answer.status in (401, 403):
            said = f"{said}; it may be a wall in front of the site"
        return Reply(Weight.FOREIGN, Public.WRONG_SITE, said, answer, ECHO)


def in_words(error: Exception) -> str:
    """The system's own words for its error; asyncio says `Connect call failed` for all of them."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else str(error)


_OLDER: Final = (
    "end what answers in its place: an older copy on another machine, another connector of the tunnel, a worker",
    "see what runs here: flawless status",
)


def _with_nonce(url: str, nonce: str) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&flawless={nonce}" if parts.query else f"flawless={nonce}"
    return parts._replace(path=parts.path or "/", query=query, fragment="").geturl()


def _path_of(url: str) -> str:
    """The path and query as the origin here is asked for them, without the nonce that a redirect may have kept."""
    parts = urlsplit(url)
    query = "&".join(one for one in parts.query.split("&") if one and not one.startswith("flawless="))
    return f"{parts.path or '/'}{f'?{query}' if query else ''}"


def _next(chain: Sequence[str], there: str) -> str:
    """The address a redirect leads to, where it is followed."""
    shown = " -> ".join([*(_bare(one) for one in chain), _bare(there)])
    host = urlsplit(there).hostname or ""
    if host == "cloudflareaccess.com" or host.endswith(".cloudflareaccess.com"):
        raise Astray(Public.ACCESS_WALL, f"Cloudflare Access asks for a login: {shown}", _LET_THROUGH)
    if not _is_same_site(chain[-1], there):
        raise Astray(Public.REDIRECT, f"it is sent to another site: {shown}", _NAME_THE_END)
    if _bare(there) in [_bare(one) for one in chain]:
        raise Astray(Public.REDIRECT, f"it is sent round in a circle: {shown}", _MEND_CIRCLE)
    if len(chain) > HOPS:
        raise Astray(Public.REDIRECT, f"it is sent on more than {HOPS} times: {shown}", _NAME_THE_END)
    return there


_LET_THROUGH: Final = "let this address pass without a login: a bypass policy for it, or check a path that has none"
_NAME_THE_END: Final = "if it ends at the site, write that address into [public] checks; else mend the redirect"
_MEND_CIRCLE: Final = (
    'mend the rule that sends it back; at Cloudflare often SSL/TLS mode "Flexible" before a service that itself sends '
    'to https: set "Full (strict)"'
)


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=_path_of(url).partition("?")[2], path=parts.path or "/", fragment="").geturl()


def _is_same_site(here: str, there: str) -> bool:
    """The same host on the same port, or from http to https on the same host."""
    one, other = urlsplit(here), urlsplit(there)
    if one.hostname != other.hostname or other.username is not None:
        return False
    return (one.scheme, one.port) == (other.scheme, other.port) or (one.scheme, other.scheme) == ("http", "https")


def _is_same(ours: Answer, answer: Answer, url: str) -> bool:
    """The same body or, of a page that is made anew each time, the same title, scripts and styles."""
    if deploy_id_of(ours) is not None:
        return False
    if (ours.status, ours.content_type) != (answer.status, answer.content_type):
        return False
    if ours.body == answer.body:
        return True
    here, there = page_of(ours, url), page_of(answer, url)
    return here is not None and bool(here.assets) and here == there


def _copy(answer: Answer) -> str | None:
    """What marks the answer as a copy that a cache kept; None when it came from the origin."""
    status = answer.headers.get("cf-cache-status", "")
    if status.lower() in _COPIES:
        return f"cf-cache-status: {status}"
    age = answer.headers.get("age", "").strip()
    if age.isascii() and age.isdigit() and int(age[:9]) > 0:
        return f"Age: {age[:9]}"
    other = answer.headers.get("x-cache", "")
    return f"X-Cache: {one_line(other, 40)}" if other.lower().startswith("hit") else None


def _cached(answer: Answer, mark: str) -> Reply:
    steps = (
        "let no cache keep what is checked: Cache-Control: no-store from the service, or a cache rule that bypasses it",
        "then clear what is kept; at Cloudflare: Caching, Purge Everything",
    )
    return Reply(Weight.HARD, Public.STALE, f"a cached copy ({mark}), which proves nothing", answer, steps)


def _of_the_edge(answer: Answer) -> Reply | None:
    """What an edge says in place of an answer. A person sees a page; a program gets `error code: 1033`."""
    number = re.search(rb"error code: (\d{3,4})|cf-error-code\D{1,40}(\d{4})", answer.body[:4096])
    code = f", error {(number[1] or number[2]).decode()}" if number else ""
    status = answer.status
    told = f"{status}{code}{_server(answer)}"
    if status == 530:
        return Reply(Weight.BLIP, Public.NO_TUNNEL, f"{told}: the edge has no tunnel for it", answer)
    if status == 502:
        return Reply(Weight.BLIP, Public.BAD_GATEWAY, f"{told}: the service behind the edge was not reached", answer)
    if status in _ORIGIN_ABSENT:
        return Reply(Weight.BLIP, Public.NOT_ON_TUNNEL, f"{told}: {_ORIGIN_ABSENT[status]}", answer)
    if status == 409 and number is not None and number[1] == b"1001":
        return Reply(Weight.HARD, Public.NOT_ON_TUNNEL, f"{told}: Cloudflare does not know the name", answer)
    if status in _NO_ANSWER:
        return Reply(Weight.BLIP, Public.UNREACHABLE, f"{told}: {_NO_ANSWER[status]}", answer)
    if status == 429:
        step = "let this machine's address pass the rate limit, or ask less: [public] requests"
        return Reply(Weight.HARD, Public.UNREACHABLE, f"{told}: a rate limit in front of the site", answer, (step,))
    return None


def _wall(answer: Answer) -> Reply | None:
    mitigated = answer.headers.get("cf-mitigated", "")
    scheme = answer.headers.get("www-authenticate", "").partition(" ")[0]
    blocked = answer.status == 403 and re.search(rb"error code: 10\d\d", answer.body[:4096])
    if mitigated:
        said = f"{answer.status}, cf-mitigated: {one_line(mitigated, 40)}: a challenge for browsers"
    elif answer.status in (401, 403) and scheme:
        said = f"{answer.status}: a login is asked for ({one_line(scheme, 40)})"
    elif blocked:
        said = f"403, {blocked[0].decode()}: a rule in front of the site turns us away"
    else:
        return None
    return Reply(Weight.HARD, Public.ACCESS_WALL, f"{said}{_server(answer)}", answer, (_LET_THROUGH,))


def _server(answer: Answer) -> str:
    server = answer.headers.get("server", "")
    return f" (server: {one_line(server, 40)})" if server else ""
