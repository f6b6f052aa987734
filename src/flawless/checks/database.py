"""The questions to the database. Each opens a connection of its own, asks once and leaves; the gate does the retrying.

Opening takes five round trips, a question one or two: with 700 ms each, an attempt needs some 6 s.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.database.connection import DatabaseUnavailable, Target, session
from flawless.database.explanation import CAUSES, steps_for

if TYPE_CHECKING:
    import asyncpg

OUR_SCHEMA = "flawless"

PINGS = 3

ABOUT_THE_SERVER = """
SELECT current_setting('server_version') AS version,
       pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only') = 'on' AS read_only,
       COALESCE(
           (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1),
           has_database_privilege(current_database(), 'CREATE')
       ) AS schema_creatable
"""

ALL_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_table_is_visible(c.oid) AS visible
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY ('{r,p,v,m,f}'::"char"[]) AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class DatabaseReachable:
    """The server lets us in, answers, and takes writes. Facts: `database` with the server's version and our rights."""

    url: Secret
    embedded: bool = False

    id = "database.reachable"
    claim = "the database answers and takes writes"
    optional = False

    async def ask(self, limit: float) -> Outcome:
        target = Target.of(self.url, embedded=self.embedded)
        try:
            async with session(
                self.url, limit=limit, application="flawless check", embedded=self.embedded
            ) as connection:
                server = await connection.fetchrow(ABOUT_THE_SERVER, OUR_SCHEMA)
        except DatabaseUnavailable as unavailable:
            return unavailable.failed
        return self._judged(target, dict(server))

    def _judged(self, target: Target, server: dict[str, Any]) -> Outcome:
        if server["in_recovery"] or server["read_only"]:
            return _read_only(target, in_recovery=server["in_recovery"])
        facts = {
            "host": target.host,
            "port": target.port,
            "name": target.database,
            "user": target.user,
            "version": server["version"],
            "schema_creatable": server["schema_creatable"],
        }
        evidence = (str(target), f"PostgreSQL {server['version']}")
        concern = None if server["schema_creatable"] else _no_schema(target)
        return Passed(evidence, concern, {"database": facts})


@dataclass(frozen=True, slots=True)
class DatabaseLatency:
    """Three pings on one connection; a slow database is a warning. `warning` in seconds.

    Facts: `database.latency_ms` with `average` and the three `samples`, in milliseconds.
    """

    url: Secret
    warning: float
    embedded: bool = False

    id = "database.latency"
    claim = "the database answers within its latency warning"
    optional = False

    async def ask(self, limit: float) -> Outcome:
        try:
            async with session(
                self.url, limit=limit, application="flawless check", embedded=self.embedded
            ) as connection:
                samples = [await _ping(connection) for _ in range(PINGS)]
        except DatabaseUnavailable as unavailable:
            return unavailable.failed
        return self._judged(samples)

    def _judged(self, samples: Sequence[float]) -> Outcome:
        average = round(sum(samples) / len(samples), 1)
        facts = {"database": {"latency_ms": {"average": average, "samples": [round(ms, 1) for ms in samples]}}}
        evidence = (f"average {average} ms of {', '.join(f'{ms:.1f}' for ms in samples)} ms",)
        if average <= self.warning * 1000:
            return Passed(evidence, None, facts)
        step = f"bring the database nearer, or raise latency_warning in [database] (now {self.warning:g} s)"
        return Passed(evidence, Concern(Reason.DB_SLOW, step), facts)


@dataclass(frozen=True, slots=True)
class TablesPresent:
    """The required tables exist, named as the server lists them: `users`, `app.users`, `"odd.name"`.

    A name without a schema is looked for on the search path. Facts: `database.tables`, name to `schema.table` or null.
    """

    url: Secret
    tables: tuple[str, ...]
    embedded: bool = False

    id = "database.tables"
    claim = "the required tables exist"
    optional = False

    async def ask(self, limit: float) -> Outcome:
        target = Target.of(self.url, embedded=self.embedded)
        try:
            async with session(
                self.url, limit=limit, application="flawless check", embedded=self.embedded
            ) as connection:
                there = [_Table(*row) for row in await connection.fetch(ALL_TABLES)]
        except DatabaseUnavailable as unavailable:
            return unavailable.failed
        return self._judged(target, there)

    def _judged(self, target: Target, there: Sequence[_Table]) -> Outcome:
        found = {wanted: _find(wanted, there, target.schema) for wanted in self.tables}
        facts = {"database": {"tables": {wanted: str(table) if table else None for wanted, table in found.items()}}}
        missing = [wanted for wanted, table in found.items() if table is None]
        if not missing:
            return Passed((f"{len(found)} of {len(found)} tables: {', '.join(found)}",), None, facts)
        many = "tables are" if len(missing) > 1 else "table is"
        return Failed(
            Reason.DB_TABLE_MISSING,
            f"required {many} missing: {', '.join(missing)}",
            (str(target), *(_resembling(wanted, there) for wanted in missing)),
            (
                f"see what is there: {target.psql} -c '\\dt *.*'",
                "correct tables in [database] of flawless.toml, or add the migration that creates what is missing",
            ),
            facts=facts,
        )


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    visible: bool

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


async def _ping(connection: asyncpg.Connection) -> float:
    """One round trip, in milliseconds."""
    before = time.perf_counter()
    await connection.execute("SELECT 1")
    return (time.perf_counter() - before) * 1000


def _read_only(target: Target, *, in_recovery: bool) -> Failed:
    because = "pg_is_in_recovery() is true: a standby" if in_recovery else "transaction_read_only is on"
    cause = CAUSES[Reason.DB_READ_ONLY].replace("{place}", target.place)
    return Failed(Reason.DB_READ_ONLY, cause, (str(target), because), steps_for(Reason.DB_READ_ONLY, target))


def _no_schema(target: Target) -> Concern:
    grant = f'GRANT CREATE ON DATABASE "{target.database}" TO "{target.user}";'
    return Concern(Reason.DB_PERMISSION, f"incidents cannot be stored in it; as an administrator: {grant}")


def _find(wanted: str, there: Sequence[_Table], schema: str | None) -> _Table | None:
    """Names are taken exactly: `User` is the table "User", not `user`."""
    named_schema, name = split_name(wanted)
    within = named_schema or schema
    return next(
        (table for table in there if table.name == name and (table.schema == within if within else table.visible)), None
    )


def split_name(written: str) -> tuple[str | None, str]:
    """`app.users` and `"app"."odd.name"` into schema and table; quotes are needed only around a dot or a quote."""
    parts: list[str] = [""]
    quoted = False
    for position, letter in enumerate(written):
        if letter == '"':
            quoted = not quoted
            parts[-1] += letter if quoted and written[position - 1 : position] == '"' else ""
        elif letter == "." and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return (".".join(parts[:-1]) or None), parts[-1]


def _resembling(wanted: str, there: Sequence[_Table]) -> str:
    _, name = split_name(wanted)
    by_name = {table.name.casefold(): table for table in there}
    close = difflib.get_close_matches(name.casefold(), by_name, n=3, cutoff=0.6)
    same = [str(table) for table in there if table.name == name]
    alike = list(dict.fromkeys([*same, *(str(by_name[key]) for key in close)]))
    return (
        f"{wanted}: not there; similarly named: {', '.join(alike)}" if alike else f"{wanted}: not there, nothing alike"
    )
