"""Durations and sizes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.duration import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("2m", 120.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("0", 0.0),
        ("0s", 0.0),
        (" 3s ", 3.0),
        ("2.5", 2.5),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_a_text_with_units_or_a_number_of_seconds(written: object, seconds: float) -> None:
    """Both forms of CONTRACTS 3, and nothing is lost."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "s",
        "5 parsecs",
        "-1",
        "-1s",
        "nan",
        "inf",
        "1e999",
        "1e3",
        "1_0s",
        "5 s",
        "٣s",
        "9" * 400,
        "1s\n2",
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        10**400,
        True,
        False,
        None,
        [],
        {},
    ],
)
def test_anything_else_is_refused(written: object) -> None:
    """FAILURES 8: refused, never repaired."""
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(written)


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_no_input_ends_in_anything_but_a_value_error(written: object) -> None:
    """Whatever stands in a manifest, the answer is seconds or a refusal."""
    with contextlib.suppress(ValueError):
        assert parse_duration(written) >= 0


@given(st.integers(min_value=0, max_value=10**10))
def test_what_is_formatted_is_parsed_back(milliseconds: int) -> None:
    """A duration of whole milliseconds survives being written."""
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (90.0, "90s"), (120.0, "2m"), (86400.0, "1d")],
)
def test_a_duration_is_written_in_its_largest_whole_unit(seconds: float, written: str) -> None:
    """One unit, no fraction."""
    assert format_duration(seconds) == written


@pytest.mark.parametrize(
    ("written", "size"), [("10MB", 10_000_000), ("10MiB", 10_485_760), ("1 kb", 1000), ("512", 512), (7, 7), ("3B", 3)]
)
def test_a_size_is_a_text_with_units_or_a_number_of_bytes(written: object, size: int) -> None:
    """MB is a power of 1000, MiB of 1024."""
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "MB", "-1", "1.5MB", "10XB", 1.5, True, None, [], "9" * 13])
def test_anything_else_is_no_size(written: object) -> None:
    """Refused, never repaired."""
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(written)


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_a_size_survives_being_written(size: int) -> None:
    """Every size has a form that is read back as itself."""
    assert parse_size(format_size(size)) == size
