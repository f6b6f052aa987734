"""Stand-ins for Stripe, OpenAI and the Cloudflare API: they answer as the real ones do, or as badly as they can.

    with stripe() as far_end:
        stack.manifest["external"] = {"stripe": {"key": far_end.key, "base_url": far_end.url}}
        far_end.fail_with(503, times=1)
        ...
    assert far_end.requests[0].headers["authorization"] == f"Bearer {far_end.key}"

Each serves in a thread of this process, so that it serves a test and, over its `base_url`, a whole deploy.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import trustme

UNKNOWN_HOST: Final = "https://api.interface.invalid"
"""No resolver knows it, wherever the test runs."""

GIGABYTE: Final = 1 << 30
Answer = tuple[int, Mapping[str, Any]]
F = TypeVar("F", bound="FarEnd")


VARIABLES: Final = {"stripe": "STRIPE_SECRET_KEY", "openai": "OPENAI_API_KEY", "cloudflare": "CLOUDFLARE_API_TOKEN"}
"""Where the key of each is expected."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came in: header names in small letters, the query's first values. `at`: seconds of the monotonic clock."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    at: float


@dataclass
class Fault:
    """How badly it answers, so many times (None: for ever), to the paths that begin so."""

    kind: int | str
    times: int | None
    path: str
    retry_after: str | None = None
    to: str = ""


@dataclass
class FarEnd:
    """One far end. `delay`: seconds before each answer; `on_request`: called before it.

    `sent`: bytes of the body without end that were taken.
    """

    key: str
    delay: float = 0.0
    on_request: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    authority: trustme.CA | None = None
    _faults: list[Fault] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _url: str = ""

    # --- what is wanted ---

    @property
    def url(self) -> str:
        return self._url

    def fail_with(
        self, kind: int | str, *, times: int | None = None, path: str = "", retry_after: str | None = None, to: str = ""
    ) -> None:
        """`kind`: a status, or one of hang, drip, endless, html, redirect (`to`), reset, closed, cut, nonsense."""
        self._faults.append(Fault(kind, times, path, retry_after, to))

    def heal(self) -> None:
        self._faults.clear()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    # --- how it answers ---

    def answer(self, request: Request) -> Answer:
        """As the real one does, for a key that it knows."""
        raise NotImplementedError

    def error(self, status: int, request: Request) -> Mapping[str, Any]:
        """The body of a refusal, which may repeat part of the key."""
        raise NotImplementedError

    def headers(self) -> Mapping[str, str]:
        return {}

    def knows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    def _respond(self, connection: socket.socket, request: Request) -> None:
        fault = self._fault(request)
        self.on_request()
        if self.delay:
            self._ending.wait(self.delay)
        if isinstance(fault, Fault):
            self._misbehave(connection, request, fault)
        elif self.knows(request):
            self._reply(connection, *self.answer(request))
        else:
            self._reply(connection, 401, self.error(401, request))

    def _fault(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if request.path.startswith(fault.path) and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def _misbehave(self, connection: socket.socket, request: Request, fault: Fault) -> None:
        if isinstance(fault.kind, int):
            extra = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            self._reply(connection, fault.kind, self.error(fault.kind, request), extra)
        elif fault.kind == "redirect":
            self._send(connection, 302, b"", {"Location": fault.to})
        else:
            _FAULTS[fault.kind](self, connection)

    def _reply(
        self, connection: socket.socket, status: int, body: Mapping[str, Any], extra: Mapping[str, str] | None = None
    ) -> None:
        self._send(connection, status, json.dumps(body).encode(), {"Content-Type": "application/json", **(extra or {})})

    def _send(self, connection: socket.socket, status: int, body: bytes, extra: Mapping[str, str]) -> None:
        headers = {**self.headers(), "Content-Length": str(len(body)), "Connection": "close", **extra}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {one}" for name, one in headers.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    # --- the server ---

    def _serve(self, server: socket.socket, context: ssl.SSLContext | None) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection, context), daemon=True).start()

    def _handle(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if context is not None:
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := connection.recv(65536)):
                    return
                head += data
            request = _parsed(head)
            self.requests.append(request)
            self._respond(connection, request)

    def _close(self, server: socket.socket) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()

    def wait(self, seconds: float) -> None:
        """Sleeps, unless the far end is closed."""
        self._ending.wait(seconds)

    @property
    def is_closed(self) -> bool:
        return self._ending.is_set()


def _parsed(head: bytes) -> Request:
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    parts = urlsplit(target)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, headers, head, time.monotonic())


# --- bad answers ---


def _hang(far_end: FarEnd, _: socket.socket) -> None:
    far_end.wait(60)


def _drip(far_end: FarEnd, connection: socket.socket) -> None:
    """One byte a second."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    while not far_end.is_closed:
        connection.sendall(b" ")
        far_end.wait(1)


def _endless(far_end: FarEnd, connection: socket.socket) -> None:
    """A gigabyte, if anybody takes it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {GIGABYTE}\r\n\r\n"
    connection.sendall(head.encode())
    while far_end.sent < GIGABYTE and not far_end.is_closed:
        far_end.sent += connection.send(b" " * 65536)


def _html(far_end: FarEnd, connection: socket.socket) -> None:
    far_end._send(connection, 200, b"<html><title>Sign in</title></html>", {"Content-Type": "text/html"})


def _reset(_: FarEnd, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _cut(_: FarEnd, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")


_FAULTS: Final[dict[str, Callable[[FarEnd, socket.socket], None]]] = {
    "hang": _hang,
    "drip": _drip,
    "endless": _endless,
    "html": _html,
    "reset": _reset,
    "closed": lambda far_end, connection: None,
    "cut": _cut,
    "nonsense": lambda far_end, connection: connection.sendall(b"\x00\x01 no HTTP at all\r\n\r\n"),
}


# --- Stripe ---


@dataclass
class Stripe(FarEnd):
    """`is_restricted`: the key may not see the account. `sees_webhooks`: nor the webhook endpoints, when False."""

    live: bool = False
    is_restricted: bool = False
    sees_webhooks: bool = True
    webhooks: list[str] = field(default_factory=list)
    disabled: bool = False
    has_more: bool = False

    def answer(self, request: Request) -> Answer:
        match request.path:
            case "/v1/account" if self.is_restricted:
                return 403, self.error(403, request)
            case "/v1/account":
                return 200, {"id": "acct_1032D82eZvKYlo2C", "object": "account", "charges_enabled": True}
            case "/v1/balance":
                return 200, {"object": "balance", "available": [{"amount": 0}], "livemode": self.live, "pending": []}
            case "/v1/webhook_endpoints" if not self.sees_webhooks:
                return 403, self.error(403, request)
            case "/v1/webhook_endpoints":
                return 200, self._endpoints(request)
        return 404, {"error": {"type": "invalid_request_error", "message": "Unrecognized request URL"}}

    def _endpoints(self, request: Request) -> Mapping[str, Any]:
        status = "disabled" if self.disabled else "enabled"
        found = [
            {"id": f"we_{number}", "object": "webhook_endpoint", "url": url, "status": status, "livemode": self.live}
            for number, url in enumerate(self.webhooks)
        ]
        limit = int(request.query.get("limit", "10"))
        is_more = self.has_more or len(found) > limit
        return {"object": "list", "url": request.path, "has_more": is_more, "data": found[:limit]}

    def error(self, status: int, request: Request) -> Mapping[str, Any]:
        shown = _masked(request)
        told = {
            401: {"message": f"Invalid API Key provided: {shown}", "type": "invalid_request_error"},
            403: {"message": f"The provided key '{shown}' does not have access", "type": "invalid_request_error"},
            429: {"message": "Too many requests", "type": "invalid_request_error", "code": "rate_limit"},
        }
        return {"error": told.get(status, {"message": f"An error occurred. {shown}", "type": "api_error"})}

    def headers(self) -> Mapping[str, str]:
        return {"Request-Id": "req_8tMnB1xW4bWkQz", "Stripe-Version": "2026-10-28"}


# --- OpenAI ---


@dataclass
class OpenAI(FarEnd):
    """Knows one organization and one project, when they are given."""

    organization: str = ""
    project: str = ""

    def answer(self, request: Request) -> Answer:
        given = (request.headers.get("openai-organization", ""), request.headers.get("openai-project", ""))
        if (given[0] and given[0] != self.organization) or (given[1] and given[1] != self.project):
            return 401, {"error": {"message": "No such organization", "type": "x", "code": "mismatched_organization"}}
        if request.path != "/v1/models":
            return 404, {"error": {"message": "Invalid URL", "type": "invalid_request_error", "code": None}}
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "system"} for name in ("one", "two")]
        return 200, {"object": "list", "data": models}

    def error(self, status: int, request: Request) -> Mapping[str, Any]:
        shown = _masked(request)
        told = {
            401: ("invalid_request_error", "invalid_api_key", f"Incorrect API key provided: {shown}."),
            403: ("invalid_request_error", "insufficient_permissions", f"You have no permission. {shown}"),
            429: ("requests", "rate_limit_exceeded", "Rate limit reached"),
        }
        kind, code, message = told.get(status, ("server_error", "server_error", f"The server had an error. {shown}"))
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def headers(self) -> Mapping[str, str]:
        return {"x-request-id": "req_5f2c0c34aa", "openai-version": "2020-10-01"}


# --- Cloudflare ---


@dataclass
class Cloudflare(FarEnd):
    """`hidden`: what the token may not see: tunnels, zones, records."""

    account: str = "023e105f4ecef8ad9ca31a8372d0c353"
    tunnel: str = "f70ff985-a4ef-4643-bbbc-4a0ed4fc8415"
    hostname: str = "app.example.org"
    status: str = "active"
    expires_on: str | None = None
    is_of_account: bool = False
    tunnel_status: str = "healthy"
    zones: dict[str, str] = field(default_factory=lambda: {"example.org": "372e67954025e0ba6aaa6d586b9e0b59"})
    records: list[dict[str, Any]] | None = None
    hidden: set[str] = field(default_factory=set)

    def answer(self, request: Request) -> Answer:
        path = request.path.removeprefix("/client/v4")
        match path.strip("/").split("/"):
            case ["user", "tokens", "verify"] if not self.is_of_account:
                return 200, _success(self._token())
            case ["accounts", self.account, "tokens", "verify"] if self.is_of_account:
                return 200, _success(self._token())
            case ["user" | "accounts", *_, "tokens", "verify"]:
                return 401, self.error(401, request)
            case ["accounts", account, "cfd_tunnel", tunnel]:
                return self._tunnel(account, tunnel, request)
            case ["zones"]:
                return 200, self._zones(request)
            case ["zones", zone, "dns_records"] if zone in self.zones.values():
                return self._records(request)
        return 404, _failure(7003, "Could not route to the given path")

    def _token(self) -> Mapping[str, Any]:
        token: dict[str, Any] = {"id": "ed17574386854bf78a67040be0a770b0", "status": self.status}
        return token | ({"expires_on": self.expires_on} if self.expires_on else {})

    def _tunnel(self, account: str, tunnel: str, request: Request) -> Answer:
        if "tunnels" in self.hidden or account != self.account:
            return 403, self.error(403, request)
        if tunnel != self.tunnel:
            return 404, _failure(1004, "Tunnel not found")
        connections = [{"colo_name": "fra01", "is_pending_reconnect": False}] * (4 * (self.tunnel_status == "healthy"))
        body = {"id": tunnel, "name": "shop", "status": self.tunnel_status, "connections": connections}
        return 200, _success({**body, "deleted_at": None})

    def _zones(self, request: Request) -> Mapping[str, Any]:
        """A token that may not see zones is shown none."""
        name = request.query.get("name", "")
        found = [] if "zones" in self.hidden or name not in self.zones else [{"id": self.zones[name], "name": name}]
        return _listed(found)

    def _records(self, request: Request) -> Answer:
        if "records" in self.hidden:
            return 403, self.error(403, request)
        usual = {"type": "CNAME", "name": self.hostname, "content": f"{self.tunnel}.cfargotunnel.com", "proxied": True}
        records = [usual] if self.records is None else self.records
        return 200, _listed([one for one in records if one["name"] == request.query.get("name")])

    def error(self, status: int, request: Request) -> Mapping[str, Any]:
        shown = _masked(request)
        told = {
            400: (6003, "Invalid request headers"),
            401: (1000, f"Invalid API Token {shown}"),
            403: (10000, f"Authentication error {shown}"),
            429: (971, "Please wait and consider throttling your request speed"),
        }
        return _failure(*told.get(status, (10013, f"internal error {shown}")))

    def headers(self) -> Mapping[str, str]:
        return {"cf-ray": "8f2a6c1d9e3b4f70-FRA", "Server": "cloudflare"}


def _success(result: Any) -> Mapping[str, Any]:
    return {"success": True, "errors": [], "messages": [], "result": result}


def _listed(found: list[dict[str, Any]]) -> Mapping[str, Any]:
    info = {"page": 1, "per_page": 20, "count": len(found), "total_count": len(found), "total_pages": 1}
    return {**_success(found), "result_info": info}


def _failure(code: int, message: str) -> Mapping[str, Any]:
    return {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}


def _masked(request: Request) -> str:
    """Part of the key, as OpenAI and Stripe repeat it in their refusals."""
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    return f"{key[:12]}{'*' * 8}{key[-6:]}"


# --- anybody else ---


@dataclass
class Witness(FarEnd):
    """A host to which a key must never come: it takes everything, and remembers."""

    def knows(self, request: Request) -> bool:
        return True

    def answer(self, request: Request) -> Answer:
        return 200, {"object": "account", "success": True}

    def error(self, status: int, request: Request) -> Mapping[str, Any]:
        return {}


# --- opening them ---

STRIPE_KEY: Final = "sk_test_" + "Zq7Lw2Rk9Vt4Xb6Nm3Pc8Yd5"
OPENAI_KEY: Final = "sk-proj-" + "Hj5Gf8Ds2Ka9Lp4Qw7Er3Ty6"
CLOUDFLARE_TOKEN: Final = "v1.Cf" + "Ub3Vn7Mc1Xz9As5Df2Gh8Jk4"


@contextlib.contextmanager
def stripe(key: str = STRIPE_KEY, *, tls: bool = False, **state: Any) -> Iterator[Stripe]:
    with _serving(Stripe(key, **state), tls=tls) as far_end:
        yield far_end


@contextlib.contextmanager
def openai(key: str = OPENAI_KEY, *, tls: bool = False, **state: Any) -> Iterator[OpenAI]:
    with _serving(OpenAI(key, **state), tls=tls) as far_end:
        yield far_end


@contextlib.contextmanager
def cloudflare(key: str = CLOUDFLARE_TOKEN, *, tls: bool = False, **state: Any) -> Iterator[Cloudflare]:
    with _serving(Cloudflare(key, **state), tls=tls) as far_end:
        yield far_end


@contextlib.contextmanager
def witness() -> Iterator[Witness]:
    with _serving(Witness(""), tls=False) as far_end:
        yield far_end


@contextlib.contextmanager
def _serving(far_end: F, *, tls: bool) -> Iterator[F]:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    context = None
    if tls:
        far_end.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        far_end.authority.issue_cert("127.0.0.1").configure_cert(context)
    far_end._url = f"{'https' if tls else 'http'}://127.0.0.1:{server.getsockname()[1]}"
    thread = threading.Thread(target=far_end._serve, args=(server, context), daemon=True)
    thread.start()
    try:
        yield far_end
    finally:
        far_end._close(server)
        thread.join(5)


def trust(far_end: FarEnd, folder: Path) -> Path:
    """The authority of a far end that speaks TLS, as a file for SSL_CERT_FILE."""
    assert far_end.authority is not None
    path = folder / "authority.pem"
    far_end.authority.cert_pem.write_to_path(str(path))
    return path
