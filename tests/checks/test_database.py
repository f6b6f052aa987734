"""The gate of the database on real servers and real faults: FAILURES 17 to 20, 24, 60, 65."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from flawless.checks.database import DatabaseLatency, DatabaseReachable, TablesPresent
from flawless.core.check import Check, Failed, Finding, Passed, Status
from flawless.core.clock import SystemClock
from flawless.core.gate import Patience, gate
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from support.postgres import Postgres, execute, free_port
from support.postgres_faults import HTTP_ANSWER, SSH_ANSWER, PostgresFaults

pytestmark = pytest.mark.anyio

BRIEF = Patience(total=1.0, attempt=0.5, interval=0.05, ceiling=0.1)

LONG = Patience(total=20, attempt=10)
"""For what is said at once, or is slow: the deadline plays no part."""


def reachable(url: str) -> DatabaseReachable:
    return DatabaseReachable(Secret(url))


async def asked(check: Check, patience: Patience = LONG) -> Finding:
    return await gate(check, patience, clock=SystemClock())


async def refused_with(url: str, reason: Reason, *words: str) -> Failed:
    """The gate's failure; `words` are in what the reader is shown, the password is not."""
    began = time.monotonic()
    failure = (await asked(reachable(url), LONG if reason.permanent else BRIEF)).failure
    elapsed = time.monotonic() - began
    assert failure is not None
    assert failure.reason is reason, failure
    shown = "\n".join((failure.cause, *failure.evidence, *failure.next_steps))
    for word in words:
        assert word in shown
    assert (urlsplit(url).password or "no-password") not in shown
    if failure.is_permanent:
        assert elapsed < 2.0
        assert "asked" not in failure.evidence[-1]
    else:
        assert 0.9 < elapsed < 3.0
    return failure


def altered(url: str, **changes: str) -> str:
    """The URL with another user, password, host or database."""
    parts = urlsplit(url)
    user, password = changes.get("user", parts.username), changes.get("password", parts.password)
    netloc = f"{user}:{password}@{changes.get('host', parts.hostname)}:{changes.get('port', parts.port)}"
    return parts._replace(
        netloc=netloc, path=changes.get("path", parts.path), query=changes.get("query", parts.query)
    ).geturl()


async def test_a_database_that_answers_passes_and_says_what_it_is(database_url: str) -> None:
    """A reachable, writable database passes, with its version and our rights as facts."""
    finding = await asked(reachable(database_url))
    assert finding.status is Status.PASS
    assert isinstance(finding.outcome, Passed)
    facts = finding.outcome.facts["database"]
    assert (facts["schema_creatable"], facts["version"].split(".")[0]) == (True, "18")
    json.dumps(finding.outcome.facts)


async def test_refused(postgres_url: str) -> None:
    """A port where nothing listens is DB_REFUSED, with the command that shows who listens; it is retried."""
    async with PostgresFaults(postgres_url) as faults:
        await faults.refuse()
        failure = await refused_with(
            faults.url, Reason.DB_REFUSED, f"127.0.0.1:{faults.port}", "ECONNREFUSED", "ss -ltnp"
        )
    assert "asked" in failure.evidence[-1]


async def test_refused_on_every_address_of_a_name(postgres_url: str) -> None:
    """A name with several addresses that all refuse is DB_REFUSED, though the system's error carries no number."""
    async with PostgresFaults(postgres_url) as faults:
        await faults.refuse()
        await refused_with(altered(faults.url, host="localhost"), Reason.DB_REFUSED, f"localhost:{faults.port}")


async def test_refused_comes_back(postgres_url: str) -> None:
    """A database that comes up while the gate waits passes."""
    async with PostgresFaults(postgres_url) as faults:
        faults.reject("57P03", "the database system is starting up")
        waiting = asyncio.create_task(asked(reachable(faults.url), Patience(total=5, interval=0.05, ceiling=0.1)))
        await faults.until(connections=3)
        faults.relay()
        assert (await waiting).status is Status.PASS


async def test_unknown_name(database_url: str) -> None:
    """A host that does not resolve is DB_DNS and names the host."""
    await refused_with(altered(database_url, host="no-such-host.invalid"), Reason.DB_DNS, "no-such-host.invalid")


async def test_accepts_and_never_answers(postgres_url: str) -> None:
    """A silent port is DB_TIMEOUT, and is said to accept."""
    async with PostgresFaults(postgres_url) as faults:
        faults.silence()
        failure = await refused_with(faults.url, Reason.DB_TIMEOUT)
    assert "accepts connections but never answers" in failure.cause


async def test_a_frozen_server(spare_postgres: Postgres) -> None:
    """A server stopped with SIGSTOP is DB_TIMEOUT: the kernel accepts for it."""
    spare_postgres.start()
    await spare_postgres.ready()
    spare_postgres.tell(signal.SIGSTOP)
    failure = await refused_with(spare_postgres.url, Reason.DB_TIMEOUT)
    assert "accepts connections but never answers" in failure.cause


async def test_a_black_hole(postgres_url: str) -> None:
    """A port whose packets vanish is DB_TIMEOUT, and is told from one that accepts."""
    async with PostgresFaults(postgres_url) as faults:
        await faults.vanish()
        failure = await refused_with(faults.url, Reason.DB_TIMEOUT)
    assert "the packets vanish" in failure.cause


async def test_wrong_password(database_url: str) -> None:
    """A wrong password is DB_AUTH at once, and is never repeated."""
    await refused_with(altered(database_url, password="canary-9d1f"), Reason.DB_AUTH, "28P01", "127.0.0.1", "postgres")


async def test_unknown_role(database_url: str) -> None:
    """An unknown user is DB_AUTH at once."""
    await refused_with(altered(database_url, user="nobody_here"), Reason.DB_AUTH, "nobody_here")


async def test_no_rule_in_pg_hba(spare_postgres: Postgres) -> None:
    """A server whose pg_hba.conf has no entry for us is DB_AUTH at once."""
    rules = spare_postgres.data / "pg_hba.conf"
    rules.write_text("local all all scram-sha-256\n")
    spare_postgres.start()
    await spare_postgres.ready(asyncpg.InvalidAuthorizationSpecificationError)
    await refused_with(spare_postgres.url, Reason.DB_AUTH, "28000", "pg_hba.conf")


async def test_no_such_database(database_url: str) -> None:
    """A database that does not exist is DB_NO_DATABASE at once, with the command that creates it."""
    await refused_with(
        altered(database_url, path="/shop_prod"), Reason.DB_NO_DATABASE, "3D000", "createdb", "shop_prod"
    )


async def test_too_many_connections(database_url: str) -> None:
    """A role at its connection limit is DB_TOO_MANY_CONNECTIONS; it is waited for and passes when one is given back."""
    name = f"limited_{os.getpid()}"
    await execute(database_url, f"CREATE ROLE {name} LOGIN PASSWORD 'canary-77aa' CONNECTION LIMIT 1")
    url = altered(database_url, user=name, password="canary-77aa")
    try:
        held = await asyncpg.connect(url)
        await refused_with(url, Reason.DB_TOO_MANY_CONNECTIONS, "53300", name)
        await held.close()
        assert (await asked(reachable(url))).status is not Status.FAIL
    finally:
        await execute(database_url, f"DROP ROLE {name}")


async def test_still_starting(spare_postgres: Postgres) -> None:
    """A server that does not let anybody in yet is DB_STARTING and is waited for."""
    (spare_postgres.data / "standby.signal").touch()
    spare_postgres.start("hot_standby=off")
    await spare_postgres.ready(asyncpg.CannotConnectNowError)
    await refused_with(spare_postgres.url, Reason.DB_STARTING, "57P03")


async def test_shutting_down(spare_postgres: Postgres) -> None:
    """A server that waits for its last client to leave is DB_STARTING: it is being restarted, perhaps."""
    spare_postgres.start()
    await spare_postgres.ready()
    held = await asyncpg.connect(spare_postgres.url)
    spare_postgres.tell(signal.SIGTERM)
    await spare_postgres.ready(asyncpg.CannotConnectNowError)
    try:
        await refused_with(spare_postgres.url, Reason.DB_STARTING, "57P03", "shutting down")
    finally:
        await held.close()


async def test_a_standby(spare_postgres: Postgres) -> None:
    """A real standby answers SELECT 1 and is DB_READ_ONLY at once all the same."""
    (spare_postgres.data / "standby.signal").touch()
    spare_postgres.start()
    await spare_postgres.ready()
    await refused_with(spare_postgres.url, Reason.DB_READ_ONLY, "a standby")


async def test_set_to_read_only(database_url: str) -> None:
    """A database with default_transaction_read_only is DB_READ_ONLY at once."""
    name = urlsplit(database_url).path[1:]
    await execute(database_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await refused_with(database_url, Reason.DB_READ_ONLY, "transaction_read_only")


async def test_no_right_to_connect(database_url: str) -> None:
    """A user without CONNECT is DB_PERMISSION at once."""
    name, database = f"barred_{os.getpid()}", urlsplit(database_url).path[1:]
    await execute(
        database_url,
        f"CREATE ROLE {name} LOGIN PASSWORD 'canary-31bc'",
        f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC',
    )
    try:
        url = altered(database_url, user=name, password="canary-31bc")
        await refused_with(url, Reason.DB_PERMISSION, "42501", name)
    finally:
        await execute(database_url, f"DROP ROLE {name}")


async def test_our_schema_cannot_be_created(database_url: str) -> None:
    """A database that works, but where our schema may not be made, passes with a warning and the line that helps."""
    name = f"modest_{os.getpid()}"
    await execute(database_url, f"CREATE ROLE {name} LOGIN PASSWORD 'canary-52de'")
    url = altered(database_url, user=name, password="canary-52de")
    try:
        modest = await asked(reachable(url))
        await execute(database_url, "CREATE SCHEMA flawless", f"GRANT CREATE ON SCHEMA flawless TO {name}")
        granted = await asked(reachable(url))
        await execute(database_url, "DROP SCHEMA flawless")
    finally:
        await execute(database_url, f"DROP ROLE {name}")
    assert (modest.status, granted.status) == (Status.WARN, Status.PASS)
    assert modest.to_json()["code"] == "DB_PERMISSION"
    assert "GRANT CREATE ON DATABASE" in modest.to_json()["next_step"]


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
@pytest.mark.parametrize(("words", "trade"), [(HTTP_ANSWER, "a web server"), (SSH_ANSWER, "an SSH server")])
async def test_something_else_answers(postgres_url: str, sslmode: str, words: bytes, trade: str) -> None:
    """What is not PostgreSQL is DB_PROTOCOL at once, and is named, whatever the URL says of TLS."""
    async with PostgresFaults(postgres_url) as faults:
        faults.say(words)
        url = altered(faults.url, query=f"sslmode={sslmode}")
        await refused_with(url, Reason.DB_PROTOCOL, trade, words.split(b"\r")[0].decode())


@pytest.fixture(scope="module")
def tls_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.test"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["postgresql"])
    return context


async def test_tls_demanded(postgres_url: str, tls_context: ssl.SSLContext) -> None:
    """A server that takes only TLS is DB_TLS for a URL without it, and passes with it."""
    async with PostgresFaults(postgres_url) as faults:
        faults.demand_tls(tls_context)
        failure = await refused_with(
            altered(faults.url, query="sslmode=disable"), Reason.DB_TLS, "28000", "sslmode=require"
        )
        assert "demands TLS" in failure.cause
        assert (await asked(reachable(altered(faults.url, query="sslmode=require")))).status is Status.PASS


async def test_tls_refused(database_url: str) -> None:
    """A server without TLS is DB_TLS for a URL that demands it."""
    failure = await refused_with(altered(database_url, query="sslmode=require"), Reason.DB_TLS, "sslmode=disable")
    assert "has none" in failure.cause


async def test_certificate_not_trusted(postgres_url: str, tls_context: ssl.SSLContext, tmp_path: Path) -> None:
    """A certificate that is not trusted is DB_TLS."""
    roots = ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile
    async with PostgresFaults(postgres_url) as faults:
        faults.demand_tls(tls_context)
        url = altered(faults.url, query=f"sslmode=verify-full&sslrootcert={roots}")
        failure = await refused_with(url, Reason.DB_TLS, "certificate")
    assert "not trusted" in failure.cause


async def test_root_certificate_missing(database_url: str, tmp_path: Path) -> None:
    """A certificate file that is not there is DB_TLS, never "the database refuses"."""
    await refused_with(
        altered(database_url, query=f"sslmode=verify-full&sslrootcert={tmp_path}/root.crt"), Reason.DB_TLS, "root.crt"
    )


async def test_a_storm(postgres_url: str) -> None:
    """Connections cut every 100 ms are DB_LOST while it lasts; the gate passes within 2 s of the storm's end."""
    async with PostgresFaults(postgres_url) as faults:
        faults.delay(0.08)  # slow enough that no attempt fits between two cuts
        faults.cut_every(0.1)
        during = await asked(reachable(faults.url), Patience(total=1.0))
        assert during.failure is not None
        assert during.failure.reason is Reason.DB_LOST
        waiting = asyncio.create_task(asked(reachable(faults.url), Patience(total=20)))
        await faults.until(connections=faults.connections + 4)
        faults.relay()
        ended = time.monotonic()
        assert (await waiting).status is Status.PASS
        assert time.monotonic() - ended < 2.0


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Opens files until the system says that there are no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_no_descriptors_left(database_url: str) -> None:
    """Without file descriptors here it is HOST_LIMITS, for an address and for a name: the database is not blamed."""
    by_name = altered(database_url, host="localhost")
    await reachable(by_name).ask(2)
    with no_descriptors():
        outcomes = [await reachable(url).ask(2) for url in (database_url, by_name)]
    for outcome in outcomes:
        assert isinstance(outcome, Failed)
        assert outcome.reason is Reason.HOST_LIMITS
        assert "EMFILE" in outcome.evidence[1]


async def test_a_servers_words_are_data(postgres_url: str) -> None:
    """Control bytes, newlines and the password in a server's message come out harmless, on one line, shortened."""
    password = urlsplit(postgres_url).password
    async with PostgresFaults(postgres_url) as faults:
        faults.reject("53300", f"\x1b[2Jgo\naway {password} <script>" + "x" * 9999)
        failure = await refused_with(faults.url, Reason.DB_TOO_MANY_CONNECTIONS, "<script>", "****")
    assert not any(ord(letter) < 32 for line in failure.evidence for letter in line)
    assert all(len(line) < 400 for line in failure.evidence)


async def test_a_malformed_url() -> None:
    """A URL that is none is ENV_MALFORMED at once, and no part of it is quoted."""
    for url in (
        "prisma+postgres://u:canary@h/d",
        "postgres://u:can/ary@h:1/d",
        "postgres://u:c@n@ry@h/d",
        "postgresql://u:canary@[h/d",
    ):
        failure = (await asked(reachable(url))).failure
        assert failure is not None
        assert failure.reason is Reason.ENV_MALFORMED
        shown = "\n".join((failure.cause, *failure.evidence, *failure.next_steps))
        assert not any(piece in shown for piece in ("can/", "ary", "canary", "c@n"))


async def test_a_far_database_passes(postgres_url: str) -> None:
    """700 ms a round trip pass, with the baseline recorded; above the warning the same is WARN DB_SLOW."""
    async with PostgresFaults(postgres_url) as faults:
        faults.delay(0.7)
        url = Secret(faults.url)
        checks = (DatabaseReachable(url), DatabaseLatency(url, warning=2.0), DatabaseLatency(url, warning=0.5))
        near, patient, strict = await asyncio.gather(*(asked(check, LONG) for check in checks))
    assert (near.status, patient.status, strict.status) == (Status.PASS, Status.PASS, Status.WARN)
    assert isinstance(patient.outcome, Passed)
    latency = patient.outcome.facts["database"]["latency_ms"]
    assert len(latency["samples"]) == 3
    assert all(700 <= sample < 1200 for sample in latency["samples"])
    assert 700 <= latency["average"] < 1200
    assert strict.to_json()["code"] == "DB_SLOW"


async def test_latency_of_a_database_that_is_down() -> None:
    """The latency check fails for the database's own reason, not as slow."""
    finding = await asked(DatabaseLatency(Secret(f"postgresql://u:p@127.0.0.1:{free_port()}/d"), warning=2.0), BRIEF)
    assert finding.failure is not None
    assert finding.failure.reason is Reason.DB_REFUSED


async def test_lost_between_two_pings(postgres_url: str) -> None:
    """A line that falls silent in the middle of the question is DB_TIMEOUT, and is said to have let us in."""
    async with PostgresFaults(postgres_url) as faults:
        faults.delay(0.2)
        finding = await asked(DatabaseLatency(Secret(faults.url), warning=2.0), Patience(total=0.8, attempt=0.8))
    assert finding.failure is not None
    assert finding.failure.reason is Reason.DB_TIMEOUT
    assert "let us in" in finding.failure.cause


async def test_required_tables(database_url: str) -> None:
    """Tables are found by exact name, on the search path or in the schema named; facts say where."""
    await execute(
        database_url,
        "CREATE SCHEMA app",
        "CREATE TABLE users (id int)",
        'CREATE TABLE app."Order.Line" (id int)',
        "CREATE TABLE app.parts (id int) PARTITION BY RANGE (id)",
    )
    names = ("users", "public.users", 'app."Order.Line"', "app.parts")
    finding = await asked(TablesPresent(Secret(database_url), names))
    assert isinstance(finding.outcome, Passed), finding
    assert finding.outcome.facts["database"]["tables"]["users"] == "public.users"
    assert finding.outcome.facts["database"]["tables"]['app."Order.Line"'] == "app.Order.Line"


async def test_a_missing_table_is_named_with_those_alike(database_url: str) -> None:
    """A missing table is DB_TABLE_MISSING at once and names all that miss, and what resembles them."""
    await execute(database_url, "CREATE SCHEMA app", 'CREATE TABLE "User" (id int)', "CREATE TABLE app.orders (id int)")
    finding = await asked(TablesPresent(Secret(database_url), ("user", "orders", "User", "zebra")))
    failure = finding.failure
    assert failure is not None
    assert failure.reason is Reason.DB_TABLE_MISSING
    assert failure.cause == "required tables are missing: user, orders, zebra"
    assert "user: not there; similarly named: public.User" in failure.evidence
    assert "orders: not there; similarly named: app.orders" in failure.evidence
    assert failure.facts["database"]["tables"] == {"user": None, "orders": None, "User": "public.User", "zebra": None}


async def test_prismas_schema_is_where_tables_are_looked_for(database_url: str) -> None:
    """`?schema=app` and Prisma's other words are understood, and none of them stops PostgreSQL from letting us in."""
    await execute(database_url, "CREATE SCHEMA app", "CREATE TABLE app.orders (id int)", "CREATE TABLE users (id int)")
    words = "schema=app&connection_limit=5&pool_timeout=10&pgbouncer=true&connect_timeout=5&channel_binding=prefer"
    url = Secret(altered(database_url, query=words))
    assert (await asked(TablesPresent(url, ("orders",)))).status is Status.PASS
    assert (await asked(TablesPresent(url, ("users",)))).status is Status.FAIL
