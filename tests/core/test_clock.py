"""Time as a seam, and the stamps that are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.clock import SystemClock, from_stamp, to_stamp


def test_a_stamp_is_utc_with_milliseconds() -> None:
    """RFC 3339, whatever zone the moment was given in."""
    moment = datetime(2026, 11, 23, 16, 15, 2, 123999, tzinfo=timezone(timedelta(hours=2)))
    assert to_stamp(moment) == "2026-11-23T14:15:02.123Z"


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_a_stamp_is_read_back(moment: datetime) -> None:
    """To the millisecond."""
    assert timedelta() <= moment - from_stamp(to_stamp(moment)) < timedelta(milliseconds=1)


@pytest.mark.anyio
async def test_the_systems_clock_is_the_machines() -> None:
    """UTC, and a monotonic time that passes while one sleeps."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() - before >= 0.001
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.now().tzinfo is UTC
