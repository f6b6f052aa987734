"""What the edge can do with a request in place of asking the tunnel: `public.behave(name, cached(b"..."))`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from support.edge import Asked, Behaviour, Edge, Reply, page
from support.listener import Reset

NOT_ON_THE_TUNNEL: Final = (521, 522, 523, 525, 526)
"""What a name answers whose record leads to an address, past the tunnel."""
_HTML: Final = {"Content-Type": "text/html; charset=utf-8"}


def answering(status: int, body: bytes | None = None, **headers: str) -> Behaviour:
    """The same for everything; without a body it is the edge's own page. `content_type=...` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = page(1033, 530) if status == 530 else page(status)
    given = replace(reply, body=reply.body if body is None else body, headers={**reply.headers, **named})
    return lambda _public, _asked, _ask: given


def hanging(public: Edge, _asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """Nothing, until the edge's patience is over: then 524."""
    if public.ending.wait(public.patience):
        raise Reset
    return page(524)


def resetting(_public: Edge, _asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """The connection is reset."""
    raise Reset


def parking(_public: Edge, _asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """Somebody else's site, which answers 200 to everything."""
    return Reply(200, b"<!doctype html><title>This domain is for sale</title>", _HTML)


def cached(body: bytes, *, age: int = 3600, content_type: str = "text/html", **headers: str) -> Behaviour:
    """A copy, whatever lies behind."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"Content-Type": content_type, "cf-cache-status": "HIT", "age": str(age), **named}
    return lambda _public, _asked, _ask: Reply(200, body, told)


def caching(*, without_query: bool = False) -> Behaviour:
    """Keeps the first answer to each address; `without_query`: to each path, so that no nonce gets round it."""
    kept: dict[tuple[str, str], Reply] = {}

    def behave(_public: Edge, asked: Asked, ask: Callable[[], Reply]) -> Reply:
        key = (asked.path, "" if without_query else asked.query)
        if key in kept:
            copy = kept[key]
            return replace(copy, headers={**copy.headers, "cf-cache-status": "HIT", "age": "60"}, connector="")
        kept[key] = ask()
        return kept[key]

    return behave


def older_release(deploy_id: str) -> Behaviour:
    """What lies behind says that it is another release."""

    def behave(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
        reply = ask()
        headers = {name: value for name, value in reply.headers.items() if name.lower() != "x-flawless-deploy-id"}
        return replace(reply, body=_told(reply.body, deploy_id), headers=headers | {"X-Flawless-Deploy-Id": deploy_id})

    return behave


def without_identity(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
    """The right page, without a word of the release that made it."""
    reply = ask()
    headers = {name: value for name, value in reply.headers.items() if name.lower() != "x-flawless-deploy-id"}
    return replace(reply, body=_told(reply.body, None), headers=headers)


def _told(body: bytes, deploy_id: str | None) -> bytes:
    try:
        data = json.loads(body)
    except ValueError:
        return body
    if isinstance(data, dict) and "deployId" in data:
        data = {key: value for key, value in data.items() if key != "deployId"}
        return json.dumps(data if deploy_id is None else data | {"deployId": deploy_id}).encode()
    return body


def blips(share: float, seed: int = 0) -> Behaviour:
    """A share of the requests fails for a moment: 502, 530 or a reset."""
    chance = random.Random(seed)  # noqa: S311 - the same failures at every run are what is wanted

    def behave(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
        if chance.random() >= share:
            return ask()
        match chance.randrange(3):
            case 0:
                return page(502)
            case 1:
                return page(1033, 530)
            case _:
                raise Reset

    return behave


def failing_first(count: int, status: int = 530) -> Behaviour:
    """The first so many requests fail; then all is well."""
    left = count

    def behave(_public: Edge, _asked: Asked, ask: Callable[[], Reply]) -> Reply:
        nonlocal left
        left -= 1
        if left < 0:
            return ask()
        return page(1033, 530) if status == 530 else page(status)

    return behave


def redirecting(to: str, status: int = 302) -> Behaviour:
    """Everything is elsewhere."""
    return lambda _public, _asked, _ask: Reply(status, b"", {"Location": to})


def redirecting_once(path: str, to: str, status: int = 302) -> Behaviour:
    """One path is elsewhere, and nothing else."""

    def behave(_public: Edge, asked: Asked, ask: Callable[[], Reply]) -> Reply:
        return Reply(status, b"", {"Location": to}) if asked.path == path else ask()

    return behave


def redirect_loop(_public: Edge, asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """To and fro between two paths of the same site."""
    there = "/a" if asked.path != "/a" else "/b"
    return Reply(301, b"", {"Location": f"https://{asked.name}{there}"})


def access_wall(_public: Edge, asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """Cloudflare Access wants a login first."""
    team = "https://team.cloudflareaccess.com/cdn-cgi/access/login"
    return Reply(302, b"", {"Location": f"{team}/{asked.name}?redirect_url={asked.path}"})


def challenge(_public: Edge, _asked: Asked, _ask: Callable[[], Reply]) -> Reply:
    """The edge takes whoever asks for a robot."""
    return Reply(403, b"<!doctype html><title>Just a moment...</title>", {**_HTML, "cf-mitigated": "challenge"})


def assets_as_html(_public: Edge, asked: Asked, ask: Callable[[], Reply]) -> Reply:
    """The page is right; its scripts and styles come as another page."""
    if asked.path.endswith((".js", ".mjs", ".css")):
        return Reply(200, b"<!doctype html><title>app</title>", _HTML)
    return ask()
