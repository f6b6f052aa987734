"""Text from outside, made safe to show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.plain import ascii_only, one_line, printable

FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_printable_leaves_nothing_a_terminal_obeys(text: str) -> None:
    """No control, format, surrogate or unassigned character is left, whatever came in."""
    assert not {unicodedata.category(char) for char in printable(text)} & FORBIDDEN


@given(ANY_TEXT)
def test_newlines_may_stay(text: str) -> None:
    """With `keep_newlines` the lines stay, and nothing else does."""
    shown = printable(text, keep_newlines=True)
    assert shown.count("\n") == text.count("\n")
    assert shown.split("\n") == [printable(line) for line in text.split("\n")]


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)))
def test_ordinary_text_stays(text: str) -> None:
    """Plain ASCII is shown as it is."""
    assert printable(text) == text == ascii_only(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("main\u202egpj", "main\\u202egpj"),
        ("a\tb", "a    b"),
        ("a\nb\r\x7f\x9b\0", "a\\x0ab\\x0d\\x7f\\x9b\\x00"),
        ("\ud800", "\\ud800"),
        ("a\u200bb\ufeff\u2066", "a\\u200bb\\ufeff\\u2066"),
        ("\U000e0041\u3164\ufe0f", "\\U000e0041\\u3164\\ufe0f"),
        ("Müller 日本 <script>", "Müller 日本 <script>"),
    ],
)
def test_what_is_unsafe_is_shown_as_an_escape(text: str, shown: str) -> None:
    """The reader sees that something was there, and what."""
    assert printable(text) == shown


@given(ANY_TEXT, st.integers(1, 40))
def test_one_line_is_one_line(text: str, limit: int) -> None:
    """One line within its limit, and safe."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert printable(line) == line


def test_one_line_says_that_it_was_cut() -> None:
    """White space is drawn together, the cut shown."""
    assert one_line("a\n  b\tc", 10) == "a b c"
    assert one_line("abcdefghijk", 5) == "abcd…"


@given(ANY_TEXT)
def test_ascii_only_is_ascii(text: str) -> None:
    """A terminal that is not UTF-8 gets ASCII."""
    assert ascii_only(text).isascii()


def test_our_signs_have_plain_forms() -> None:
    """What we print ourselves stays readable."""
    assert ascii_only("✓ a → b … é") == "+ a -> b ... \\xe9"
