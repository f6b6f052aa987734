"""Our own connection beside the tool's: it holds our lock, watches the tool's sessions and looks at the catalogue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flawless.core.redaction import Redactor
from flawless.core.secret import Secret

if TYPE_CHECKING:
    import asyncpg

_ANSWER: Final = 10.0
"""Seconds for one of our own short statements."""

_QUERY_LENGTH: Final = 160
_LIBPQ = re.compile(
    r"ssl\w*|host|port|dbname|user|password|passfile|service|target_session_attrs|krbsrvname|gsslib|options"
)
_OURS = re.compile(r"flawless (?:deploy|migrate) (\d{8}T(\d\d)(\d\d)\d\dZ-[0-9a-f]{6})")

LOCK_KEY: Final = int.from_bytes(hashlib.sha256(b"flawless: migrations").digest()[:8], "big", signed=True)
"""Of our advisory lock, which PostgreSQL keeps apart for each database."""

_HOLDERS = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = $1"""

_PEERS = """
SELECT pid, backend_start, application_name, client_port, coalesce(wait_event_type = 'Lock', false) AS waiting,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END AS blockers
FROM pg_stat_activity
WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()
  AND client_addr IS NOT DISTINCT FROM inet_client_addr()"""

_DESCRIBED = """
SELECT pid, coalesce(application_name, '') AS application, coalesce(state, 'unknown') AS state, query, client_port,
       client_addr IS NOT DISTINCT FROM inet_client_addr() AS same_client,
       clock_timestamp() - backend_start AS age, clock_timestamp() - xact_start AS transaction_age
FROM pg_stat_activity WHERE pid = ANY($1::int[]) ORDER BY backend_start"""

_OBJECTS = """
WITH ours AS (
  SELECT c.oid, c.relname, c.relkind, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'flawless')
    AND c.relname !~* '(migration|alembic_version|schema_version|flyway|databasechangelog)')
SELECT CASE relkind WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view'
       WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'type' ELSE 'table' END
       || format(' %I.%I', nspname, relname)
       || CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = ours.oid AND NOT i.indisvalid)
               THEN ' (invalid)' ELSE '' END
FROM ours
UNION SELECT format('column %I.%I.%I', nspname, relname, attname) FROM ours JOIN pg_attribute ON attrelid = ours.oid
WHERE relkind IN ('r', 'p', 'f') AND attnum > 0 AND NOT attisdropped
UNION SELECT format('type %I.%I', nspname, typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE typtype IN ('e', 'd') AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'flawless')"""


class Backend(NamedTuple):
    """One session of the server and no other: pids are reused."""

    pid: int
    started: datetime


class Holder(NamedTuple):
    """A session that is in the way, and a sentence about it."""

    pid: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A session from this machine in the same database by the same role."""

    backend: Backend
    application: str
    client_port: int | None
    waiting: bool
    blockers: tuple[int, ...]


class Session:
    """One direct connection. Its methods raise what asyncpg raises: OSError, TimeoutError, PostgresError."""

    def __init__(self, connection: asyncpg.Connection, redactor: Redactor) -> None:
        self._connection = connection
        self._redactor = redactor

    async def database(self) -> str:
        """Which database this is, also when another of the same name takes its place."""
        return str(
            await self._value("SELECT datname || '/' || oid::text FROM pg_database WHERE datname = current_database()")
        )

    async def alembic_versions(self) -> tuple[str, ...] | None:
        """The rows of Alembic's table; None when there is none."""
        if await self._value("SELECT to_regclass('alembic_version')::text") is None:
            return None
        rows = await self._connection.fetch("SELECT version_num FROM alembic_version ORDER BY 1")
        return tuple(row["version_num"] for row in rows)

    async def objects(self) -> frozenset[str]:
        """Every table, column, index, view, sequence and enumeration; not ours, nor the tools' own tables."""
        return frozenset(row[0] for row in await self._connection.fetch(_OBJECTS))

    async def try_lock(self) -> bool:
        """Takes our advisory lock unless another session has it; it is free again when this connection ends."""
        return bool(await self._value("SELECT pg_try_advisory_lock($1)", LOCK_KEY))

    async def lock_holders(self) -> tuple[Holder, ...]:
        """Who has it."""
        rows = await self._connection.fetch(_HOLDERS, LOCK_KEY)
        return await self.described([row["pid"] for row in rows])

    async def peers(self) -> tuple[Peer, ...]:
        rows = await self._connection.fetch(_PEERS)
        return tuple(_peer(row) for row in rows)

    async def described(self, pids: Iterable[int]) -> tuple[Holder, ...]:
        """Each session in a sentence: pid, application, age, what it does; our own deploy by its time of day."""
        rows = await self._connection.fetch(_DESCRIBED, list(pids))
        own_port = await self._value("SELECT inet_client_port()")
        return tuple(Holder(row["pid"], self._sentence(row, own_port)) for row in rows)

    async def cancel(self, backend: Backend) -> None:
        """Ends the statement of exactly this session."""
        await self._send("pg_cancel_backend", backend)

    async def terminate(self, backend: Backend) -> None:
        """Ends exactly this session."""
        await self._send("pg_terminate_backend", backend)

    async def _send(self, function: str, backend: Backend) -> None:
        statement = f"SELECT {function}(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"  # noqa: S608 - one of two names above
        await self._value(statement, *backend)

    async def _value(self, statement: str, *arguments: Any) -> Any:
        return await self._connection.fetchval(statement, *arguments)

    def _sentence(self, row: Any, own_port: int | None) -> str:
        query = self._redactor.text(" ".join((row["query"] or "").split()))[:_QUERY_LENGTH]
        busy = f", in a transaction for {_age(row['transaction_age'])}" if row["transaction_age"] else ""
        who = f"pid {row['pid']}, application {row['application'] or 'without a name'!r}"
        owner = _own_deploy(row, own_port)
        return f"{who}{owner}, connected for {_age(row['age'])}, {row['state']}{busy}, query: {query or 'not visible'}"


@asynccontextmanager
async def opened(url: Secret, application: str, redactor: Redactor, *, limit: float) -> AsyncIterator[Session]:
    """A session of our own for as long as the block runs."""
    import asyncpg

    connection = await asyncpg.connect(
        _dsn(url),
        timeout=min(limit, _ANSWER),
        command_timeout=_ANSWER,
        statement_cache_size=0,
        server_settings={"application_name": application, "lock_timeout": "1000"},
    )
    try:
        yield Session(connection, redactor)
    finally:
        # A connection that was lost cannot be closed politely, and a lock on it is free already.
        connection.terminate() if connection.is_closed() else await _closed(connection)


async def _closed(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=_ANSWER)
    except (OSError, TimeoutError):
        connection.terminate()


def _dsn(url: Secret) -> str:
    """The URL as the driver wants it: without SQLAlchemy's driver name, and without the options of other tools."""
    parts = urlsplit(url.reveal())
    options = [(name, value) for name, value in parse_qsl(parts.query) if _LIBPQ.fullmatch(name)]
    return urlunsplit(parts._replace(scheme=parts.scheme.split("+")[0], query=urlencode(options)))


def _peer(row: Any) -> Peer:
    backend = Backend(row["pid"], row["backend_start"])
    return Peer(backend, row["application_name"], row["client_port"], row["waiting"], tuple(row["blockers"]))


def _age(age: timedelta | None) -> str:
    if age is None:
        return "an unknown time"
    seconds = int(age.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _own_deploy(row: Any, own_port: int | None) -> str:
    ours = _OURS.fullmatch(row["application"])
    if ours is None:
        return ""
    dead = ", dead" if row["same_client"] and _is_gone(row["client_port"], own_port) else ""
    return f" (your own deploy of {ours[2]}:{ours[3]} UTC{dead})"


def _is_gone(port: int | None, own_port: int | None) -> bool:
    """Whether the client end of a session is gone for certain.

    Known only where the server sees our own port as it is here: then no address is translated between, and a port no
    socket of this machine has belongs to a process that has ended.
    """
    import psutil

    try:
        sockets = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return False
    used = {local_port(socket) for socket in sockets if socket.status == psutil.CONN_ESTABLISHED}
    return port is not None and port > 0 and own_port in used and port not in used


def local_port(socket: Any) -> int:
    """The port of our end of a TCP socket, in psutil's words; 0 for one that is not bound."""
    return int(socket.laddr.port) if socket.laddr else 0
