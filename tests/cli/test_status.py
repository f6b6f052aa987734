"""flawless status tells what runs, from what is written down; on a real keeper, a real process, real files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.conftest import Say
from flawless.adapters import desired
from flawless.adapters.archive import Archive
from flawless.adapters.keeper import record
from flawless.adapters.keeper.record import Record
from flawless.adapters.locks import DeployLock
from flawless.adapters.services import KeptService
from flawless.cli.ago import for_long
from flawless.core.clock import to_stamp
from flawless.core.event import PhaseStarted, RunStarted, Stamped
from flawless.core.service import Launch
from flawless.deploy.journal import to_line
from support.histories import FAILING, GOOD
from support.postgres import free_port
from support.reports import archived

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = """
name = "shop"
[services.backend]
role = "backend"
command = ["python3", "-m", "http.server"]
port = {port}
"""
SERVER = "import http.server, os; http.server.test(port=int(os.environ['PORT']), bind='127.0.0.1')"
DEPLOY = "20261123T141502Z-3f9c2a"


@pytest.fixture
def port(project: Path) -> int:
    port = free_port()
    (project / "flawless.toml").write_text(MANIFEST.format(port=port))
    return port


def launch(project: Path, port: int) -> Launch:
    return Launch(
        name="backend",
        command=(sys.executable, "-I", "-S", "-c", SERVER),
        directory=project,
        environment={"PATH": os.environ["PATH"], "PORT": str(port)},
        secrets=(),
        port=port,
        deploy_id=DEPLOY,
        fingerprint={"command": "a"},
        stop_timeout=2.0,
        delays=(0.0,),
        limit=5,
        within=300.0,
        forget=600.0,
        log_max_size=10_000_000,
        log_keep_days=7,
    )


@contextmanager
def kept(project: Path, port: int, *, ready: bool = True) -> Iterator[KeptService]:
    """A service in the hands of a real keeper; nothing of it is left afterwards."""
    keeper = KeptService("backend", project / ".flawless/run/backend", project / "logs/services")

    async def start() -> None:
        await keeper.start(launch(project, port))
        if ready:
            await keeper.mark(ready=True)
            await keeper.commit()

    try:
        asyncio.run(start())
        yield keeper
    finally:
        asyncio.run(keeper.stop())


def wanted(project: Path) -> None:
    desired.write(project / ".flawless", desired.Desired(DEPLOY, to_stamp(datetime.now(UTC)), None, ["backend"]))


def left_behind(project: Path) -> None:
    """The journal of a run that was killed in its first phase."""
    file = Archive(project / ".flawless", project / "logs", "shop").open_journal(DEPLOY)
    moment = to_stamp(datetime.now(UTC))
    versions = {"flawless": "0.1.0", "python": "3.11.2", "os": "Linux"}
    for event in (RunStarted(DEPLOY, "shop", None, versions, 1, False), PhaseStarted("PRECHECK")):
        file.append(to_line(Stamped(moment, 0.0, event)), sync=False)
    file.close()


def test_a_ready_service_makes_the_stack_healthy(flawless: Say, project: Path, port: int) -> None:
    """Exit code 0, the document of the contract, and the pid of the process that runs."""
    wanted(project)
    with kept(project, port) as keeper:
        running = keeper.recorded()
        assert running is not None
        said = flawless("status", "--json")
        text = flawless("status")
    assert said.exit_code == 0
    assert said.document == {
        "schema_version": 1,
        "name": "shop",
        "environment": None,
        "deploy_id": DEPLOY,
        "state": "healthy",
        "supervisor": None,
        "services": [
            {
                "name": "backend",
                "role": "backend",
                "state": "ready",
                "pid": running.pid,
                "port": port,
                "since": running.since,
                "ready": True,
                "restarts": 0,
                "last_exit": None,
            }
        ],
        "database": {"ready": None, "latency_ms": None, "embedded": False},
        "tunnel": {"verdict": None, "code": None, "at": None},
        "incidents": {"open": 0, "critical": 0},
    }
    assert (text.exit_code, text.err) == (0, "")
    assert "shop is healthy" in text.out
    assert "nobody now: ready is what the last deploy or start found" in " ".join(text.out.split())
    assert f"pid {running.pid}" in text.out
    assert "next:" not in text.out


def test_a_service_that_is_not_ready_degrades_the_stack(flawless: Say, project: Path, port: int) -> None:
    """Running is not ready: exit code 2, and what to look at."""
    with kept(project, port, ready=False):
        said = flawless("status")
    assert said.exit_code == 2
    assert "shop is degraded" in said.out
    assert "next: see what backend printed: flawless logs backend" in said.out


def test_a_stack_that_should_run_and_does_not_is_down(flawless: Say, project: Path, port: int) -> None:
    """What the last good deploy left running and is gone is down, not merely stopped; its last exit is told."""
    wanted(project)
    with kept(project, port, ready=False) as keeper:
        running = keeper.recorded()
        assert running is not None
        assert running.pid is not None
        os.kill(running.pid, signal.SIGKILL)
        asyncio.run(asyncio.wait_for(keeper.exited(), 10))
        said, document = flawless("status"), flawless("status", "--json").document
    assert (said.exit_code, document["state"]) == (3, "down")
    assert document["services"][0]["last_exit"]["signal"] == 9
    assert "last exit: signal 9" in said.out


def test_a_stop_that_was_asked_for_is_no_accident(flawless: Say, project: Path, port: int) -> None:
    """A service that was stopped by an order is stopped, and nothing more is said of how it ended."""
    with kept(project, port):
        pass
    said = flawless("status")
    assert said.exit_code == 3
    assert "last exit" not in said.out


def test_what_was_never_started_is_not_running(flawless: Say, port: int) -> None:
    """Exit code 3, and the command that brings it up."""
    said = flawless("status")
    assert said.exit_code == 3
    assert "shop is not running" in said.out
    assert "next: bring it up: flawless deploy" in said.out
    assert flawless("status", "--json").document["state"] == "not_running"


def test_a_record_that_cannot_be_read_is_unknown(flawless: Say, project: Path, port: int) -> None:
    """A torn record is never taken for a stopped service, nor for a running one."""
    folder = project / ".flawless/run/backend"
    folder.mkdir(parents=True)
    (folder / record.FILE).write_text('{"service": "back')
    said = flawless("status")
    assert said.exit_code == 4
    assert "its record cannot be read" in said.out


def test_a_service_the_manifest_no_longer_names_is_shown(flawless: Say, project: Path, port: int) -> None:
    """What still runs is seen, declared or not."""
    with kept(project, port):
        (project / "flawless.toml").write_text('name = "shop"\n')
        said = flawless("status")
    assert "no longer in the manifest" in said.out


def test_a_process_that_is_dead_is_not_said_to_run(flawless: Say, project: Path, port: int) -> None:
    """A record alone is no proof: after a power cut its processes are gone, and so it is told."""
    folder = project / ".flawless/run/backend"
    with kept(project, port):
        left = record.read(folder)
    assert left is not None
    gone = left.keeper._replace(start_time=left.keeper.start_time + 1)
    record.write(str(folder), Record(**left._asdict() | {"keeper": gone, "child": gone, "state": record.State.READY}))
    document = flawless("status", "--json").document
    assert (document["services"][0]["state"], document["services"][0]["pid"]) == ("stopped", None)


def test_the_last_deploy_and_its_failure_are_told(flawless: Say, project: Path, port: int) -> None:
    """Result, how long ago, and the cause; the latency is that of the report."""
    archived(project, GOOD, "20261123T140000Z-aaaaaa", 1)
    archived(project, FAILING, "20261123T140200Z-bbbbbb", 2)
    said = flawless("status")
    assert "failure" in said.out
    assert "(20261123T140200Z-bbbbbb): SERVICE_EXITED, backend exited with status 1" in " ".join(said.out.split())
    assert flawless("status", "--json").document["database"]["latency_ms"] == 1.23


def test_a_deploy_that_runs_now_is_named(flawless: Say, project: Path, port: int) -> None:
    """Who holds the lock is shown, and waiting for it is the next step."""
    with DeployLock(project / ".flawless/lock").held("flawless deploy", datetime.now(UTC)):
        said = flawless("status")
    assert f"pid {os.getpid()}" in said.out
    assert "flawless lock status" in said.out


def test_a_run_that_was_killed_is_mentioned(flawless: Say, project: Path, port: int) -> None:
    """A journal without its end is a run nobody has told of yet: its report is written, and status tells of it."""
    left_behind(project)
    assert f"aborted 0 s ago ({DEPLOY}): DEPLOY_KILLED" in flawless("status").out


def test_a_killed_run_that_cannot_be_settled_is_mentioned_too(flawless: Say, project: Path, port: int) -> None:
    """While the manifest is being edited no report can be written; the run is not passed over in silence."""
    left_behind(project)
    with (project / "flawless.toml").open("a") as file:
        file.write("colour = 'red'\n")
    assert f"deploy {DEPLOY} was killed before its end" in flawless("status").out


def test_an_environment_has_a_state_of_its_own(flawless: Say, project: Path, port: int) -> None:
    """What runs in one environment does not count in another."""
    (project / "flawless.staging.toml").write_text("")
    with kept(project, port):
        document = flawless("status", "-e", "staging", "--json").document
    assert (document["environment"], document["state"]) == ("staging", "not_running")


def test_the_embedded_database_is_part_of_the_picture(flawless: Say, project: Path) -> None:
    """An embedded server that does not run is told without asking it."""
    (project / "flawless.toml").write_text('name = "shop"\n[database]\nurl = "embedded"\n')
    said = flawless("status")
    assert "embedded PostgreSQL" in said.out
    assert flawless("status", "--json").document["database"] == {"ready": False, "latency_ms": None, "embedded": True}


def test_a_name_with_a_variable_is_resolved(flawless: Say, project: Path) -> None:
    """Where the text of the manifest alone does not say it, the whole manifest is read."""
    (project / "flawless.toml").write_text('name = "${SHOP_NAME:-corner}"\n')
    assert flawless("status", "--json").document["name"] == "corner"


def test_outside_of_a_project_the_next_step_is_init(flawless: Say) -> None:
    """Exit code 78 and the command that writes a manifest."""
    said = flawless("status")
    assert said.exit_code == 78
    assert "next: write one: flawless init" in said.err


def test_status_and_help_are_quick(project: Path, port: int) -> None:
    """Nothing heavy is imported on the way: neither what a deploy needs, nor what draws a terminal."""
    heavy = ("pydantic", "rich", "sqlalchemy", "asyncpg", "alembic", "httpx2")
    code = f"import sys; from flawless.cli.main import run; run(['status']); print(*set({heavy}) & set(sys.modules))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86400, "1 day"), (200000, "2 days")]
)
def test_how_long_ago_is_said_in_one_unit(seconds: int, said: str) -> None:
    """The unit a person would use; a clock that was set back makes nothing negative."""
    now = time.time()
    since = to_stamp(datetime.fromtimestamp(now - seconds, UTC))
    assert for_long(since, datetime.fromtimestamp(now + 0.01, UTC)) == said
    assert for_long(to_stamp(datetime.fromtimestamp(now + 60, UTC)), datetime.fromtimestamp(now, UTC)) == "0 s"


def test_the_command_itself_answers(project: Path, port: int) -> None:
    """The installed command, not only its function: one document on standard output, the exit code of the contract."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "LANG": "C"}
    argv = [sys.executable, "-m", "flawless", "status", "--json"]
    done = subprocess.run(argv, capture_output=True, env=environment, cwd=project, check=False)
    assert (done.returncode, done.stderr) == (3, b"")
    assert json.loads(done.stdout)["state"] == "not_running"
