"""The database gate and the migrations, through whole deploys (FAILURES 17 to 24)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from flawless.core.clock import from_stamp
from support.killed_deploy import detected
from support.mutants import ASKED_ONCE, NOT_ASKED, failing, failing_with
from support.postgres import Postgres, execute, free_port
from support.postgres_faults import PostgresFaults
from support.stacks import LIMIT, Stack, lives, until
from support.verdicts import assert_failed

# --- the gate ---


def refused(url: str) -> str:
    return replaced(url, port=free_port())


def no_such_database(url: str) -> str:
    return urlsplit(url)._replace(path="/nowhere").geturl()


def wrong_password(url: str) -> str:
    return replaced(url, password="mistyped-secret-92731")


def unknown_host(url: str) -> str:
    return replaced(url, host="db.invalid")


def without_tls(url: str) -> str:
    """It is demanded of a server that has none."""
    return url.replace("sslmode=disable", "sslmode=require")


def read_only(url: str) -> str:
    """As a standby, or a server whose disk is nearly full, is."""
    name = urlsplit(url).path.strip("/")
    asyncio.run(execute(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    return url


GATE: dict[str, tuple[Callable[[str], str], str]] = {
    "DB_REFUSED": (refused, "port"),
    "DB_NO_DATABASE": (no_such_database, "nowhere"),
    "DB_AUTH": (wrong_password, "postgres"),
    "DB_DNS": (unknown_host, "db.invalid"),
    "DB_TLS": (without_tls, "TLS"),
    "DB_READ_ONLY": (read_only, "transaction_read_only"),
}


@pytest.mark.parametrize("code", list(GATE))
def test_when_the_gate_fails_nothing_else_is_started(stack: Stack, database_url: str, code: str) -> None:
    """Exit 1, the code with the thing by name, one CRITICAL incident of category DB; no keeper and no port."""
    change, named = GATE[code]
    url = change(database_url)
    declare(stack, url)
    done = stack.deploy()
    assert done.exit_code == 1, done.output
    report = stack.report()
    failure = report["failure"]
    assert (failure["code"], failure["phase"]) == (code, "DB_VALIDATE")
    named = str(urlsplit(url).port) if named == "port" else named
    assert any(named in line for line in [failure["cause"], *failure["evidence"]]), failure
    check_untouched(stack)
    check_one_incident(stack, code, report)
    assert "mistyped-secret" not in done.output + everything_written(stack)


@pytest.mark.parametrize("fault", ["silence", "vanish"])
def test_a_database_that_never_answers_costs_its_limit_and_nothing_more(
    stack: Stack, database_url: str, fault: str
) -> None:
    """Paused, or a black hole: DB_TIMEOUT within the limit of the gate."""
    with faulty(database_url, fault) as faults:
        declare(stack, faults.url)
        stack.timeouts(database="1.5s")
        done = stack.deploy()
    assert done.exit_code == 1
    report = stack.report()
    assert report["failure"]["code"] == "DB_TIMEOUT"
    [gate] = [phase for phase in report["phases"] if phase["name"] == "DB_VALIDATE"]
    assert gate["duration_ms"] < 3000
    check_untouched(stack)
    check_one_incident(stack, "DB_TIMEOUT", report)


@pytest.mark.parametrize(("fault", "code"), [("crowded", "DB_TOO_MANY_CONNECTIONS"), ("booting", "DB_STARTING")])
def test_a_server_that_lets_nobody_in_yet_is_waited_for_and_then_named(
    stack: Stack, database_url: str, fault: str, code: str
) -> None:
    """It may pass, so it is asked again until the limit; then what the server said is the evidence."""
    with faulty(database_url, fault) as faults:
        declare(stack, faults.url)
        stack.timeouts(database="1s")
        assert stack.deploy().exit_code == 1
    report = stack.report()
    assert report["failure"]["code"] == code
    assert any(REJECTIONS[fault][1] in line for line in report["failure"]["evidence"]), report["failure"]
    assert any(line.startswith("asked ") for line in report["failure"]["evidence"]), report["failure"]
    check_untouched(stack)


def test_the_report_of_a_refused_database_comes_at_once(stack: Stack, database_url: str) -> None:
    """What is spent behind the last attempt is a report's writing, not another wait."""
    declare(stack, refused(database_url))
    stack.timeouts(database="0.5s")
    assert stack.deploy().exit_code == 1
    [failed] = [event for event in stack.journal() if event["event"] == "phase.ended" and event["status"] == "failed"]
    written = from_stamp(stack.report()["finished_at"]) - from_stamp(failed["at"])
    assert written.total_seconds() < 1


def test_a_database_that_comes_up_late_is_waited_for(stack: Stack, spare_postgres: Postgres) -> None:
    """Refused, then still starting, then there: the deploy passes, and the wait is in the report."""
    declare(stack, spare_postgres.url)
    with stack.deploying("-q") as deploy:
        until(lambda: waits(stack), "the gate waits")
        spare_postgres.start()
        assert deploy.wait(30) == 0
    [gate] = [phase for phase in stack.report()["phases"] if phase["name"] == "DB_VALIDATE"]
    assert gate["waited_for"]
    assert stack.is_served("backend")


def test_connections_that_are_cut_for_a_while_pass(stack: Stack, database_url: str) -> None:
    """A storm of cut connections ends, and the deploy is well."""
    with faulty(database_url, "storm") as faults:
        declare(stack, faults.url)
        with stack.deploying("-q") as deploy:
            until(lambda: "DB_VALIDATE" in phases(stack), "the gate asks")
            faults.calm()
            assert deploy.wait(30) == 0


def test_a_far_database_is_slow_and_passes(stack: Stack, database_url: str) -> None:
    """100 ms a round trip (a check is asked at 700): three pings in the report, and a warning, no failure."""
    with faulty(database_url, "far") as faults:
        declare(stack, faults.url)
        stack.manifest["database"]["latency_warning"] = "50ms"
        done = stack.deploy()
    assert done.exit_code == 0, done.output
    report = stack.report()
    assert len(report["database"]["latency_ms"]["samples"]) == 3
    assert report["database"]["latency_ms"]["average"] > 100
    assert "DB_SLOW" in {check["code"] for phase in report["phases"] for check in phase["checks"]}


# --- the embedded database ---


def test_an_embedded_database_that_a_failing_deploy_started_is_stopped_again(stack: Stack) -> None:
    """As before the deploy: nothing of it runs. The next deploy starts it from what is there."""
    declare(stack, "embedded")
    stack.backend("exit=3")
    assert stack.deploy().exit_code == 1
    report = stack.report()
    assert report["failure"]["code"] == "SERVICE_EXITED"
    assert report["embedded_database"] is True
    assert any("embedded database" in action for action in report["rollback"]["actions"])
    assert stack.processes() == []
    assert postmaster(stack) is None
    stack.backend()
    done = stack.deploy()
    assert done.exit_code == 0, done.output
    assert "embedded PostgreSQL" in done.stdout
    assert postmaster(stack) is not None
    before = postmaster(stack)
    stack.backend("exit=3")
    assert stack.deploy().exit_code == 1
    assert postmaster(stack) == before  # it ran before, so it goes on


def test_an_embedded_database_that_dies_during_a_deploy_is_named_as_that(stack: Stack) -> None:
    """Whoever has it has no PostgreSQL and no DATABASE_URL to look after: our own commands help, and they do."""
    declare(stack, "embedded")
    stack.timeouts(backend_ready="20s", database="1s")
    stack.service("backend", ready=[{"exec": ["sh", "-c", "test -e proceed"]}], port=None)
    with stack.deploying() as process:
        until(lambda: waits(stack), "the gate waits for the backend")
        pid = postmaster(stack)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: not lives(pid), "the server is dead")
        (stack.folder / "backend/proceed").touch()
        assert process.wait(LIMIT) == 1
    failure = stack.failure()
    assert failure["code"] == "DB_REFUSED"
    assert failure["cause"].startswith("the embedded database does not run, or has died")
    assert failure["next_steps"][0] == "start it: flawless db start"
    assert not any("DATABASE_URL" in step or "PostgreSQL" in step for step in failure["next_steps"])
    assert stack.run("db", "start").exit_code == 0
    assert stack.deploy().exit_code == 0


def test_a_table_that_the_embedded_database_lacks_is_looked_for_with_our_own_command(stack: Stack) -> None:
    """Nobody knows the password that psql would ask for."""
    declare(stack, "embedded")
    stack.manifest["database"]["tables"] = ["users"]
    report = assert_failed(stack, stack.deploy(), "DB_TABLE_MISSING", "users")
    assert report["failure"]["next_steps"][0] == "see what is there: flawless db psql -c '\\dt *.*'"


# --- migrations ---


def test_a_migration_that_fails_leaves_the_services_alone(stack: Stack, database_url: str) -> None:
    """MIGRATE_FAILED with the tool's own last lines; the release that ran goes on with the same process."""
    declare(stack, database_url)
    assert stack.deploy("-q").exit_code == 0
    before = stack.pids("backend")
    migrations(stack, "execute('ALTER TABLE nowhere ADD COLUMN age int')", "print('002_age')")
    done = stack.deploy()
    assert done.exit_code == 1
    failure = stack.failure()
    assert (failure["code"], failure["phase"]) == ("MIGRATE_FAILED", "MIGRATE_VERIFY")
    assert any('relation "nowhere" does not exist' in line for line in failure["evidence"]), failure
    assert stack.report()["database"]["migrations"]["pending"] == ["002_age"]
    assert stack.pids("backend") == before
    assert stack.is_served("backend")
    check_one_incident(stack, "MIGRATE_FAILED", stack.report())


def test_what_a_migration_applies_is_in_the_report_and_not_applied_again(stack: Stack, database_url: str) -> None:
    """Applied once; the second deploy finds nothing pending and restarts nothing."""
    declare(stack, database_url)
    pending = "execute(\"SELECT '001_users' WHERE to_regclass('users') IS NULL\")"
    migrations(stack, "execute('CREATE TABLE users (id int)')", pending)
    stack.manifest["database"]["tables"] = ["users"]
    assert stack.deploy("-q").exit_code == 0
    assert stack.report()["database"]["migrations"] == {"applied": ["001_users"], "pending": []}
    before = stack.pids("backend")
    assert stack.deploy("-q").exit_code == 0
    assert stack.report()["database"]["migrations"] == {"applied": [], "pending": []}
    assert stack.pids("backend") == before


def test_a_table_that_is_not_there_after_the_migrations_is_named(stack: Stack, database_url: str) -> None:
    """DB_TABLE_MISSING, and which; the one that is there is not named."""
    asyncio.run(execute(database_url, "CREATE TABLE users (id int)"))
    declare(stack, database_url)
    stack.manifest["database"]["tables"] = ["users", "invoices"]
    assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert (failure["code"], failure["phase"]) == ("DB_TABLE_MISSING", "MIGRATE_VERIFY")
    said = " ".join([failure["cause"], *failure["evidence"]])
    assert "invoices" in said
    check_untouched(stack)


def test_who_holds_the_migration_lock_is_named(stack: Stack, database_url: str) -> None:
    """MIGRATE_LOCKED with the holder's pid, application and age; services are not touched."""
    from flawless.adapters.migrations.session import LOCK_KEY

    declare(stack, database_url)
    migrations(stack, "execute('SELECT 1')", "print('001_users')")
    stack.timeouts(migrate="2s")
    with holding(database_url, f"SELECT pg_advisory_lock({LOCK_KEY})") as pid:
        assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert failure["code"] == "MIGRATE_LOCKED"
    said = " ".join([failure["cause"], *failure["evidence"], *failure["next_steps"]])
    assert str(pid) in said
    assert "night-batch" in said
    check_untouched(stack)


def test_a_lock_that_keeps_the_tool_waiting_is_named(stack: Stack, database_url: str) -> None:
    """MIGRATE_LOCKED with who holds the table; no statement of the tool queues for longer than lock_timeout."""
    asyncio.run(execute(database_url, "CREATE TABLE users (id int)"))
    declare(stack, database_url)
    migrations(stack, "execute('ALTER TABLE users ADD COLUMN age int')", "print('001_age')")
    stack.timeouts(migrate="8s")
    with holding(database_url, "BEGIN; LOCK TABLE users") as pid:
        assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert failure["code"] == "MIGRATE_LOCKED"
    said = " ".join([failure["cause"], *failure["evidence"], *failure["next_steps"]])
    assert str(pid) in said
    assert "night-batch" in said
    assert "LOCK TABLE users" in said
    check_untouched(stack)


def test_a_migration_tool_that_hangs_is_ended_as_a_tree(stack: Stack, database_url: str) -> None:
    """MIGRATE_TIMEOUT; the tool ignored SIGTERM and had a child in a session of its own, and both are gone."""
    declare(stack, database_url)
    child = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    hang = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"print('child', subprocess.Popen({child}, start_new_session=True).pid, flush=True)\n"
        "time.sleep(600)"
    )
    migrations(stack, hang, "print('001_users')")
    stack.timeouts(migrate="4s")  # on a busy machine a Python needs a second or two to print its first line
    before = time.monotonic()
    assert stack.deploy().exit_code == 1
    assert time.monotonic() - before < 30
    failure = stack.failure()
    assert failure["code"] == "MIGRATE_TIMEOUT"
    [line] = [line for line in failure["evidence"] if "child " in line]
    assert not psutil.pid_exists(int(line.rpartition("child ")[2].split()[0]))
    assert stack.processes() == []
    check_untouched(stack)


def test_a_half_applied_migration_is_dirty(stack: Stack, database_url: str) -> None:
    """MIGRATE_DIRTY: what is there of it is named, and the deploy that began it."""
    declare(stack, database_url)
    half = "execute('CREATE TABLE halves (id int)')\nexecute('ALTER TABLE nowhere ADD COLUMN age int')"
    migrations(stack, half, "print('001_halves')")
    for _ in range(2):  # the second time the table is in the tool's own way
        assert stack.deploy().exit_code == 1
        failure = stack.failure()
        assert failure["code"] == "MIGRATE_DIRTY"
        assert "table public.halves is there, and was not before" in failure["evidence"]
        assert "still pending: 001_halves" in failure["evidence"]
    check_untouched(stack)


def test_a_database_that_newer_code_has_migrated_has_drifted(stack: Stack, database_url: str) -> None:
    """MIGRATE_DRIFT: the revision that no file here has, and how to find the branch that has it."""
    asyncio.run(
        execute(
            database_url,
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('f00dfeed')",
        )
    )
    declare(stack, database_url)
    (stack.folder / "migrations/versions").mkdir(parents=True)
    (stack.folder / "migrations/env.py").touch()
    (stack.folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    stack.manifest["database"]["migrate"] = {"tool": "alembic", "directory": "."}
    assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert failure["code"] == "MIGRATE_DRIFT"
    assert any("f00dfeed" in line for line in failure["evidence"])
    assert any("f00dfeed" in step for step in failure["next_steps"])
    check_untouched(stack)


def test_a_migration_tool_that_is_not_supported_yet_is_said_so(stack: Stack, database_url: str) -> None:
    """Never silently skipped: SKIP with the reason, exit 2, and the release serves."""
    declare(stack, database_url)
    stack.manifest["database"]["migrate"] = {"tool": "prisma", "directory": "."}
    done = stack.deploy()
    assert done.exit_code == 2, done.output
    check_partial(stack, {"migrations.applied:prisma"})
    assert "prisma" in done.stdout


# --- what is declared and not supported yet ---


def test_what_is_declared_and_not_supported_yet_makes_the_deploy_partial(stack: Stack) -> None:
    """Metrics and notifications: SKIP with the reason, exit 2, and the release serves; what is disabled is said."""
    stack.backend()
    stack.manifest["metrics"] = {"listen": f"127.0.0.1:{stack.port('metrics')}"}
    stack.manifest["notify"] = {"urls": ["json://127.0.0.1"]}
    stack.manifest["external"] = {
        "openai": {"enabled": False, "reason": "not bought yet", "key": "x"},
    }
    done = stack.deploy()
    assert done.exit_code == 2, done.output
    check_partial(stack, {"notify.sent", "metrics.served"})
    skips = {check["id"]: check["evidence"] for check in skipped(stack)}
    assert any("not bought yet" in line for line in skips["external.openai"])
    assert stack.is_served("backend")


# --- without the check ---


def forgetting(table: str, key: str) -> str:
    """A classification that does not know one cause."""
    return f"import errno\nfrom flawless.database import failure\ndel failure.{table}[{key}]"


NO_LOOKUP = """
from types import SimpleNamespace
from flawless.database import failure
failure.socket = SimpleNamespace(gaierror=type("Never", (Exception,), {}))
"""
NO_UPGRADE = """
from flawless.core.reason import Reason
from flawless.database import failure
failure._reason_of_upgrade = lambda *given: Reason.DB_LOST
"""
NOT_ASKED_TO_WRITE = """
from flawless.checks import database
asked = database.DatabaseReachable._judged
writable = {"in_recovery": False, "read_only": False}
database.DatabaseReachable._judged = lambda self, target, server: asked(self, target, server | writable)
"""
GATE_WITHOUT: dict[str, tuple[str, str]] = {
    "DB_REFUSED": (forgetting("BY_ERRNO", "errno.ECONNREFUSED"), "'DB_ERROR' != 'DB_REFUSED'"),
    "DB_NO_DATABASE": (forgetting("BY_STATE", "'3D000'"), "'DB_ERROR' != 'DB_NO_DATABASE'"),
    "DB_AUTH": (forgetting("BY_STATE", "'28P01'"), "'DB_ERROR' != 'DB_AUTH'"),
    "DB_DNS": (NO_LOOKUP, "'DB_ERROR' != 'DB_DNS'"),
    "DB_TLS": (NO_UPGRADE, "'DB_LOST' != 'DB_TLS'"),
    "DB_READ_ONLY": (NOT_ASKED_TO_WRITE, "'MIGRATE_VERIFY' != 'DB_VALIDATE'"),
}


@pytest.mark.parametrize("code", list(GATE))
def test_without_its_line_a_cause_would_be_named_otherwise(stack: Stack, database_url: str, code: str) -> None:
    stack.environment["FLAWLESS_TIMEOUT_DATABASE"] = "1s"
    mutation, told = GATE_WITHOUT[code]
    with failing(stack, mutation, told=told):
        test_when_the_gate_fails_nothing_else_is_started(stack, database_url, code)


NO_TIMEOUT = """
from flawless.core.reason import Reason
named = failure._reason_of_system
failure._reason_of_system = lambda error, *rest: (
    Reason.DB_LOST if isinstance(error, TimeoutError) else named(error, *rest)
)
"""
NO_GATE = """
from flawless.core.check import Passed
from flawless.deploy.steps import database
async def run(self, run): return Passed()
database.ValidateDatabase.run = database.VerifyMigrations.run = run
"""
PATIENT = """
from flawless.core import gate
left = gate._Gate._remaining
gate._Gate._remaining = lambda self: left(self) + 3
"""
HASTY = """
from flawless.core.gate import Patience
from flawless.deploy.steps import database
database.Patience = lambda total, attempt: Patience(1.0, attempt=0.3)
"""
FAST_ENOUGH = "from flawless.checks import database\ndatabase.Concern = lambda *given: None"
NEVER_UNDONE = """
from flawless.deploy.rollback import UndoStack
push = UndoStack.push
UndoStack.push = lambda self, sentence, action: "embedded" in sentence or push(self, sentence, action)
"""


@pytest.mark.parametrize(
    ("fault", "code", "state"),
    [("crowded", "DB_TOO_MANY_CONNECTIONS", "53300"), ("booting", "DB_STARTING", "57P03")],
)
def test_without_its_line_what_a_server_says_would_be_any_error(
    stack: Stack, database_url: str, fault: str, code: str, state: str
) -> None:
    with failing(stack, forgetting("BY_STATE", f"'{state}'"), told=f"'DB_ERROR' == '{code}'"):
        test_a_server_that_lets_nobody_in_yet_is_waited_for_and_then_named(stack, database_url, fault, code)


def test_without_the_gate_the_services_would_be_started(stack: Stack, database_url: str) -> None:
    with failing(stack, NO_GATE, told="'SUCCESS' != 'DB_VALIDATE'"):
        test_when_the_gate_fails_nothing_else_is_started(stack, database_url, "DB_REFUSED")


@pytest.mark.parametrize(
    ("mutation", "told"),
    [(PATIENT, "< 3000"), (forgetting("BY_STATE", "'57014'") + NO_TIMEOUT, "'DB_LOST' == 'DB_TIMEOUT'")],
)
def test_without_its_deadline_the_gate_would_wait_longer_and_not_say_why(
    stack: Stack, database_url: str, mutation: str, told: str
) -> None:
    with failing(stack, mutation, told=told):
        test_a_database_that_never_answers_costs_its_limit_and_nothing_more(stack, database_url, "silence")


def test_without_the_wait_a_database_that_comes_up_late_would_fail_the_deploy(
    stack: Stack, spare_postgres: Postgres
) -> None:
    with failing(stack, ASKED_ONCE, told="1 == 0"):
        test_a_database_that_comes_up_late_is_waited_for(stack, spare_postgres)


def test_without_the_wait_cut_connections_would_fail_the_deploy(stack: Stack, database_url: str) -> None:
    with failing(stack, ASKED_ONCE, told="1 == 0"):
        test_connections_that_are_cut_for_a_while_pass(stack, database_url)


@pytest.mark.parametrize(("mutation", "told"), [(HASTY, "DB_TIMEOUT"), (FAST_ENOUGH, "'DB_SLOW' in")])
def test_without_its_patience_a_far_database_would_not_pass_and_without_its_limit_not_be_told(
    stack: Stack, database_url: str, mutation: str, told: str
) -> None:
    with failing(stack, mutation, told=told):
        test_a_far_database_is_slow_and_passes(stack, database_url)


def test_without_its_undo_the_embedded_database_would_go_on(stack: Stack) -> None:
    with failing(stack, NEVER_UNDONE, told="assert False"):
        test_an_embedded_database_that_a_failing_deploy_started_is_stopped_again(stack)


TRUSTING = """
from flawless.adapters.migrations import migrator
from flawless.core.check import Passed
from flawless.core.migration import Applied
async def ask(self, limit): return Passed()
async def verified(self, session, before, attempt, record): return Applied(before.pending, 1, 0.0)
migrator._ToolSucceeds.ask, migrator._Run._verified = ask, verified
"""
UNLOCKED = """
from flawless.adapters.migrations.session import Session
async def try_lock(self): return True
Session.try_lock = try_lock
"""
UNWATCHED = """
from flawless.adapters.migrations import migrator
from flawless.adapters.migrations.watch import Watch
async def look(self): return None
Watch.look, migrator._LOCK_WORDS = look, ()
"""
NAMELESS = """
from flawless.adapters.migrations.session import Session
async def lock_holders(self): return ()
Session.lock_holders = lock_holders
"""
NO_BASELINE = "from flawless.adapters.migrations.record import Attempt\nAttempt.left_behind = lambda self, now: ()"
ANY_REVISION = "from flawless.adapters.migrations.revisions import Revisions\nRevisions.unknown = lambda *given: ()"
NO_TABLES = NOT_ASKED.format("database", "TablesPresent")

MIGRATIONS_WITHOUT: dict[str, tuple[Callable[[Stack, str], None], str, str]] = {
    "a look behind the tool": (test_a_migration_that_fails_leaves_the_services_alone, TRUSTING, "0 == 1"),
    "the lock": (test_who_holds_the_migration_lock_is_named, UNLOCKED, "'MIGRATE_LOCKED'"),
    "the watch": (test_a_lock_that_keeps_the_tool_waiting_is_named, UNWATCHED, "'MIGRATE_LOCKED'"),
    "the holder": (test_who_holds_the_migration_lock_is_named, NAMELESS, "the holder was gone"),
    "the required tables": (test_a_table_that_is_not_there_after_the_migrations_is_named, NO_TABLES, "0 == 1"),
    "what was there before": (
        test_a_half_applied_migration_is_dirty,
        NO_BASELINE,
        "'MIGRATE_FAILED' == 'MIGRATE_DIRTY'",
    ),
    "the known revisions": (test_a_database_that_newer_code_has_migrated_has_drifted, ANY_REVISION, "0 == 1"),
}


@pytest.mark.parametrize("check", list(MIGRATIONS_WITHOUT))
def test_without_it_the_migrations_would_be_judged_otherwise(stack: Stack, database_url: str, check: str) -> None:
    scenario, mutation, told = MIGRATIONS_WITHOUT[check]
    with failing(stack, mutation, told=told):
        scenario(stack, database_url)


def test_without_the_guard_s_last_word_a_hanging_tool_would_leave_its_child(stack: Stack, database_url: str) -> None:
    """The child ignores SIGTERM too, as it inherits that: the run of the tool never ends."""
    kill = ("        self._signal_all_until(signal.SIGKILL, KILL_PATIENCE)\n", "")
    with failing_with(
        stack, "adapters/guard.py", kill, told="'DEPLOY_CHECK_HUNG' == 'MIGRATE_TIMEOUT'|assert not True"
    ):
        test_a_migration_tool_that_hangs_is_ended_as_a_tree(stack, database_url)


# --- how it is made, and how it is looked at ---


def declare(stack: Stack, url: str) -> None:
    """A backend behind that database."""
    stack.backend()
    stack.timeouts(database="1.5s" if "invalid" in url else "8s")
    if url == "embedded":
        stack.manifest["database"] = {"url": "embedded"}
        stack.timeouts(database="20s")
        return
    stack.environment["DATABASE_URL"] = url
    stack.manifest["database"] = {"url": "${DATABASE_URL:?}"}


def migrations(stack: Stack, apply: str, pending: str) -> None:
    """A migration tool of one's own: two scripts that have `execute(*statements)`."""
    words = {}
    for name, body in (("apply", apply), ("pending", pending)):
        file = stack.folder / f"{name}.py"
        file.write_text(
            "import asyncio, asyncpg, os, signal, subprocess, sys, time\n"
            "def execute(*statements):\n"
            "    async def run():\n"
            "        connection = await asyncpg.connect(os.environ['DATABASE_URL'])\n"
            "        for statement in statements:\n"
            "            print(*[row[0] for row in await connection.fetch(statement)], sep='\\n', end='')\n"
            "        await connection.close()\n"
            "    asyncio.run(run())\n" + body
        )
        words[name] = [sys.executable, str(file)]
    stack.manifest["database"]["migrate"] = {"tool": "command", "directory": ".", **words}


def replaced(url: str, *, host: str | None = None, port: int | None = None, password: str | None = None) -> str:
    parts = urlsplit(url)
    login = f"{parts.username}:{password or parts.password}"
    return parts._replace(netloc=f"{login}@{host or parts.hostname}:{port or parts.port}").geturl()


REJECTIONS = {
    "crowded": ("53300", "sorry, too many clients already"),
    "booting": ("57P03", "the database system is starting up"),
}


class Faults:
    """A `PostgresFaults` that lives in a thread of its own, beside a deploy."""

    def __init__(self, upstream: str, fault: str) -> None:
        self.url = ""
        self._upstream = upstream
        self._fault = fault
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._calm = asyncio.Event()
        self.thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self.thread.start()
        assert self._ready.wait(10)

    def calm(self) -> None:
        self._loop.call_soon_threadsafe(self._calm.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._calm.set)
        self._loop.call_soon_threadsafe(self._end.set)
        self.thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with PostgresFaults(self._upstream) as faults:
            match self._fault:
                case "silence":
                    faults.silence()
                case "vanish":
                    await faults.vanish()
                case "storm":
                    faults.cut_every(0.002)  # no login is so quick
                case "far":
                    faults.delay(0.1)
                case rejection:
                    faults.reject(*REJECTIONS[rejection])
            self.url = faults.url
            self._ready.set()
            await self._calm.wait()
            faults.relay()
            await self._end.wait()


@contextmanager
def faulty(upstream: str, fault: str) -> Iterator[Faults]:
    faults = Faults(upstream, fault)
    faults.start()
    try:
        yield faults
    finally:
        faults.stop()


@contextmanager
def holding(url: str, statement: str) -> Iterator[int]:
    """A session called night-batch that has run this statement and stays; its pid on the server."""
    loop = asyncio.new_event_loop()

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(url, server_settings={"application_name": "night-batch"})
        await connection.execute(statement)
        return connection

    connection = loop.run_until_complete(connect())
    try:
        yield connection.get_server_pid()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def check_untouched(stack: Stack) -> None:
    """No keeper was started, and no port is served."""
    assert stack.record("backend") is None
    assert not stack.is_served("backend")
    assert stack.processes() == []


def check_one_incident(stack: Stack, code: str, report: dict[str, Any]) -> None:
    """One, CRITICAL, of category DB, with the deploy's id; the report names it."""
    found = [record["opening"] for record in detected(stack) if record["opening"]["details"]["code"] == code]
    if not found:  # the database was there to take it
        listed = stack.incidents()
        found = [one for one in listed if one["id"] == report["incident_id"]]
    assert len(found) == 1, found
    assert found[0]["severity"] == "CRITICAL"
    assert found[0]["category"] == "DB"
    assert found[0]["deploy_id"] == report["deploy_id"]
    assert report["incident_id"] is not None


def check_partial(stack: Stack, ids: set[str]) -> None:
    report = stack.report()
    assert (report["result"], report["exit_code"]) == ("partial", 2)
    declared = {check["id"] for check in skipped(stack) if "not supported" in " ".join(check["evidence"])}
    assert declared == ids
    assert stack.is_served("backend")


def skipped(stack: Stack) -> list[dict[str, Any]]:
    return [check for phase in stack.report()["phases"] for check in phase["checks"] if check["status"] == "SKIP"]


def phases(stack: Stack) -> list[str]:
    journals = list((stack.folder / ".flawless/journal").glob("*.jsonl"))
    if not journals or b"\n" not in journals[0].read_bytes():
        return []
    return [event["phase"] for event in stack.journal() if event["event"] == "phase.started"]


def waits(stack: Stack) -> bool:
    """Some gate has told that it waits."""
    return bool(phases(stack)) and any(event["event"] == "gate.waiting" for event in stack.journal())


def postmaster(stack: Stack) -> int | None:
    """The embedded server's pid; its data lies elsewhere where root may not run it."""
    folder = stack.folder / ".flawless/postgres"
    [state] = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    file = folder / state["data_directory"] / "postmaster.pid"
    return int(file.read_text().split()[0]) if file.exists() else None


def everything_written(stack: Stack) -> str:
    folders = [stack.folder / ".flawless", stack.folder / "logs"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_text(errors="replace") for path in files)
