"""The ingress rules of a tunnel: what cloudflared would refuse, and which rule a request meets. Pure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_BUILT_IN: Final = frozenset({"hello_world", "hello-world", "bastion", "socks-proxy"})
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ssh": 22, "rdp": 3389, "smb": 445, "tcp": 7864}
"""The port of a service that names none, by its scheme."""

_RE2_ALONE: Final = re.compile(r"\\[pPzQC]")
"""cloudflared's expressions are RE2's, which has some that Python lacks: of these no ill is said."""

_HTTP: Final = frozenset({"http", "https", "ws", "wss"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule's service is: something that listens there."""

    host: str
    port: int
    is_http: bool = True

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `line`: of its file, where it came from one."""

    service: str
    hostname: str = ""
    path: str = ""
    line: int | None = None

    @property
    def names_all(self) -> bool:
        return self.hostname in {"", "*"}

    @property
    def is_catch_all(self) -> bool:
        return self.names_all and not self.path

    @property
    def is_status(self) -> bool:
        """It answers itself, and nothing is behind it."""
        return self.service.startswith("http_status:")

    @property
    def place(self) -> Place | None:
        """None for what has no address: a status, a unix socket, one of cloudflared's own services."""
        try:
            parts = urlsplit(self.service)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            return None
        if not parts.hostname or port is None:
            return None
        return Place(parts.hostname, port, parts.scheme in _HTTP)

    def matches(self, hostname: str, path: str) -> bool:
        if not self.names_all and not self._names(hostname):
            return False
        if not self.path:
            return True
        expression = _compiled(self.path)
        return isinstance(expression, re.Pattern) and expression.search(path) is not None

    def _names(self, hostname: str) -> bool:
        if self.hostname.startswith("*."):
            return hostname.endswith(self.hostname[1:])
        return self.hostname == hostname

    def __str__(self) -> str:
        where = self.hostname or "any hostname"
        return f"{where}{f' {self.path}' if self.path else ''} -> {self.service}"


def first_match(rules: Sequence[Rule], hostname: str, path: str = "/") -> Rule | None:
    """The rule that a request meets: the first that fits, as cloudflared does it."""
    return next((rule for rule in rules if rule.matches(hostname.lower(), path)), None)


def rules_of(found: Any, lines: Sequence[int] = ()) -> tuple[Rule, ...]:
    """The rules in a document; what has not the form of one is left out, and `complaints` says so."""
    items = found if isinstance(found, list) else []
    rules = ((at, item) for at, item in enumerate(items) if isinstance(item, dict))
    return tuple(
        Rule(
            service=str(item.get("service") or ""),
            hostname=str(item.get("hostname") or ""),
            path=str(item.get("path") or ""),
            line=lines[at] if at < len(lines) else None,
        )
        for at, item in rules
    )


def complaints(rules: Sequence[Rule]) -> Iterator[tuple[int | None, str]]:
    """What `cloudflared tunnel ingress validate` would refuse, each with the line of its rule."""
    for number, rule in enumerate(rules, 1):
        for said in _complaints(rule):
            yield rule.line, f"rule {number}: {said}"
        if rule.is_catch_all and number < len(rules):
            yield rule.line, f"rule {number} takes every request, so those behind it are never met"
    if rules and not rules[-1].is_catch_all:
        yield rules[-1].line, "the last rule must take every request: it has a hostname or a path"


def _complaints(rule: Rule) -> Iterator[str]:
    if ":" in rule.hostname:
        yield f'the hostname "{rule.hostname}" has a port'
    if rule.hostname.rfind("*") > 0 or (rule.hostname.startswith("*") and rule.hostname[1:2] not in {"", "."}):
        yield f'the hostname "{rule.hostname}" has a * that is not its first label'
    expression = _compiled(rule.path)
    if isinstance(expression, str) and not _RE2_ALONE.search(rule.path):
        yield f'the path "{rule.path}" is no regular expression ({expression})'
    yield from _of_service(rule.service)


def _compiled(path: str) -> re.Pattern[str] | str:
    """The expression of a path, or what is wrong with it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of nested sets, which are plain characters to both
            return re.compile(path)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)


def _of_service(service: str) -> Iterator[str]:
    if service in _BUILT_IN or service.startswith(("unix:", "unix+tls:")):
        return
    if service.startswith("http_status:"):
        if not re.fullmatch(r"http_status:[1-9]\d\d", service, re.ASCII):
            yield f'the service "{service}" is no HTTP status'
        return
    try:
        parts = urlsplit(service)
        _ = parts.port
    except ValueError as error:
        yield f'the service "{service}" is no address ({error})'
        return
    if not parts.scheme or not parts.hostname:
        yield f'the service "{service}" is no address: it needs a scheme and a host, for example http://127.0.0.1:3000'
    elif parts.path:
        yield f'the service "{service}" has a path, and cloudflared takes none: write {parts.scheme}://{parts.netloc}'
