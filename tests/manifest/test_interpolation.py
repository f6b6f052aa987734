"""Variables in texts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.manifest.interpolation import Interpolated, Missing, interpolate, names_in

VALUES = {"A": "1", "EMPTY": "", "SPACES": "  ", "DOLLAR": "${A}"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${A:-2}", "1"),
        ("${EMPTY:-2}", "2"),
        ("${UNSET:-2}", "2"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b?}", "a:-b?"),
        ("${UNSET:-postgresql://h/d}", "postgresql://h/d"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $ $$ {A}", "$A $ $$ {A}"),
        ("${DOLLAR}", "${A}"),
    ],
)
def test_variables_are_put_in_as_a_shell_would(template: str, text: str) -> None:
    """`:-` counts an empty value as unset; what a variable holds is not looked at again."""
    assert interpolate(template, VALUES.get).text == text


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("${UNSET}", Missing("UNSET", "", blank=False)),
        ("${UNSET:?}", Missing("UNSET", "", blank=False)),
        ("${UNSET:?set it in .env}", Missing("UNSET", "set it in .env", blank=False)),
        ("${EMPTY:?say}", Missing("EMPTY", "say", blank=True)),
        ("${SPACES}", Missing("SPACES", "", blank=True)),
    ],
)
def test_what_is_missing_becomes_empty_and_is_listed(template: str, missing: Missing) -> None:
    """So that a preflight check can name all of them at once."""
    result = interpolate(template, VALUES.get)
    assert result.text.strip() == ""
    assert result.missing == (missing,)


@pytest.mark.parametrize(
    "template", ["${", "${}", "${A", "${A-b}", "${A:b}", "${1A}", "${A:-${B}}", "${A B}", "x ${é}"]
)
def test_what_is_no_reference_is_refused(template: str) -> None:
    """Nested defaults are not supported, and that is said."""
    with pytest.raises(ValueError, match="nothing nested"):
        interpolate(template, VALUES.get)
    assert names_in(template) == ()


@given(st.text(alphabet="${}:-?AB _x"))
def test_no_template_ends_in_anything_but_a_value_error(template: str) -> None:
    """Whatever stands in a manifest."""
    with contextlib.suppress(ValueError):
        assert isinstance(interpolate(template, VALUES.get), Interpolated)


@given(st.text())
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    """`$${` is the way to write `${`."""
    assert interpolate(text.replace("${", "$${"), VALUES.get).text == text or "$${" in text


@given(st.text(), st.text())
def test_a_value_is_put_in_untouched(before: str, value: str) -> None:
    """No second reading, no trimming."""
    start = before.replace("$", "")
    assert interpolate(start + "${A}", {"A": value}.get).text == start + value
