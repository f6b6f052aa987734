"""A stand-in for cloudflared: `python cloudflared.py [FLAG...] tunnel [FLAG...] run [ID]`, with the real one's flags,
variables, configuration file, exit codes, metrics port and log lines, as they were measured. Its edge is `edge.py`.

The edge is where `--edge`, TUNNEL_EDGE, `edge:` of the file, the token's `e` or the credentials' `Endpoint` says. What
only a stand-in can be told stands in `--stand-in`, TUNNEL_STAND_IN or `stand-in:` of the file, with commas between:

    ipv6        `localhost` is [::1] and nothing else
    start=S     the metrics port opens only after so long, as when DNS does not answer
    register=S  each attempt to connect takes so long
    rpc=S       how long it waits for the edge's answer (really 5 s)
    backoff=S   the unit of its waits between attempts (really 10 s)
    spacing=S   between one of its connections and the next (really 1 s)
    ha=N        how many connections it holds

Standard library and PyYAML alone.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

VERSION: Final = "2026.8.2"
DEFAULT_PORTS: Final = range(20241, 20246)
LONGEST_GRACE: Final = 180.0

_FLAGS: Final[Mapping[str, str | None]] = {
    "config": None,
    "credentials-contents": "TUNNEL_CRED_CONTENTS",
    "credentials-file": "TUNNEL_CRED_FILE",
    "edge": "TUNNEL_EDGE",
    "grace-period": "TUNNEL_GRACE_PERIOD",
    "ha-connections": None,
    "logfile": "TUNNEL_LOGFILE",
    "loglevel": "TUNNEL_LOGLEVEL",
    "metrics": "TUNNEL_METRICS",
    "origincert": "TUNNEL_ORIGIN_CERT",
    "output": "TUNNEL_LOG_OUTPUT",
    "pidfile": "TUNNEL_PIDFILE",
    "protocol": "TUNNEL_TRANSPORT_PROTOCOL",
    "retries": "TUNNEL_RETRIES",
    "stand-in": "TUNNEL_STAND_IN",
    "token": "TUNNEL_TOKEN",
    "token-file": "TUNNEL_TOKEN_FILE",
    "url": "TUNNEL_URL",
}
"""Those that take a value, with the variable of each."""
_SWITCHES: Final = {"no-autoupdate", "no-prechecks", "no-tls-verify", "hello-world", "version"}
_SECRET_FLAGS: Final = {"token", "credentials-contents"}
_LEVELS: Final = {"debug": "DBG", "info": "INF", "warn": "WRN", "error": "ERR", "fatal": "FTL"}
_PROTOCOLS: Final = {"auto", "http2", "quic"}
_SPECIAL_SERVICE: Final = re.compile(r"unix(\+tls)?:.+|http_status:\d{3}|hello[_-]?world|bastion|socks-proxy")
"""Those that are no address."""


class Ended(Exception):
    """The program ends with this status, having said this."""

    def __init__(self, status: int, said: str = "") -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class Refused(Exception):
    """The edge did not take the registration."""


class HungUp(Exception):
    """The edge closed the connection before it answered."""


# --- what it was told ---


@dataclass(frozen=True, slots=True)
class StandIn:
    """What only a stand-in can be told; times in seconds."""

    ipv6: bool = False
    start: float = 0.0
    register: float = 0.0
    rpc: float = 0.5
    backoff: float = 1.0
    spacing: float = 0.02
    ha: int = 4

    @classmethod
    def of(cls, text: str) -> StandIn:
        given: dict[str, Any] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = word.partition("=")
            given[name] = True if name == "ipv6" else int(value) if name == "ha" else float(value)
        return cls(**given)


class Options:
    """Flags before variables before the file, as the real one has it."""

    def __init__(self, flags: Mapping[str, str], file: Mapping[str, Any], source: str) -> None:
        self.flags = flags
        self.file = file
        self.source = source
        """Where the file is; empty when there is none."""

    def get(self, name: str, default: str = "") -> str:
        variable = _FLAGS.get(name)
        found = self.flags.get(name) or (os.environ.get(variable) if variable else None) or self.file.get(name)
        return default if found is None else str(found)

    def shown(self) -> dict[str, str]:
        """What `Settings:` and /diag/configuration tell: no secret."""
        names = [name for name in sorted(_FLAGS) if self.get(name)]
        switches = {name: "true" for name in self.flags if name in _SWITCHES}
        return {name: "*****" if name in _SECRET_FLAGS else self.get(name) for name in names} | switches


def parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The flags, wherever they stand, and the words that are none."""
    flags: dict[str, str] = {}
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, assigned, value = word.lstrip("-").partition("=")
        name = "credentials-file" if name == "cred-file" else name
        if name in _SWITCHES:
            flags[name] = value or "true"
        elif name in _FLAGS:
            flags[name] = value if assigned else _value(name, rest)
        else:
            raise Ended(0, f"Incorrect Usage. flag provided but not defined: -{name}\n\nUSAGE: cloudflared [flags]")
    return flags, words


def _value(name: str, rest: list[str]) -> str:
    if not rest:
        raise Ended(0, f"Incorrect Usage. flag needs an argument: -{name}")
    return rest.pop(0)


def read_file(flags: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The configuration and where it was; a file that is not there is none, even one that was named."""
    named = [Path(flags["config"])] if "config" in flags else _usual_places()
    path = next((path for path in named if path.exists()), None)
    if path is None:
        return {}, ""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Ended(1, str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Ended(1, f"error parsing YAML in config file at {path}: yaml: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise Ended(
            1, f"error parsing YAML in config file at {path}: yaml: unmarshal errors:\n  line 1: cannot unmarshal"
        )
    return found or {}, str(path)


def _usual_places() -> list[Path]:
    home = Path.home()
    folders = [home / ".cloudflared", home / ".cloudflare-warp", home / "cloudflare-warp", Path("/etc/cloudflared")]
    return [folder / name for folder in folders for name in ("config.yml", "config.yaml")]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Which tunnel, and what proves it. `is_token`: its rules come from the edge."""

    tunnel: str
    secret: str
    account: str = ""
    endpoint: str = ""
    is_token: bool = False
    is_quick: bool = False


def credentials(options: Options, words: Sequence[str]) -> Credentials:
    """Token before token file before credentials."""
    if words[:1] != ["run"] and options.get("url"):
        return Credentials("", "", is_quick=True)
    if (token := options.get("token")) or options.get("token-file"):
        return _of_token(token or _token_of_file(options.get("token-file")))
    tunnel = (list(words[1:2]) or [options.get("tunnel")])[0]
    if not tunnel:
        needed = (
            '"cloudflared tunnel run" requires the ID or name of the tunnel to run as the last command line argument'
        )
        raise Ended(255, f"{needed} or in the configuration file.\nSee 'cloudflared tunnel run --help'.")
    return _of_file(options, tunnel)


def _token_of_file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        said = f"open {name}: {(error.strerror or '').lower()}"
        raise Ended(255, f"Failed to read token file: {said}\nSee 'cloudflared tunnel run --help'.") from error


def _of_token(token: str) -> Credentials:
    """Only that it is base64 of a JSON object is checked here."""
    try:
        data = json.loads(base64.b64decode(token, validate=True))
        tunnel = str(uuid.UUID(data["t"])) if "t" in data else str(uuid.UUID(int=0))
        return Credentials(tunnel, data.get("s", ""), data.get("a", ""), data.get("e", ""), is_token=True)
    except (ValueError, AttributeError, TypeError) as error:
        raise Ended(255, "Provided Tunnel token is not valid.\nSee 'cloudflared tunnel run --help'.") from error


def _of_file(options: Options, tunnel: str) -> Credentials:
    if contents := options.get("credentials-contents"):
        return _of_credentials(contents, "TUNNEL_CRED_CONTENTS", tunnel)
    path = Path(options.get("credentials-file") or Path.home() / ".cloudflared" / f"{tunnel}.json").expanduser()
    if not path.is_file():
        raise Ended(1, f"Tunnel credentials file '{path}' doesn't exist or is not a file")
    return _of_credentials(path.read_text(encoding="utf-8"), str(path), tunnel)


def _of_credentials(text: str, source: str, tunnel: str) -> Credentials:
    try:
        data = json.loads(text)
        account, secret, endpoint = (str(data.get(key, "")) for key in ("AccountTag", "TunnelSecret", "Endpoint"))
    except (ValueError, AttributeError) as error:
        raise Ended(1, f"Tunnel credentials file '{source}' contained invalid JSON: {error}") from error
    return Credentials(tunnel, secret, account, endpoint)


# --- its rules ---


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests for this host and path go to this service."""

    service: str
    hostname: str = ""
    path: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, host: str, path: str) -> bool:
        return self._fits_host(host) and (not self.path or re.search(self.path, path) is not None)

    def _fits_host(self, host: str) -> bool:
        if self.hostname in {"", "*"}:
            return True
        return host.endswith(self.hostname[1:]) if self.hostname.startswith("*.") else host == self.hostname

    def to_json(self) -> dict[str, Any]:
        keys = {"hostname": self.hostname, "path": self.path or None, "service": self.service}
        return {**keys, "Handlers": None, "originRequest": dict(self.request)}


NO_RULES: Final = (Rule("http_status:503"),)


def rules_of(file: Mapping[str, Any], url: str) -> tuple[Rule, ...]:
    """Those of the file beat `--url`; without any, every request is answered 503. Raises ValueError."""
    given = file.get("ingress")
    if not given:
        return (Rule(url),) if url else NO_RULES
    if not isinstance(given, list):
        kind = "[]config.UnvalidatedIngressRule"
        raise ValueError(f"yaml: unmarshal errors: cannot unmarshal ingress into {kind}")  # noqa: TRY004 - a wrong file
    common = file.get("originRequest") or {}
    return tuple(_rule(one, number, len(given), common) for number, one in enumerate(given, start=1))


def _rule(given: Any, number: int, total: int, common: Mapping[str, Any]) -> Rule:
    """Its complaints are the real one's, in its order."""
    keys = given if isinstance(given, dict) else {}
    request = {**common, **(keys.get("originRequest") or {})}
    rule = Rule(str(keys.get("service") or ""), str(keys.get("hostname") or ""), str(keys.get("path") or ""), request)
    _check_service(rule.service)
    _check_hostname(rule, number, total)
    try:
        re.compile(rule.path)
    except re.error as error:
        raise ValueError(f"Rule #{number} has an invalid regex: {error}") from error
    return rule


def _check_service(service: str) -> None:
    if _SPECIAL_SERVICE.fullmatch(service):
        return
    parts = urlsplit(service)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"{service} is an invalid address, please make sure it has a scheme and a hostname")
    if parts.path:
        why = "ingress rules don't support proxying to a different path on the origin service"
        raise ValueError(
            f"{service} is an invalid address, {why}. The path will be the same as the eyeball request's path"
        )


def _check_hostname(rule: Rule, number: int, total: int) -> None:
    is_catch_all = not rule.path and rule.hostname in {"", "*"}
    if ":" in rule.hostname:
        raise ValueError("Hostname cannot contain a port")
    if "*" in rule.hostname[1:]:
        most = 'Hostname patterns can have at most one wildcard character ("*")'
        raise ValueError(f'{most} and it can only be used for subdomains, e.g. "*.example.com"')
    if number == total and not is_catch_all:
        raise ValueError(
            "The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)"
        )
    if number < total and is_catch_all:
        matching = f"Rule #{number} is matching the hostname '{rule.hostname}', but this will match every hostname"
        raise ValueError(f"{matching}, meaning the rules which follow it will never be triggered.")


# --- what it says ---


class Log:
    """Lines on stderr, and in `--logfile` as JSON."""

    def __init__(self, options: Options) -> None:
        self._least = list(_LEVELS).index(options.get("loglevel", "info"))
        self._is_json = options.get("output") == "json"
        self._file = options.get("logfile")
        self._lock = threading.Lock()

    def write(self, level: str, message: str, **fields: object) -> None:
        if list(_LEVELS).index(level) < self._least:
            return
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        as_json = json.dumps({"level": level, **fields, "time": moment, "message": message}, default=str)
        told = [f"{name}={_quoted(value)}" for name, value in sorted(fields.items(), key=lambda one: one[0] != "error")]
        line = as_json if self._is_json else " ".join([moment, _LEVELS[level], message, *told])
        with self._lock:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
            if self._file:
                with Path(self._file).open("a", encoding="utf-8") as file:
                    file.write(as_json + "\n")

    def note(self, message: str, **fields: object) -> None:
        self.write("info", message, **fields)

    def complain(self, message: str, **fields: object) -> None:
        self.write("error", message, **fields)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if re.search(r'[\s"=]', text) else text


# --- its state ---


class Counters:
    """The figures of /metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, int] = {
            "cloudflared_tunnel_total_requests": 0,
            "cloudflared_tunnel_request_errors": 0,
            "cloudflared_tunnel_concurrent_requests_per_tunnel": 0,
            "cloudflared_tunnel_ha_connections": 0,
            "cloudflared_tunnel_tunnel_register_success": 0,
            "cloudflared_config_local_config_pushes": 0,
            "cloudflared_config_local_config_pushes_errors": 0,
            "cloudflared_orchestration_config_version": 0,
            f'build_info{{goversion="stand-in",type="",revision="",version="{VERSION}"}}': 1,
        }

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._values[name] = self._values.get(name, 0) + amount

    def put(self, name: str, value: int) -> None:
        with self._lock:
            self._values[name] = value

    def to_text(self) -> str:
        with self._lock:
            return "".join(f"{name} {value}\n" for name, value in sorted(self._values.items()))


class Tunnel:
    """One running cloudflared: its connections to the edge, its rules, its figures."""

    def __init__(self, options: Options, who: Credentials, rules: tuple[Rule, ...], log: Log) -> None:
        self.options = options
        self.who = who
        self.log = log
        self.stand_in = StandIn.of(options.get("stand-in"))
        self.connector_id = str(uuid.uuid4())
        self.counters = Counters()
        self.version = -1
        self.rules = rules
        self.hostname = ""
        self.connections: dict[int, Connection] = {}
        """Those that are registered."""
        self.is_draining = False
        self._in_flight = 0
        self._changed = threading.Condition()
        self._losses = 0
        self._resume_at = 0.0
        self._has_registered = False
        self._status: int | None = None

    # --- its end ---

    def end(self, status: int) -> None:
        with self._changed:
            self._status = status if self._status is None else self._status
            self._changed.notify_all()

    def wait(self) -> int:
        """Until it is to end. Signals are heard meanwhile."""
        with self._changed:
            while self._status is None:
                self._changed.wait()
            return self._status

    def drain(self, limit: float) -> None:
        """Unregisters, so that new requests go elsewhere, and waits for those in flight."""
        with self._changed:
            self.is_draining = True
            registered = list(self.connections.values())
        for connection in registered:
            connection.send({"unregister": True})
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight, limit)

    # --- its connections ---

    def edge(self) -> tuple[str, int]:
        host, _, port = (self.options.get("edge") or self.who.endpoint).rpartition(":")
        return host or "127.0.0.1", int(port or "0")

    def run(self, index: int) -> None:
        """Keeps one connection: tries again for ever, but for what ends the program at the first attempt."""
        attempt = 0
        while not self.is_draining:
            self.counters.add("cloudflared_tunnel_ha_connections")
            try:
                lived = self._attempt(index)
            finally:
                self.counters.add("cloudflared_tunnel_ha_connections", -1)
            attempt = 0 if lived else attempt + 1
            self._rest(index, attempt)

    def _attempt(self, index: int) -> bool:
        """Whether the edge had taken it."""
        time.sleep(self.stand_in.register)
        try:
            connection = Connection.opened(self, index)
        except (OSError, HungUp, Refused) as error:
            self._not_taken(index, error)
            return False
        self._taken(connection)
        connection.serve()
        self._lost(connection)
        return True

    def _not_taken(self, index: int, error: Exception) -> None:
        match error:
            case Refused():
                self.log.complain(
                    "Register tunnel error from server side", error=error, connIndex=index, ip="127.0.0.1"
                )
                label = 'error="server_error",rpcName="registerConnection"'
                self.counters.add(f"cloudflared_tunnel_tunnel_register_fail{{{label}}}")
            case HungUp() | TimeoutError():
                pass
            case _:
                self.log.complain("Unable to establish connection with Cloudflare edge", error=error, connIndex=index)
        is_final = isinstance(error, (HungUp, TimeoutError)) or (
            isinstance(error, Refused) and "Unauthorized" not in str(error)
        )
        if is_final and not self._has_registered and index == 0:
            time.sleep(self.stand_in.backoff * 0.1)
            said = "context deadline exceeded" if isinstance(error, TimeoutError) else error
            self.log.complain("initial tunnel connection failed", error=said)
            self.end(1)
        self.log.complain("Serve tunnel error", error=error, connIndex=index, event=0, ip="127.0.0.1")

    def _taken(self, connection: Connection) -> None:
        with self._changed:
            is_first, self._has_registered = not self._has_registered, True
            self.connections[connection.index] = connection
            self._losses = 0
            is_late = self.is_draining
        self.counters.add("cloudflared_tunnel_tunnel_register_success")
        self.counters.put(
            f'cloudflared_tunnel_server_locations{{connection_id="{connection.index}",edge_location="lo01"}}', 1
        )
        known = {"connIndex": connection.index, "connection": uuid.uuid4(), "event": 0, "ip": "127.0.0.1"}
        self.log.note("Registered tunnel connection", **known, location="lo01", protocol="http2")
        if is_late:
            connection.send({"unregister": True})
        elif is_first:
            self._after_first()

    def _after_first(self) -> None:
        if pidfile := self.options.get("pidfile"):
            Path(pidfile).write_text(str(os.getpid()), encoding="utf-8")
        for index in range(1, 1 if self.who.is_quick else self.stand_in.ha):
            timer = threading.Timer(index * self.stand_in.spacing, self.run, (index,))
            timer.daemon = True
            timer.start()

    def _lost(self, connection: Connection) -> None:
        with self._changed:
            self.connections.pop(connection.index, None)
        if self.is_draining:
            return
        index = connection.index
        self.log.complain("Lost connection with the edge", connIndex=index)
        self.log.complain("Connection terminated", error="connection with edge closed", connIndex=index)

    def _rest(self, index: int, attempt: int) -> None:
        """While it tries for the first time each waits by itself; after a loss all wait for one moment."""
        unit = self.stand_in.backoff * 2 ** min(attempt, 5)
        self.log.note(f"Retrying connection in up to {max(1, round(unit))}s", connIndex=index, event=0, ip="127.0.0.1")
        with self._changed:
            now = time.monotonic()
            if self._resume_at <= now:
                # The real one draws from twice the unit after a loss, and from tenths of it before the first success.
                longest = 2 * self.stand_in.backoff * 2 ** min(self._losses, 5) if self._has_registered else unit / 10
                self._resume_at = now + random.uniform(0, longest)  # noqa: S311 - a pause, no secret
                self._losses += 1
            until = self._resume_at
        time.sleep(max(0.0, until - now))

    # --- requests ---

    def configure(self, pushed: Mapping[str, Any]) -> None:
        """New rules from the edge; bad ones are refused and the old ones stay."""
        version = int(pushed["version"])
        try:
            self.rules = rules_of(pushed["config"], "")
        except ValueError as error:
            self.log.complain("Failed to deserialize new configuration", error=error, version=version)
            self.counters.add("cloudflared_config_local_config_pushes_errors")
            return
        self.version = version
        self.counters.put("cloudflared_orchestration_config_version", version)
        self.log.note("Updated to new configuration", config=json.dumps(pushed["config"]), version=version)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """One request, until its answer has been sent: a graceful end waits for it."""
        with self._changed:
            self._in_flight += 1
        self.counters.add("cloudflared_tunnel_total_requests")
        self.counters.add("cloudflared_tunnel_concurrent_requests_per_tunnel")
        try:
            yield
        finally:
            self.counters.add("cloudflared_tunnel_concurrent_requests_per_tunnel", -1)
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def answer(self, request: Mapping[str, Any], index: int) -> dict[str, Any]:
        host, path = request["host"].partition(":")[0], request["path"]
        number, rule = next((n, one) for n, one in enumerate(self.rules) if one.fits(host, path.partition("?")[0]))
        try:
            reply = Origin(rule, self.stand_in, self.connector_id).ask(request)
        except (OSError, http.client.HTTPException) as error:
            self._not_reached(error, rule, number, request, index)
            return {"status": 502, "headers": [], "body": ""}
        self.counters.add(f'cloudflared_tunnel_response_by_code{{status_code="{reply["status"]}"}}')
        return reply

    def _not_reached(self, error: Exception, rule: Rule, number: int, request: Mapping[str, Any], index: int) -> None:
        self.counters.add("cloudflared_tunnel_request_errors")
        may_be = "The service may be down or it may not be responding to traffic from cloudflared"
        said = f"Unable to reach the origin service. {may_be}: {_in_go(error, rule)}"
        where = {"connIndex": index, "event": 1}
        self.log.complain("", error=said, **where, ingressRule=number, originService=rule.service)
        dest = f"https://{request['host']}{request['path']}"
        self.log.complain("Request failed", error=said, **where, dest=dest, ip="127.0.0.1", type="http")

    def config(self) -> dict[str, Any]:
        rules = [rule.to_json() for rule in self.rules]
        return {"version": self.version, "config": {"ingress": rules, "warp-routing": {}, "originRequest": {}}}


class Origin:
    """What a rule leads to."""

    def __init__(self, rule: Rule, stand_in: StandIn, connector_id: str) -> None:
        self._rule = rule
        self._stand_in = stand_in
        self._connector_id = connector_id

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises OSError or HTTPException when there is no answer."""
        if self._rule.service.startswith("http_status:"):
            return {"status": int(self._rule.service.partition(":")[2]), "headers": [], "body": ""}
        if self._rule.service == "hello_world":
            return _reply(200, [("Content-Type", "text/html")], b"<title>Cloudflare Tunnel Connection</title>")
        connection = self._connection()
        try:
            connection.request(
                request["method"],
                request["path"],
                base64.b64decode(request["body"]) or None,
                {**dict(request["headers"]), "Host": self._host(request), "Cf-Warp-Tag-Id": self._connector_id},
            )
            answer = connection.getresponse()
            return _reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def _host(self, request: Mapping[str, Any]) -> str:
        return str(self._rule.request.get("httpHostHeader") or request["host"])

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._rule.service)
        host = parts.hostname or ""
        host = "::1" if host == "localhost" and self._stand_in.ipv6 else host
        limit = _seconds(str(self._rule.request.get("connectTimeout", "30s")))
        if parts.scheme in {"https", "wss"}:
            unverified = ssl._create_unverified_context()  # noqa: S323 - as noTLSVerify has it
            context = unverified if self._rule.request.get("noTLSVerify") else ssl.create_default_context()
            return http.client.HTTPSConnection(host, parts.port or 443, timeout=limit, context=context)
        return http.client.HTTPConnection(host, parts.port or 80, timeout=limit)


def _reply(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> dict[str, Any]:
    kept = [pair for pair in headers if pair[0].lower() not in {"connection", "transfer-encoding", "content-length"}]
    return {"status": status, "headers": kept, "body": base64.b64encode(body).decode()}


def _in_go(error: Exception, rule: Rule) -> str:
    """The error as the real one words it."""
    parts = urlsplit(rule.service)
    address = "[::1]" if parts.hostname == "localhost" else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    match error:
        case ssl.SSLCertVerificationError():
            return "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        case ConnectionRefusedError():
            return f"dial tcp {address}:{port}: connect: connection refused"
        case TimeoutError():
            return f"dial tcp {address}:{port}: i/o timeout"
        case socket.gaierror():
            return f"dial tcp: lookup {parts.hostname}: no such host"
        case ConnectionResetError() | http.client.HTTPException():
            return "EOF"
        case _:
            return f"dial tcp {address}:{port}: {error}"


class Connection:
    """One registered connection to the edge: a line of JSON a message, both ways, for as long as it lives."""

    def __init__(self, tunnel: Tunnel, index: int, link: socket.socket) -> None:
        self._tunnel = tunnel
        self.index = index
        self._link = link
        self._lines = link.makefile("rb")
        self._lock = threading.Lock()

    @classmethod
    def opened(cls, tunnel: Tunnel, index: int) -> Connection:
        """Raises OSError, HungUp or Refused; TimeoutError when the edge says nothing."""
        address = tunnel.edge()
        try:
            link = socket.create_connection(address, timeout=5)
        except OSError as error:
            raise ConnectionError(f"DialContext error: dial tcp {address[0]}:{address[1]}: {error.strerror}") from error
        link.settimeout(tunnel.stand_in.rpc)
        connection = cls(tunnel, index, link)
        try:
            connection._register()
        except BaseException:
            link.close()
            raise
        link.settimeout(None)
        return connection

    def _register(self) -> None:
        who = self._tunnel.who
        self.send(
            {
                "tunnelID": who.tunnel,
                "connectorId": self._tunnel.connector_id,
                "secret": who.secret,
                "accountTag": who.account,
                "index": self.index,
                "isToken": who.is_token,
                "isQuick": who.is_quick,
                "version": VERSION,
            }
        )
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            raise HungUp("connection with edge closed")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        if who.is_quick:
            self._tunnel.hostname = answer["hostname"]

    def serve(self) -> None:
        """Until the edge is gone."""
        with self._link, suppress(OSError):
            for line in self._lines:
                message = json.loads(line)
                if "configure" in message:
                    self._tunnel.configure(message["configure"])
                else:
                    threading.Thread(target=self._answer, args=(message,), daemon=True).start()

    def _answer(self, message: Mapping[str, Any]) -> None:
        with self._tunnel.in_flight():
            self.send({"answer": message["request"], **self._tunnel.answer(message, self.index)})

    def send(self, message: Mapping[str, Any]) -> None:
        with self._lock, suppress(OSError):  # an edge that is gone is noticed by the reader
            self._link.sendall(json.dumps(message).encode() + b"\n")


# --- the metrics port ---


def metrics_server(tunnel: Tunnel) -> ThreadingHTTPServer:
    """Raises Ended when the address that was asked for is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            route = _ROUTES.get(self.path.partition("?")[0])
            status, kind, body = route(tunnel) if route else (404, "text/plain", "404 page not found\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server gives it
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked did not wait for the answer."""

    def bound(host: str, port: int) -> ThreadingHTTPServer:
        return Server((host, port), Handler)

    if address := tunnel.options.get("metrics"):
        host, _, port = address.rpartition(":")
        try:
            return bound(host.strip("[]"), int(port))
        except OSError as error:
            said = f"listen tcp {address}: bind: {(error.strerror or '').lower()}"
            tunnel.log.complain("Error opening metrics server listener", error=said)
            raise Ended(1, f"Error opening metrics server listener: {said}") from error
    for free in (*DEFAULT_PORTS, 0):
        with suppress(OSError):
            return bound("127.0.0.1", free)
    raise AssertionError("the system gives a port to whoever asks for any")


Answer = tuple[int, str, str]


def _ready(tunnel: Tunnel) -> Answer:
    count = 0 if tunnel.is_draining else len(tunnel.connections)
    status = 200 if count else 503
    body = {"status": status, "readyConnections": count, "connectorId": tunnel.connector_id}
    return status, "application/json", _compact(body)


def _diagnosed(tunnel: Tunnel, collector: str, body: Mapping[str, Any]) -> Answer:
    tunnel.log.note("Collection started", collector=collector)
    tunnel.log.note("Collection finished", collector=collector)
    return 200, "text/plain; charset=utf-8", _compact(body)


def _tunnel_state(tunnel: Tunnel) -> Answer:
    # As the real one has it, an index of 0 and the protocol http2, which is 0, are left out.
    live = [
        {"isConnected": True, "edgeAddress": "127.0.0.1", **({"index": index} if index else {})}
        for index in sorted(tunnel.connections)
    ]
    body = {"tunnelID": tunnel.who.tunnel or str(uuid.UUID(int=0)), "connectorID": tunnel.connector_id}
    return _diagnosed(tunnel, "tunnel_state", body | ({"connections": live} if live else {}))


def _json(body: object) -> Answer:
    return 200, "application/json", _compact(body)


def _compact(body: object) -> str:
    return json.dumps(body, separators=(",", ":")) + "\n"


_ROUTES: Final[Mapping[str, Callable[[Tunnel], Answer]]] = {
    "/ready": _ready,
    "/healthcheck": lambda _: (200, "text/plain; charset=utf-8", "OK\n"),
    "/metrics": lambda tunnel: (200, "text/plain; version=0.0.4", tunnel.counters.to_text()),
    "/config": lambda tunnel: _json(tunnel.config()),
    "/quicktunnel": lambda tunnel: _json({"hostname": tunnel.hostname}),
    "/diag/tunnel": _tunnel_state,
    "/diag/configuration": lambda tunnel: _diagnosed(
        tunnel, "configuration", {**tunnel.options.shown(), "uid": str(os.getuid())}
    ),
    "/diag/system": lambda tunnel: _diagnosed(tunnel, "system_information", {"info": {}, "errors": None}),
}


# --- the commands ---


def run(options: Options, words: Sequence[str]) -> int:
    """`tunnel run`, or a quick tunnel: until a signal, or a failure that ends it."""
    who = credentials(options, words)
    log = Log(options)
    log.note("Starting tunnel", tunnelID=who.tunnel)
    log.note(f"Version {VERSION}")
    log.note(f"Settings: map[{' '.join(f'{name}:{value}' for name, value in options.shown().items())}]")
    tunnel = Tunnel(options, who, _checked_rules(options, who, log), log)
    grace = _seconds(options.get("grace-period", "30s"))
    log.note(f"Generated Connector ID: {tunnel.connector_id}")
    _hear_signals(tunnel)
    time.sleep(tunnel.stand_in.start)
    server = metrics_server(tunnel)
    host, port = server.server_address[:2]
    log.note(f"Starting metrics server on {host!s}:{port}/metrics")
    for target, arguments in ((server.serve_forever, ()), (tunnel.run, (0,))):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    status = tunnel.wait()
    if status == 0:
        tunnel.drain(grace)
    log.note("Tunnel server stopped")
    return status


def _checked_rules(options: Options, who: Credentials, log: Log) -> tuple[Rule, ...]:
    try:
        _check_options(options)
        rules = rules_of(options.file, options.get("url"))
    except ValueError as error:
        log.complain("Couldn't start tunnel", error=error)
        raise Ended(1, str(error)) from error
    if rules == NO_RULES and not who.is_token:
        since = "No ingress rules were defined in provided config (if any) nor from the cli"
        log.write("warn", f"{since}, cloudflared will return 503 for all incoming HTTP requests")
    return rules


def _check_options(options: Options) -> None:
    if (protocol := options.get("protocol", "auto")) not in _PROTOCOLS:
        raise ValueError(f"Unknown protocol {protocol}, Available Protocols: [auto http2 quic]")
    if _seconds(options.get("grace-period", "30s")) > LONGEST_GRACE:
        raise ValueError("grace-period must be equal or less than 3m0s")


def _hear_signals(tunnel: Tunnel) -> None:
    """The first is graceful, a second is the end; SIGHUP is at once."""

    def heard(number: int, _frame: FrameType | None) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        name = "interrupt" if number == signal.SIGINT else "terminated"
        # In a thread: the lock of the log may be held by what was interrupted.
        threading.Thread(target=_begin_shutdown, args=(tunnel, name), daemon=True).start()

    signal.signal(signal.SIGTERM, heard)
    signal.signal(signal.SIGINT, heard)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _begin_shutdown(tunnel: Tunnel, name: str) -> None:
    tunnel.is_draining = True
    tunnel.log.note(f"Initiating graceful shutdown due to signal {name} ...")
    tunnel.end(0)


def validate(options: Options) -> int:
    """`tunnel ingress validate`."""
    print(f"Validating rules from {options.source}")
    try:
        rules_of(options.file, "")
    except ValueError as error:
        raise Ended(1, f"Validation failed: {error}") from error
    print("OK")
    return 0


def matched(options: Options, url: str) -> int:
    """`tunnel ingress rule URL`; the catch-all is a match too."""
    parts = urlsplit(url)
    rules = rules_of(options.file, "")
    number, rule = next((n, one) for n, one in enumerate(rules) if one.fits(parts.hostname or "", parts.path))
    print(f"Using rules from {options.source}\nMatched rule #{number}")
    told = {"hostname": rule.hostname, "path": rule.path, "service": rule.service}
    print("\n".join(f"\t{name}: {value}" for name, value in told.items() if value))
    return 0


def is_ready(options: Options) -> int:
    """`tunnel --metrics ADDR ready`."""
    if not (address := options.get("metrics")):
        raise Ended(1, "--metrics has to be provided")
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        if answer.status == 200:
            return 0
        raise Ended(
            1, f"http://{address}/ready endpoint returned status code {answer.status}\n{answer.read().decode()}"
        )
    except OSError as error:
        raise Ended(1, str(error)) from error
    finally:
        connection.close()


def _seconds(text: str) -> float:
    """As Go writes a duration: 30s, 1m30s, 500ms; a bare number is seconds. Raises ValueError."""
    with suppress(ValueError):
        return float(text)
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        raise ValueError(f'time: invalid duration "{text}"')
    return sum(float(number) * units[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))


def carried_out(arguments: Sequence[str]) -> int:
    flags, words = parse(arguments)
    if "version" in flags or words == ["version"]:
        print(f"cloudflared version {VERSION} (built 2026-08-20-1200 UTC)")
        return 0
    if words[:1] != ["tunnel"]:
        raise Ended(0, "NAME:\n   cloudflared - Cloudflare's command-line tool and agent")
    options = Options(flags, *read_file(flags))
    match words[1:]:
        case ["ingress", "validate"]:
            return validate(options)
        case ["ingress", "rule", url]:
            return matched(options, url)
        case ["ready"]:
            return is_ready(options)
        case ["info" | "list", *_]:
            raise Ended(1, "Error locating origin cert: client didn't specify origincert path")
        case rest:
            return run(options, rest)


def main(arguments: Sequence[str]) -> NoReturn:
    try:
        status = carried_out(arguments)
    except Ended as ended:
        (sys.stderr if ended.status else sys.stdout).write(ended.said + "\n")
        status = ended.status
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still wait for the edge or an origin are left behind.
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
