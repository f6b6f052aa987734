"""What the keeper's tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.keepers import Nursery, nursery_in


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    with nursery_in(tmp_path) as nursery:
        yield nursery
