"""What every test may ask for."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from support.postgres import database_url, postgres_template, postgres_url, spare_postgres

# A shell's background job begins with SIGINT ignored, and hands that down to every program that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# So does SIGHUP under nohup. A handler keeps the tests themselves alive, and is no longer there in what they start.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)

__all__ = ["anyio_backend", "database_url", "postgres_template", "postgres_url", "spare_postgres"]

# How long an example takes says how busy the machine is, and nothing of the product.
settings.register_profile("flawless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flawless")


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "rounds of the race for one restart of the tunnel (tests/scenarios/test_tunnel_race.py)"
    parser.addoption("--race-rounds", type=int, default=2, metavar="N", help=told)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: most tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def anyio_backend() -> str:
    """The product speaks asyncio."""
    return "asyncio"
