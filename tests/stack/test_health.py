from __future__ import annotations

import re
import time
from pathlib import Path

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from board_backend.database import Database
from board_backend.recovery import Recovery
from board_backend.services import State

from .conftest import ADMIN_PASSWORD, DEPLOY_ID, backend_client

pytestmark = pytest.mark.anyio

ADMIN = {"X-Admin-Password": ADMIN_PASSWORD, "X-Flawless-Request": "1"}
ROUTES = ["/health/live", "/health/db", "/health/status", "/health/recovery-stats"]


@pytest.mark.parametrize("path", ROUTES)
async def test_every_answer_says_which_deploy_gave_it(api: httpx2.AsyncClient, path: str) -> None:
    """The id stands in the body and in the header."""
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["deployId"]) == (200, DEPLOY_ID)
    assert answer.headers["x-flawless-deploy-id"] == DEPLOY_ID
    assert answer.headers["cache-control"] == "no-store"


async def test_all_is_well(api: httpx2.AsyncClient) -> None:
    """The three probes of the manifest pass on a backend with its database and its folder."""
    assert (await api.get("/health/live")).json()["status"] == "alive"
    assert (await api.get("/health/db")).json()["ready"] is True
    status = (await api.get("/health/status")).json()
    assert (status["ok"], status["status"], status["degradedReasons"]) == (True, "healthy", [])
    assert {name: service["healthy"] for name, service in status["services"].items()} == {"db": True, "storage": True}


@pytest.mark.parametrize(
    ("fixture", "code"), [("dead_url", "DB_REFUSED"), ("silent_url", "DB_TIMEOUT"), ("no_url", "DB_NOT_CONFIGURED")]
)
async def test_a_lost_database_is_said_in_time(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, code: str
) -> None:
    """Live stays 200 and asks nobody; db is 503 and status unhealthy, within the three seconds of a probe."""
    url = "" if fixture == "no_url" else request.getfixturevalue(fixture)
    async with backend_client(url, tmp_path) as api:
        started = time.monotonic()
        assert (await api.get("/health/live")).status_code == 200
        assert time.monotonic() - started < 0.5
        db = await api.get("/health/db")
        assert time.monotonic() - started < 3
        status = (await api.get("/health/status")).json()
    assert (db.status_code, db.json()["ready"]) == (503, False)
    assert db.json()["lastError"].startswith(code)
    assert (status["ok"], status["status"], status["services"]["db"]["healthy"]) == (False, "unhealthy", False)
    assert "canary" not in db.text + str(status)


async def test_a_wrong_password_and_a_missing_database_have_their_codes(database_url: str, tmp_path: Path) -> None:
    """What PostgreSQL itself refuses is told apart."""
    wrong = re.sub(r":[^:@]+@", ":wrong@", database_url)
    for url, code in ((wrong, "DB_AUTH"), (f"{database_url}-none", "DB_NO_DATABASE")):
        async with backend_client(url, tmp_path) as api:
            assert (await api.get("/health/db")).json()["lastError"].startswith(code)


async def test_storage_that_cannot_be_written_is_unhealthy(database_url: str, tmp_path: Path) -> None:
    """Status does not take a folder's word for it: it writes."""
    blocked = tmp_path / "storage"
    blocked.write_text("a file where the folder should be")
    async with backend_client(database_url, blocked) as api:
        status = (await api.get("/health/status")).json()
        recovered = (await api.post("/health/recover", headers=ADMIN)).json()
    assert (status["status"], status["services"]["storage"]["healthy"]) == ("unhealthy", False)
    assert [(result["service"], result["success"]) for result in recovered["results"]] == [("storage", False)]


@pytest.mark.parametrize(
    ("password", "headers", "status"),
    [
        ("", ADMIN, 503),
        ("short", {**ADMIN, "X-Admin-Password": "short"}, 503),
        (ADMIN_PASSWORD, {"X-Flawless-Request": "1"}, 401),
        (ADMIN_PASSWORD, {**ADMIN, "X-Admin-Password": "wrong-horse-battery"}, 401),
        (ADMIN_PASSWORD, {"X-Admin-Password": ADMIN_PASSWORD}, 403),
        (ADMIN_PASSWORD, {**ADMIN, "Origin": "https://elsewhere.example"}, 403),
        (ADMIN_PASSWORD, ADMIN, 200),
    ],
)
async def test_recovery_is_for_the_admin(
    database_url: str, tmp_path: Path, password: str, headers: dict[str, str], status: int
) -> None:
    """Unset or weak: closed. Wrong: 401. Not meant, or from elsewhere: 403."""
    async with backend_client(database_url, tmp_path, password) as api:
        assert (await api.post("/health/recover", headers=headers)).status_code == status


async def test_guessing_is_slowed_down(database_url: str, tmp_path: Path) -> None:
    """After ten wrong passwords in a minute even the right one has to wait, and is told how long."""
    async with backend_client(database_url, tmp_path) as api:
        guesses = [await api.post("/health/recover") for _ in range(10)]
        eleventh = await api.post("/health/recover", headers=ADMIN)
    assert {guess.status_code for guess in guesses} == {401}
    assert eleventh.status_code == 429
    assert 0 < int(eleventh.headers["retry-after"]) <= 61


async def test_a_failed_recovery_is_said_and_remembered(dead_url: str, tmp_path: Path) -> None:
    """`success` is what the database said afterwards; the history survives the process."""
    async with backend_client(dead_url, tmp_path) as api:
        answer = (await api.post("/health/recover", headers=ADMIN)).json()
    assert (answer["attempted"], answer["services"]) == (True, ["db"])
    assert answer["results"][0]["success"] is False
    async with backend_client(dead_url, tmp_path) as reborn:
        kept = (await reborn.get("/health/recovery-stats")).json()
    assert (kept["stats"]["total"], kept["stats"]["failed"], kept["history"]) == (1, 1, answer["results"])
    assert kept["needsRecovery"] == {"needed": True, "services": ["db"]}


class Sick:
    """A service that is well once it has been repaired."""

    error = "SICK: it is not well."

    async def ask(self) -> State:
        return State(0.0, self.error)

    async def repair(self) -> State:
        self.error = ""
        return await self.ask()


async def test_a_recovery_that_helped_is_a_success_once(tmp_path: Path) -> None:
    """What is well is not repaired again."""
    recovery = Recovery({"sick": Sick()}, tmp_path / "recoveries.json")
    assert [attempt["success"] for attempt in await recovery.attempt()] == [True]
    assert await recovery.attempt() == []
    assert recovery.stats()["successRate"] == 1.0


async def test_repairing_the_database_makes_new_connections(database_url: str) -> None:
    """The pool is thrown away, not only asked."""
    database = Database(database_url)

    async def connection() -> int:
        async with database.session() as session:
            pid: int = await session.scalar(text("SELECT pg_backend_pid()"))
            return pid

    before = await connection()
    assert before == await connection()
    assert (await database.repair()).healthy
    assert before != await connection()
    await database.close()


async def test_a_database_that_comes_back_is_used_again_without_help(database_url: str, tmp_path: Path) -> None:
    """Connections that died while idle are replaced unseen."""
    async with backend_client(database_url, tmp_path) as api:
        assert (await api.get("/health/db")).status_code == 200
        other = await asyncpg.connect(database_url)
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'board'")
        await other.close()
        assert (await api.get("/health/db")).status_code == 200
