"""Identifiers that sort by time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from flawless.core.ids import deploy_id, report_stamp, uuid7

MOMENT = datetime(2026, 11, 23, 14, 15, 2, 123456, tzinfo=UTC)
MOMENTS = st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def test_a_deploy_id_is_the_contracts() -> None:
    """20261123T141502Z-3f9c2a, in UTC, and no two alike."""
    ids = {deploy_id(MOMENT.astimezone(timezone(timedelta(hours=9)))) for _ in range(50)}
    assert all(re.fullmatch(r"20261123T141502Z-[0-9a-f]{6}", one) for one in ids)
    assert len(ids) > 45


def test_a_reports_stamp_is_the_contracts() -> None:
    """20261123T141502123Z."""
    assert report_stamp(MOMENT) == "20261123T141502123Z"


@given(MOMENTS)
def test_a_uuid_of_version_7_begins_with_its_milliseconds(moment: datetime) -> None:
    """RFC 9562, section 5.7."""
    one = uuid7(moment)
    assert (one.version, one.variant) == (7, "specified in RFC 4122")
    assert one.int >> 80 == int(moment.timestamp() * 1000)


def test_later_ids_sort_behind_earlier_ones() -> None:
    """To the millisecond for those of incidents and reports, to the second for deploys."""
    later = MOMENT + timedelta(milliseconds=1)
    assert uuid7(MOMENT) < uuid7(later)
    assert report_stamp(MOMENT) < report_stamp(later)
    assert deploy_id(MOMENT) < deploy_id(MOMENT + timedelta(seconds=1))
    assert uuid7(MOMENT) != uuid7(MOMENT)
