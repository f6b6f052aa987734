"""What every test may ask for."""

from __future__ import annotations

import signal

import pytest

from support.postgres import database_url, postgres_template, postgres_url, spare_postgres

# A shell's background job begins with SIGINT ignored, and hands that down to every program that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["anyio_backend", "database_url", "postgres_template", "postgres_url", "spare_postgres"]


@pytest.fixture
def anyio_backend() -> str:
    """The product speaks asyncio."""
    return "asyncio"
