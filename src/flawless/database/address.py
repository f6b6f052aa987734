"""Where a database is: a postgresql:// URL taken apart, for the driver and for people.

Source: libpq, "Connection URIs" and "Parameter Key Words". What libpq does not know as a parameter belongs to somebody
else (Prisma's `schema`, a pooler's flags) and is never sent to the server as a setting.
"""

from __future__ import annotations

import getpass
import os
import shlex
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from flawless.core.errors import FlawlessError
from flawless.core.reason import Reason
from flawless.core.secret import MASK, Secret

DEFAULT_PORT = 5432

FOR_THE_DRIVER = frozenset({
    *("host", "port", "dbname", "user", "password", "passfile", "service", "target_session_attrs", "krbsrvname"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "gsslib"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "options"),
})  # fmt: skip
"""The parameters that the driver honours as libpq does; `options` is sent on to the server, as libpq does too."""

CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")

DEMANDS_TLS = frozenset({"require", "verify-ca", "verify-full"})

FORM = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"

SHORTEST_SCRUBBED = 4
"""Characters. A shorter password would be found in every second word."""


class MalformedUrl(FlawlessError):
    """The address is not of the form of a PostgreSQL URL. Never quotes it: it holds a password."""

    code = Reason.ENV_MALFORMED

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database URL is malformed: {what}",
            evidence=[f"expected form: {FORM}"],
            next_steps=[
                f"write the URL as {FORM}; percent-encode @ : / ? # % in the password",
                """to percent-encode: python3 -c 'import urllib.parse; print(urllib.parse.quote(input(), safe=""))'""",
            ],
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What people are told of a database: everything but the password. `embedded`: the server is our own.

    `schema`: where the URL says that unqualified tables are (Prisma). `certificates`: the files it names.
    """

    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str
    sslmode: str = "prefer"
    embedded: bool = False
    schema: str | None = None
    certificates: tuple[str, ...] = ()
    password: Secret = field(default=Secret(""), repr=False)

    @classmethod
    def of(cls, url: Secret, *, embedded: bool = False) -> Target:
        """Never raises: of a malformed URL nothing is known, and `connect` says so."""
        try:
            return _target(url, embedded=embedded)
        except MalformedUrl:
            return cls((("?", DEFAULT_PORT),), "?", "?", embedded=embedded)

    @property
    def host(self) -> str:
        return self.hosts[0][0]

    @property
    def port(self) -> int:
        return self.hosts[0][1]

    @property
    def place(self) -> str:
        return ", ".join(
            f"{host} (port {port})" if "/" in host else f"{_bracketed(host)}:{port}" for host, port in self.hosts
        )

    @property
    def is_local(self) -> bool:
        return self.host in {"localhost", "127.0.0.1", "::1"} or "/" in self.host

    @property
    def demands_tls(self) -> bool:
        return self.sslmode in DEMANDS_TLS

    @property
    def login(self) -> str:
        """What PostgreSQL's own programs are called with."""
        return f"-h {shlex.quote(self.host)} -p {self.port} -U {shlex.quote(self.user)}"

    @property
    def psql(self) -> str:
        """The line that asks the same from a terminal. psql asks for the password itself; that of the embedded server
        is known to nobody, so our own command is called, which has it.
        """
        if self.embedded:
            return "flawless db psql"
        return f"psql {self.login} -d {shlex.quote(self.database)}"

    def __str__(self) -> str:
        return f'{self.place}, database "{self.database}", user "{self.user}"'

    def without_password(self, text: str) -> str:
        """What a peer said, should it repeat the password."""
        password = self.password.reveal()
        if len(password) < SHORTEST_SCRUBBED or password in {self.user, self.database, self.host}:
            return text
        return text.replace(password, MASK)


def driver_arguments(url: Secret, *, application: str) -> dict[str, Any]:
    """What asyncpg is called with. Raises MalformedUrl."""
    parts, query = _parts(url)
    settings = {"application_name": application, **_search_path(query)}
    kept = {name: value for name, value in query.items() if name in FOR_THE_DRIVER}
    if sslmode := _sslmode(query):
        kept["sslmode"] = sslmode
    dsn = parts._replace(scheme="postgresql", query=urlencode(kept), fragment="").geturl()
    # Without prepared statements kept by name every pooler works.
    return {"dsn": dsn, "server_settings": settings, "statement_cache_size": 0}


def _target(url: Secret, *, embedded: bool) -> Target:
    parts, query = _parts(url)
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    user = query.get("user") or name or os.environ.get("PGUSER") or _own_name()
    database = unquote(parts.path.lstrip("/")) or query.get("dbname") or os.environ.get("PGDATABASE") or user
    sslmode = _sslmode(query) or os.environ.get("PGSSLMODE") or "prefer"
    return Target(
        _hosts(parts, query),
        database,
        user,
        sslmode,
        embedded,
        schema=query.get("schema") or None,
        certificates=tuple(query[name] for name in CERTIFICATES if name in query),
        password=Secret(query.get("password") or password or os.environ.get("PGPASSWORD", "")),
    )


def _parts(url: Secret) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url.reveal().strip())
    except ValueError:
        raise MalformedUrl("it cannot be read as a URL") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise MalformedUrl("it does not begin with postgresql://")
    if parts.fragment or parts.netloc.count("@") > 1:
        raise MalformedUrl("a special character in it is not percent-encoded")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    _hosts(parts, query)
    return parts, query


def _hosts(parts: SplitResult, query: dict[str, str]) -> tuple[tuple[str, int], ...]:
    written = parts.netloc.rpartition("@")[2] or query.get("host") or os.environ.get("PGHOST") or "localhost"
    ports = (query.get("port") or os.environ.get("PGPORT") or str(DEFAULT_PORT)).split(",")
    hosts = written.split(",")
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    return tuple(_host(host, port) for host, port in zip(hosts, ports, strict=True))


def _host(written: str, default_port: str) -> tuple[str, int]:
    host, port = written, ""
    if written.startswith("["):
        host, _, port = written[1:].partition("]")
        port = port.removeprefix(":")
    elif "/" not in written:
        host, _, port = written.partition(":")
    try:
        number = int(port or default_port)
    except ValueError:
        raise MalformedUrl("its port is not a number, or a special character is not percent-encoded") from None
    if not host or not 0 < number < 65536:
        raise MalformedUrl("it has no host, or its port is not between 1 and 65535")
    return unquote(host), number


def _search_path(query: dict[str, str]) -> dict[str, str]:
    """A pooler refuses the setting at start-up, so it is sent only where it says something; see `Target.schema`."""
    schema = query.get("schema") or "public"
    if query.get("search_path"):
        return {"search_path": query["search_path"]}
    if schema == "public" or query.get("pgbouncer") == "true":
        return {}
    return {"search_path": '"' + schema.replace('"', '""') + '"'}


def _sslmode(query: dict[str, str]) -> str | None:
    """`ssl=true` is how JDBC writes it, which libpq reads as well."""
    return query.get("sslmode") or ("require" if query.get("ssl") == "true" else None)


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
