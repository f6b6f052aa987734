"""The far ends of a tunnel, and an origin behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.edge import Edge, edge
from support.http_faults import Faults, faulty
from support.tunnels import HOSTNAME


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Edge]:
    """An edge of which no thread is left afterwards."""
    with edge(tmp_path, HOSTNAME) as one:
        yield one
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("listener")]


@pytest.fixture
def origin() -> Iterator[Faults]:
    with faulty() as one:
        yield one
