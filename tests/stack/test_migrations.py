from __future__ import annotations

import asyncio

import asyncpg
import pytest

from board_backend.database import server_settings

from .conftest import alembic

pytestmark = pytest.mark.anyio


def test_the_migrations_make_what_the_models_say(migrated_url: str) -> None:
    """Nothing is left to migrate, and the tables are those of the models."""
    assert alembic(migrated_url, "current", "--check-heads").returncode == 0
    checked = alembic(migrated_url, "check")
    assert checked.returncode == 0, checked.stderr


async def test_the_limits_of_pgoptions_hold(migrated_url: str) -> None:
    """A lock somebody holds ends the migration in time, under the name it was given."""
    holder = await asyncpg.connect(migrated_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE comments")
        ended = await asyncio.to_thread(
            alembic, migrated_url, "downgrade", "b001", PGOPTIONS="-c lock_timeout=100 -c statement_timeout=5000"
        )
    await holder.close()
    assert ended.returncode != 0
    assert "canceling statement due to lock timeout" in ended.stderr
    assert alembic(migrated_url, "current", "--check-heads").returncode == 0


def test_without_an_address_it_says_what_is_missing() -> None:
    """One sentence, no traceback."""
    ended = alembic("", "upgrade", "head")
    assert (ended.returncode, ended.stderr.strip()) == (1, "DB_NOT_CONFIGURED: DATABASE_URL is not set.")


@pytest.mark.parametrize(
    ("pgoptions", "pairs"),
    [
        ("", {}),
        ("-c lock_timeout=1000 -c statement_timeout=2min", {"lock_timeout": "1000", "statement_timeout": "2min"}),
        ("-clock_timeout=5 --search_path=app,public", {"lock_timeout": "5", "search_path": "app,public"}),
    ],
)
def test_pgoptions_are_read_as_libpq_does(pgoptions: str, pairs: dict[str, str]) -> None:
    """Both spellings of a setting."""
    assert pairs == server_settings(pgoptions)
