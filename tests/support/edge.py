"""The public edge, in this process: HTTPS for the public names, and the port to which connectors (cloudflared.py) come.

    with edge(folder, "app.example.org") as public:
        tunnel = public.tunnel("app.example.org")
        ... start cloudflared.py with tunnel's credentials and `edge: public.address` ...
        public.wait_for(lambda: public.connectors)
        ... ask public.url("app.example.org"), with public.resolve and public.ca_file ...
        public.behave("app.example.org", edge_behaviours.answering(530))

A name that leads to no tunnel, or to one without a connector, is answered 530, as at the real edge.
"""

from __future__ import annotations

import base64
import itertools
import json
import queue
import secrets
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, cast

import trustme

from support.listener import Listener, Reset

PATIENCE: Final = 1.5
"""Seconds until the edge answers 524 for a connector that says nothing; really 100."""
LIMIT: Final = 30.0
"""Seconds a test waits for what a connector does at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a public name. Header names in small letters."""

    name: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `connector`: the id of the one that made it; empty for the edge's own pages."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    connector: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A request, and how it was answered; status 0: it was cut off."""

    asked: Asked
    status: int
    connector: str


Behaviour = Callable[["Edge", Asked, Callable[[], Reply]], Reply]
"""What the edge does with a request. The third is how to ask what lies behind: at its end, the tunnel."""


def page(code: int, status: int | None = None) -> Reply:
    """A page that the edge makes itself; `code` may be finer than the status: 1033 comes with 530."""
    return Reply(status or code, f"error code: {code}\n".encode(), {"Content-Type": "text/plain; charset=UTF-8"})


@dataclass(frozen=True, slots=True)
class NamedTunnel:
    """A tunnel of an account, as the dashboard would show it. `rules`: pushed to connectors that come with a token."""

    id: str
    secret: str
    account: str
    edge: str
    rules: Sequence[Mapping[str, Any]] = ()

    @property
    def token(self) -> str:
        data = {"a": self.account, "s": self.secret, "t": self.id, "e": self.edge}
        return base64.b64encode(json.dumps(data).encode()).decode()

    @property
    def credentials(self) -> str:
        """The content of a credentials file."""
        data = {"AccountTag": self.account, "TunnelSecret": self.secret, "TunnelID": self.id, "Endpoint": self.edge}
        return json.dumps(data)


class Registration(StrEnum):
    """What the edge does with a connector that wants to register."""

    USUAL = "taken, when tunnel and secret are right"
    UNAUTHORIZED = "Unauthorized: Invalid tunnel secret"
    NOT_FOUND = "Unauthorized: Tunnel not found"
    REFUSED = "the edge is being maintained"
    HANGS_UP = "accepts and closes"
    SILENT = "accepts and never answers"


class Connector:
    """One cloudflared that has registered, with all its connections."""

    def __init__(self, connector_id: str, tunnel: str) -> None:
        self.id = connector_id
        self.tunnel = tunnel
        self.is_routed = True
        """False: the edge has forgotten it, and it does not know."""
        self._links: list[_Link] = []
        self._turn = itertools.count()

    @property
    def connections(self) -> int:
        return len(self._links)

    def ask(self, asked: Asked, patience: float) -> Reply:
        links = list(self._links)
        if not links:
            return page(502)
        return links[next(self._turn) % len(links)].ask(asked, patience, self.id)


class _Link:
    """One connection of a connector: a line of JSON a message."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[Mapping[str, Any] | None]] = {}
        self._is_gone = False

    def send(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, asked: Asked, patience: float, connector: str) -> Reply:
        number = next(self._numbers)
        waiting: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._waiting[number] = waiting
        try:
            self.send({"request": number, **_to_json(asked)})
            answer = None if self._is_gone else waiting.get(timeout=patience)
        except queue.Empty:
            return page(524)
        except OSError:
            return page(502)
        finally:
            del self._waiting[number]
        return page(502) if answer is None else _of_json(answer, connector)

    def take(self, message: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(message["answer"])
        if waiting is not None:
            waiting.put(message)

    def end(self) -> None:
        """The connection is gone, and with it what was asked over it."""
        self._is_gone = True
        for waiting in list(self._waiting.values()):
            waiting.put(None)


def _to_json(asked: Asked) -> dict[str, Any]:
    added = {"cf-connecting-ip": "127.0.0.1", "x-forwarded-proto": "https", "cf-ray": _ray()}
    dropped = {"connection", "content-length", "host"}
    headers = {name: value for name, value in asked.headers.items() if name not in dropped}
    return {
        "host": asked.name,
        "method": asked.method,
        "path": asked.path + (f"?{asked.query}" if asked.query else ""),
        "headers": list((headers | added).items()),
        "body": base64.b64encode(asked.body).decode(),
    }


def _of_json(answer: Mapping[str, Any], connector: str) -> Reply:
    body, headers = base64.b64decode(answer["body"]), dict(answer["headers"])
    if answer["status"] == 502 and not body:
        return Reply(502, page(502).body, page(502).headers, connector)
    return Reply(answer["status"], body, headers, connector)


class Certificate(StrEnum):
    """What is wrong with the certificate of a name."""

    EXPIRED = "expired yesterday"
    OTHER_NAME = "made for another name"
    UNKNOWN_AUTHORITY = "of an authority that nobody knows"


class Edge:
    """See the top of the file. What is public here is for tests to read and to set at any time."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.names = list(names)
        self.requests: list[Record] = []
        self.registration = Registration.USUAL
        self.shuns_the_known = False
        """Whoever has been here before is hung up on: only a new process gets in, as after a restart."""
        self.arrivals: list[str] = []
        """The connector's id of every process that came to register, once each, in order."""
        self.registration_takes = 0.0
        """Seconds until the edge answers a registration."""
        self.configuration_takes = 0.0
        """Seconds between a registration with a token and the rules: 503 meanwhile."""
        self.patience = PATIENCE
        self.ending = threading.Event()
        self._changed = threading.Condition()
        self._tunnels: dict[str, NamedTunnel] = {}
        self._routes: dict[str, str] = {}
        self._behaviours: dict[str, tuple[Behaviour, ...]] = {}
        self._connectors: dict[str, Connector] = {}
        self._virtual: dict[str, list[Callable[[Asked], Reply]]] = {}
        self._configuring: list[threading.Thread] = []
        self._turn = itertools.count()
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.ca_file = folder / "edge-ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self._default = self._context(names[0] if names else "localhost")
        self._front = Listener(self._serve_visitor)
        self._back: Listener | None = Listener(self._serve_connector)
        self._back_port = self._back.port

    def close(self) -> None:
        self.ending.set()
        for listener in (self._front, self._back):
            if listener is not None:
                listener.close()
        for thread in self._configuring:
            thread.join(LIMIT)

    # --- where it is ---

    def url(self, name: str, path: str = "/") -> str:
        """The address a visitor opens: the usual port, so it needs `resolve`."""
        return f"https://{name}{path}"

    @property
    def port(self) -> int:
        """Where it serves HTTPS."""
        return self._front.port

    @property
    def resolve(self) -> dict[str, str]:
        """For `[public] resolve`."""
        return {f"{name}:443": f"127.0.0.1:{self.port}" for name in self.names}

    @property
    def address(self) -> str:
        """Where connectors come: `edge:` of cloudflared's file."""
        return f"127.0.0.1:{self._back_port}"

    # --- tunnels and connectors ---

    def tunnel(self, *names: str, rules: Sequence[Mapping[str, Any]] = ()) -> NamedTunnel:
        """A new tunnel, to which these names lead."""
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        made = NamedTunnel(str(uuid.uuid4()), secret, uuid.uuid4().hex, self.address, rules)
        self._tunnels[made.id] = made
        for name in names:
            self.route(name, made.id)
        return made

    def route(self, name: str, tunnel_id: str | None) -> None:
        """The CNAME of a name: to this tunnel, or to none."""
        if name not in self.names:
            self.names.append(name)
        with self._changed:
            self._routes.pop(name, None)
            if tunnel_id is not None:
                self._routes[name] = tunnel_id

    def delete(self, tunnel_id: str) -> None:
        """A tunnel that is deleted in the dashboard: nobody registers for it any more."""
        del self._tunnels[tunnel_id]

    @property
    def connectors(self) -> list[Connector]:
        """Those that are registered, in the order in which they came."""
        with self._changed:
            return list(self._connectors.values())

    def forget(self, connector_id: str) -> None:
        """Sends it nothing any more, while its connections stay: it goes on to say that it is ready."""
        with self._changed:
            self._connectors[connector_id].is_routed = False

    def add_connector(self, tunnel_id: str, answer: Callable[[Asked], Reply]) -> None:
        """Another connector of that tunnel, on a machine of somebody else: it takes its share of the requests."""
        self._virtual.setdefault(tunnel_id, []).append(answer)

    def push(self, tunnel_id: str, rules: Sequence[Mapping[str, Any]], version: int) -> None:
        """New rules from the dashboard, to whoever runs that tunnel now."""
        for connector in self.connectors:
            if connector.tunnel == tunnel_id:
                connector._links[0].send(_configuration(rules, version))

    def disconnect(self) -> None:
        """Every connector loses its connections, and nobody comes in until `reconnect`: the edge is not reachable."""
        back, self._back = self._back, None
        if back is not None:
            back.close()

    def reconnect(self) -> None:
        self._back = Listener(self._serve_connector, self._back_port)

    def cut(self) -> None:
        """Every connector loses its connections and may come back at once."""
        if self._back is not None:
            self._back.cut()

    def wait_for(self, holds: Callable[[], object], limit: float = LIMIT) -> None:
        """Until it is so: asked again whenever a connector comes or goes, or a request was answered."""
        with self._changed:
            assert self._changed.wait_for(lambda: bool(holds()), limit), "it did not come to that at the edge"

    # --- what it does with a name ---

    def behave(self, name: str, *behaviours: Behaviour) -> None:
        """From now on, the first outermost; without any it asks the tunnel again."""
        self._behaviours[name] = behaviours

    def certify(self, name: str, what: Certificate | timedelta) -> None:
        """The certificate of a name from now on: a bad one, or one that ends after so long."""
        self._contexts[name] = self._context(name, what)

    def asked(self, name: str) -> list[Record]:
        return [record for record in self.requests if record.asked.name == name]

    def through_tunnel(self, asked: Asked) -> Reply:
        """Round robin over the connectors of the name's tunnel."""
        tunnel_id = self._routes.get(asked.name, "")
        with self._changed:
            real = [one for one in self._connectors.values() if one.tunnel == tunnel_id and one.is_routed]
        choices: list[Callable[[], Reply]] = [_asking(connector, asked, self.patience) for connector in real]
        choices += [_answering(answer, asked) for answer in self._virtual.get(tunnel_id, ())]
        if not choices:
            return page(1033, 530)
        reply = choices[next(self._turn) % len(choices)]()
        return replace(reply, headers={"cf-cache-status": "DYNAMIC", **reply.headers})

    def _answer(self, asked: Asked) -> Reply:
        ask: Callable[[], Reply] = lambda: self.through_tunnel(asked)  # noqa: E731 - the innermost of a chain of them
        for behaviour in reversed(self._behaviours.get(asked.name, ())):
            ask = _wrapped(behaviour, self, asked, ask)
        return ask()

    # --- visitors ---

    def _serve_visitor(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with suppress(ssl.SSLError), self._default.wrap_socket(connection, server_side=True) as secured:
            _handler(self)(secured, ("127.0.0.1", 0), cast("Any", None))

    def respond(self, asked: Asked) -> Reply:
        try:
            reply = self._answer(asked)
        except Reset:
            self._note(Record(asked, 0, ""))
            raise
        self._note(Record(asked, reply.status, reply.connector))
        return reply

    def _note(self, record: Record) -> None:
        with self._changed:
            self.requests.append(record)
            self._changed.notify_all()

    def _context(self, name: str, what: Certificate | timedelta | None = None) -> ssl.SSLContext:
        now = datetime.now(UTC)
        authority = trustme.CA() if what is Certificate.UNKNOWN_AUTHORITY else self._authority
        named = f"not-{name}" if what is Certificate.OTHER_NAME else name
        ends = now + what if isinstance(what, timedelta) else now + timedelta(days=90)
        if what is Certificate.EXPIRED:
            ends = now - timedelta(days=1)
        certificate = authority.issue_cert(named, not_before=now - timedelta(days=30), not_after=ends)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.sni_callback = self._choose
        return context

    def _choose(self, secured: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        if name:
            if name not in self._contexts:
                self._contexts[name] = self._context(name)
            secured.context = self._contexts[name]

    # --- connectors ---

    def _serve_connector(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as lines:
            hello = json.loads(lines.readline() or b"{}")
            link = _Link(connection)
            if not hello or not self._admits(hello, link):
                return
            connector = self._registered(hello, link)
            try:
                self._relay(connector, link, lines)
            finally:
                self._unregistered(connector, link)
                link.end()

    def _admits(self, hello: Mapping[str, Any], link: _Link) -> bool:
        is_known = self._has_come(hello["connectorId"])
        self.ending.wait(self.registration_takes)
        if self.registration is Registration.HANGS_UP or (is_known and self.shuns_the_known):
            return False
        if self.registration is Registration.SILENT:
            self.ending.wait(LIMIT)
            return False
        refusal = self._refusal(hello)
        if refusal:
            link.send({"error": refusal})
        return not refusal

    def _has_come(self, connector_id: str) -> bool:
        """Whether it has been here before; from now on it has."""
        with self._changed:
            is_known = connector_id in self.arrivals
            self.arrivals += [] if is_known else [connector_id]
            return is_known

    def _refusal(self, hello: Mapping[str, Any]) -> str:
        if self.registration is not Registration.USUAL:
            return self.registration.value
        if hello["isQuick"]:
            return ""
        tunnel = self._tunnels.get(hello["tunnelID"])
        if tunnel is None:
            return Registration.NOT_FOUND.value
        return "" if tunnel.secret == hello["secret"] else Registration.UNAUTHORIZED.value

    def _registered(self, hello: Mapping[str, Any], link: _Link) -> Connector:
        tunnel_id = f"quick-{hello['connectorId']}" if hello["isQuick"] else hello["tunnelID"]
        hostname = f"{secrets.token_hex(6)}.trycloudflare.com" if hello["isQuick"] else ""
        if hostname:
            self.route(hostname, tunnel_id)
        link.send({"registered": True, "location": "lo01", "hostname": hostname})
        with self._changed:
            connector = self._connectors.setdefault(hello["connectorId"], Connector(hello["connectorId"], tunnel_id))
            connector._links.append(link)
            self._changed.notify_all()
        if hello["isToken"] and hello["index"] == 0:
            self._configuring.append(threading.Thread(target=self._configure, args=(link, tunnel_id), daemon=True))
            self._configuring[-1].start()
        return connector

    def _configure(self, link: _Link, tunnel_id: str) -> None:
        if not self.ending.wait(self.configuration_takes):
            with suppress(OSError):  # it may be gone by then
                link.send(_configuration(self._tunnels[tunnel_id].rules, 1))

    def _relay(self, connector: Connector, link: _Link, lines: Any) -> None:
        for line in lines:
            message = json.loads(line)
            if "unregister" in message:
                self._unregistered(connector, link)
            else:
                link.take(message)

    def _unregistered(self, connector: Connector, link: _Link) -> None:
        with self._changed:
            if link in connector._links:
                connector._links.remove(link)
            if not connector._links:
                self._connectors.pop(connector.id, None)
            self._changed.notify_all()


def _configuration(rules: Sequence[Mapping[str, Any]], version: int) -> dict[str, Any]:
    return {"configure": {"version": version, "config": {"ingress": list(rules)}}}


def _asking(connector: Connector, asked: Asked, patience: float) -> Callable[[], Reply]:
    return lambda: connector.ask(asked, patience)


def _answering(answer: Callable[[Asked], Reply], asked: Asked) -> Callable[[], Reply]:
    return lambda: answer(asked)


def _wrapped(behaviour: Behaviour, public: Edge, asked: Asked, ask: Callable[[], Reply]) -> Callable[[], Reply]:
    return lambda: behaviour(public, asked, ask)


def _ray() -> str:
    return f"{secrets.token_hex(8)}-LHR"


def _handler(public: Edge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            reply = public.respond(self._asked())
            fixed = {"Server": "cloudflare", "CF-RAY": _ray(), "Connection": "close"}
            taken = {name.lower() for name in fixed}
            told = {name: value for name, value in reply.headers.items() if name.lower() not in taken}
            self.send_response_only(reply.status)
            for name, value in {**told, **fixed, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815 - the names http.server looks for

        def _asked(self) -> Asked:
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            name = headers.get("host", "").partition(":")[0]
            return Asked(name, self.command, path, query, headers, body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server gives it
            pass

    return Handler


@contextmanager
def edge(folder: Path, *names: str) -> Iterator[Edge]:
    """Serves these names for the time of the block; `folder` gets the authority's certificate."""
    public = Edge(folder, names)
    try:
        yield public
    finally:
        public.close()
