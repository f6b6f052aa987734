"""What the tables must keep between them. Asked of the manifest as written, so that one wrong type hides nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from flawless.core.service import TUNNEL
from flawless.core.settings import EMBEDDED, POSTGRES_URL
from flawless.manifest.keys import Keys, look_up, to_dotted

_HTTP_URL: Final = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)

_USER_IN_URL: Final = re.compile(r"https?://[^/?#]*@", re.IGNORECASE)
_PLACE: Final = re.compile(r"[^\s:/@]+:[1-9]\d{0,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that is broken, before it is known in which file."""

    keys: Keys
    found: str
    allowed: str
    suggestion: str = ""


def find_breaches(data: Mapping[str, Any], literal: Mapping[str, Any]) -> Iterator[Breach]:
    """Every broken rule. `data` has its variables put in; `literal` is as written, with the variables' names."""
    yield from _ports(data)
    yield from _tunnel(data)
    yield from _after(data)
    yield from _probes(data)
    yield from _interfaces(data)
    yield from _database(data, literal)
    yield from _addresses(data, literal)
    yield from _public(data)
    yield from _interface_addresses(data)


def _services(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    services = data.get("services")
    tables = services.items() if isinstance(services, dict) else ()
    return {name: table for name, table in tables if isinstance(table, dict)}


def _ports(data: Mapping[str, Any]) -> Iterator[Breach]:
    places: list[tuple[Keys, Any]] = [
        (("services", name, "port"), table["port"]) for name, table in _services(data).items() if "port" in table
    ]
    places += [(keys, _port_of(look_up(data, keys))) for keys in (("metrics", "listen"), ("tunnel", "metrics"))]
    first: dict[str, Keys] = {}
    for keys, port in places:
        text = "" if isinstance(port, bool) else str(port or "").lstrip("0")
        if text.isdigit() and text in first:
            yield Breach(keys, f"port {text}, which {to_dotted(first[text])} has too", "a port of its own")
        first.setdefault(text, keys)


def _port_of(listen: object) -> str:
    return listen.rpartition(":")[2] if isinstance(listen, str) else ""


def _tunnel(data: Mapping[str, Any]) -> Iterator[Breach]:
    """A tunnel is run as a service of that name, and has a name to carry."""
    tunnel = data.get("tunnel")
    if not isinstance(tunnel, dict) or tunnel.get("provider") == "none":
        return
    if TUNNEL in _services(data):
        yield Breach(
            ("services", TUNNEL), f'a service "{TUNNEL}" beside [tunnel], which is run as that', "another name"
        )
    checks = look_up(data, ("public", "checks"))
    if not tunnel.get("hostname") and not data.get("base_url") and not checks:
        allowed = 'the public name, for example hostname = "app.example.org"'
        yield Breach(("tunnel", "hostname"), "nothing, and no base_url and no [public] checks either", allowed)


def _after(data: Mapping[str, Any]) -> Iterator[Breach]:
    services = _services(data)
    after = {name: _texts(table.get("after")) for name, table in services.items()}
    roles = {name: table.get("role") for name, table in services.items()}
    for name, others in after.items():
        for index, other in enumerate(others):
            keys: Keys = ("services", name, "after", index)
            if other not in services:
                yield Breach(
                    keys, f'the unknown service "{other}"', f"one of {', '.join(services)}", _close(other, after)
                )
            elif roles[name] == "backend" and roles[other] in ("frontend", "proxy"):
                found = f'"{other}", a {roles[other]}, which starts when every backend is ready'
                yield Breach(keys, found, "no frontend or proxy for a backend to wait for")
    for cycle in _cycles(after):
        yield Breach(
            ("services", cycle[0], "after"), f"a cycle: {' -> '.join(cycle)}", "an order in which each can start"
        )


def _cycles(after: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Each cycle once, beginning with the service that is written first."""
    done: set[str] = set()
    for start in after:
        way = _way_back(start, after, done)
        if way:
            done.update(way)
            yield way
        done.add(start)


def _way_back(start: str, after: Mapping[str, list[str]], closed: set[str]) -> list[str]:
    """The shortest way from a service to itself that touches no closed service."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for other in after.get(way[-1], ()):
            if other == start:
                return [*way, start]
            if other not in seen and other not in closed:
                seen.add(other)
                ways.append([*way, other])
    return []


def _probes(data: Mapping[str, Any]) -> Iterator[Breach]:
    for name, table in _services(data).items():
        ready, live = table.get("ready"), table.get("live")
        probes = [probe for probe in (*(ready if isinstance(ready, list) else ()), live) if isinstance(probe, dict)]
        if "port" not in table and any("http" in probe or "tcp" in probe for probe in probes):
            yield Breach(("services", name), "no port", "a port, because a probe asks over http or tcp")
        if isinstance(live, dict) and "log" in live:
            yield Breach(
                ("services", name, "live"), "a log probe, which cannot be asked twice", "one of http, tcp, exec"
            )


def _interfaces(data: Mapping[str, Any]) -> Iterator[Breach]:
    for name in ("stripe", "openai"):
        table = look_up(data, ("external", name))
        if isinstance(table, dict) and "key" not in table and table.get("enabled", True) in (True, "true"):
            yield Breach(("external", name, "key"), "nothing", "a key, or enabled = false with a reason")


def _database(data: Mapping[str, Any], literal: Mapping[str, Any]) -> Iterator[Breach]:
    form = f'a postgresql:// URL, or the word "{EMBEDDED}", written in the manifest itself'
    for key in ("url", "direct_url"):
        keys = ("database", key)
        value, written = look_up(data, keys), look_up(literal, keys)
        if not isinstance(value, str) or (key == "direct_url" and not value):
            continue
        if value == EMBEDDED and (written != EMBEDDED or key == "direct_url"):
            found = f'the word "{EMBEDDED}", which a variable brought' if written != EMBEDDED else f'"{EMBEDDED}"'
            yield Breach(keys, found, form if key == "url" else "a postgresql:// URL")
        elif value == written and value != EMBEDDED and not POSTGRES_URL.match(value):
            scheme = re.match(r"[a-z][a-z0-9+.-]*://", value, re.IGNORECASE)
            found = (
                f"a URL that begins with {scheme[0]}" if scheme else "a text that is neither" if value else "nothing"
            )
            yield Breach(keys, found, form if key == "url" else "a postgresql:// URL")


def _addresses(data: Mapping[str, Any], literal: Mapping[str, Any]) -> Iterator[Breach]:
    """Addresses written out in full; those a variable brings are for the preflight checks."""
    checks = look_up(data, ("public", "checks"))
    places: list[Keys] = [("base_url",)]
    places += [("public", "checks", index, "url") for index in range(len(checks) if isinstance(checks, list) else 0)]
    for keys in places:
        value = look_up(data, keys)
        if isinstance(value, str) and value and value == look_up(literal, keys) and not _HTTP_URL.fullmatch(value):
            yield Breach(keys, "a text that is no address", "https://host or http://host")


def _public(data: Mapping[str, Any]) -> Iterator[Breach]:
    checks, pins = look_up(data, ("public", "checks")), look_up(data, ("public", "resolve"))
    for index, check in enumerate(checks if isinstance(checks, list) else ()):
        url = check.get("url") if isinstance(check, dict) else None
        if isinstance(url, str) and _USER_IN_URL.match(url):
            yield Breach(("public", "checks", index, "url"), "a user in the address", "no user, as none is ever sent")
    for place in pins if isinstance(pins, dict) else ():
        if not _PLACE.fullmatch(place):
            keys: Keys = ("public", "resolve", place)
            yield Breach(keys, "no host and port", 'a name and its port, for example "app.example.org:443"')


def _interface_addresses(data: Mapping[str, Any]) -> Iterator[Breach]:
    """Where a key is sent. Refused whoever brings it, and never repeated: it may hold credentials."""
    for name in ("stripe", "openai", "cloudflare"):
        keys: Keys = ("external", name, "base_url")
        value = look_up(data, keys)
        found = _no_place_for_a_key(value.strip()) if isinstance(value, str) and value.strip() else None
        if found is not None:
            yield Breach(keys, found, "https://host, or http:// on this machine alone (127.0.0.1, ::1, localhost)")


def _no_place_for_a_key(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "a text that is no address"
    if parts.scheme not in {"http", "https"} or not (_HOST.fullmatch(host) or _ip(host)) or not address.isprintable():
        return "a text that is no address"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "an address with more than host, port and path"
    if parts.scheme == "http" and not (host == "localhost" or ((ip := _ip(host)) and ip.is_loopback)):
        return "http:// to another machine, which shows the key to all on the way"
    return None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _close(name: str, names: Mapping[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(names), 1)
    return f'did you mean "{close[0]}"?' if close else ""
