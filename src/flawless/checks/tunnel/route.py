"""What cloudflared does with a request for the public name: its file, its live rule, the origin behind that."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from pathlib import Path
from typing import Final

from flawless.checks.tunnel.config import ConfigFile, Tunnel, leads_to_us, no_rule
from flawless.checks.tunnel.ingress import Place, Rule, first_match
from flawless.checks.tunnel.reading import Reading
from flawless.core.answer import Http
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.port import Sockets
from flawless.core.reason import Reason
from flawless.core.tunnel import File, Origin, Route, Seen

_WRITTEN: Final = 0.1
"""Seconds after a start within which a file was still there to be read."""


def file_seen(subject: Reading) -> Seen[File]:
    path = subject.connector.config
    if subject.connector.by_token or subject.is_remote:
        return Seen(File.UNKNOWN, Skipped("its rules come from Cloudflare, not from a file"))
    if path is None:
        return Seen(File.UNKNOWN, Skipped("it is not known which file it was started with"))
    try:
        changed = path.stat().st_mtime
    except OSError as error:
        return Seen(File.UNKNOWN, Skipped(f"{path}: {error.strerror}"))
    later = changed - subject.connector.since
    if later <= _WRITTEN:
        return Seen(File.CURRENT, Passed((f"{path} was not changed since pid {subject.connector.pid} was started",)))
    return Seen(File.EDITED, _edited(subject, path, later))


def _edited(subject: Reading, path: Path, later: float) -> Failed:
    pid = subject.connector.pid
    told = f"{path} was changed {later:.0f} s after pid {pid} was started, and is read once, at the start"
    steps = ("let it read the file: flawless tunnel restart", f"see what is in it: cat {shlex.quote(str(path))}")
    return Failed(Reason.TUNNEL_STALE_CONFIG, "cloudflared runs with an older configuration", (told,), steps)


def met(subject: Reading, tunnel: Tunnel) -> Rule | None:
    """The rule that a visitor's request meets now, with its line where it is also in the file."""
    rule = first_match(subject.rules or (), tunnel.hostname, tunnel.path)
    written = (subject.file.rules or ()) if subject.file else ()
    return next((one for one in written if rule and str(one) == str(rule)), rule)


def route_seen(subject: Reading, tunnel: Tunnel, rule: Rule | None, sockets: Sockets) -> Seen[Route]:
    if subject.rules is None:
        return Seen(Route.UNKNOWN, Skipped("it does not say which rules it runs with"))
    if subject.connector.by_token and not subject.is_remote:
        return Seen(Route.UNKNOWN, Skipped("its rules have not come from Cloudflare yet"))
    local = None if subject.is_remote else subject.file
    if rule is None or (rule.is_status and rule.is_catch_all):
        return Seen(Route.NO_RULE, no_rule(tunnel, (_live(subject, rule),), local))
    met = _live(subject, rule)
    if not leads_to_us(rule, tunnel):
        return Seen(Route.OTHER_PORT, _mismatch(tunnel, rule, met, local))
    place = rule.place
    refused = _refused_family(place, sockets) if place else None
    if place and refused:
        return Seen(Route.IPV6, _ipv6(rule, place, (met, refused), local))
    return Seen(Route.RIGHT, Passed((met,)))


def _live(subject: Reading, rule: Rule | None) -> str:
    source = "pushed by Cloudflare" if subject.is_remote else "from its file"
    return f"live rules ({source}): {rule or 'there are none, so every request gets 503'}"


def _refused_family(place: Place, sockets: Sockets) -> str | None:
    """Why a connection to this address is refused although the service is there: it listens on IPv4 alone."""
    if place.host not in {"localhost", "::1"}:
        return None
    there = sockets.listeners(place.port)
    if any(one.serves("::1") for one in there) or not any(one.serves("127.0.0.1") for one in there):
        return None
    return f"port {place.port} is listened on at {', '.join(sorted({one.address for one in there}))}, not at ::1"


def _mismatch(tunnel: Tunnel, rule: Rule, met: str, local: ConfigFile | None) -> Failed:
    mine = ", ".join(str(Place(host, port)) for host, port in tunnel.origins) or "no service with a port"
    told = (met, f"the services of this stack that may be meant: {mine}")
    cause = f"the tunnel's rule for {tunnel.hostname} leads to {rule.service}, which is no service of this stack"
    return Failed(Reason.TUNNEL_ROUTE_MISMATCH, cause, told, _change(rule, tunnel.origin, local))


def _ipv6(rule: Rule, place: Place, told: tuple[str, ...], local: ConfigFile | None) -> Failed:
    scheme = rule.service.partition(":")[0]
    cause = f"the tunnel's rule says {place.host}, which is ::1 first, and the service listens on IPv4 alone"
    return Failed(Reason.TUNNEL_IPV6_ORIGIN, cause, told, _change(rule, f"{scheme}://127.0.0.1:{place.port}", local))


def _change(rule: Rule, service: str, local: ConfigFile | None) -> tuple[str, ...]:
    """The line to change, where it stands, and how it is read."""
    if local is None:
        where = f"for {rule.hostname or 'any hostname'}"
        return (f"write in Cloudflare's dashboard (Networks, Tunnels) {where}: {service}", "it is read at once")
    place = f"{local.path}:{rule.line}" if rule.line else str(local.path)
    return (f"change the rule at {place}:", f"  service: {service}", "then: flawless tunnel restart")


async def origin_seen(http: Http, tunnel: Tunnel, rule: Rule | None, limit: float) -> Seen[Origin]:
    place = rule.place if rule else None
    if rule is None or place is None:
        return Seen(Origin.UNKNOWN, Skipped("no rule names an address that could be asked"))
    try:
        said = await _asked_origin(http, tunnel, rule, place, limit)
    except TimeoutError:
        return Seen(Origin.DOWN, _down(rule, tunnel, f"{rule.service} did not answer within {limit:g} s"))
    except (OSError, ValueError) as error:
        return Seen(Origin.DOWN, _down(rule, tunnel, f"{rule.service}: {_why(error)}"))
    return Seen(Origin.ANSWERS, Passed((said,)))


async def _asked_origin(http: Http, tunnel: Tunnel, rule: Rule, place: Place, limit: float) -> str:
    """Asked as cloudflared would: with the public name. What is not HTTP is connected to. Any answer will do."""
    if place.is_http:
        url = re.sub(r"^ws", "http", rule.service).rstrip("/") + tunnel.path
        return (await http.ask("GET", url, limit=limit, headers={"Host": tunnel.hostname})).describe()
    async with asyncio.timeout(limit):
        _, writer = await asyncio.open_connection(place.host, place.port)
    writer.close()
    return f"{rule.service} takes a connection"


def _why(error: Exception) -> str:
    """In the system's words; asyncio has words of its own for the same number."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number is not None and number > 0 else str(error)


def _down(rule: Rule, tunnel: Tunnel, said: str) -> Failed:
    return Failed(
        Reason.TUNNEL_ORIGIN_DOWN,
        f"nothing answers at {rule.service}, where the tunnel's rule for {tunnel.hostname} leads",
        (said, f"rule: {rule}"),
        ("see what runs: flawless status", "bring the service up: flawless deploy"),
    )
