"""What every test may ask for."""

from __future__ import annotations

import pytest

from support.postgres import database_url, postgres_template, postgres_url, spare_postgres

__all__ = ["anyio_backend", "database_url", "postgres_template", "postgres_url", "spare_postgres"]


@pytest.fixture
def anyio_backend() -> str:
    """The product speaks asyncio."""
    return "asyncio"
