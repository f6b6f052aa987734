"""Text from outside, made safe to show: nothing in it moves the cursor, hides, or turns the line around."""

from __future__ import annotations

import unicodedata

# Control, format (bidi, zero width, tags), surrogate, private use, unassigned, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Shown as nothing though they are letters or marks: fillers and joiners, variation selectors.
_INVISIBLE = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0})
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_TAB = "    "
_ASCII = str.maketrans(
    {
        "✓": "+",
        "✔": "+",
        "✗": "x",
        "✘": "x",
        "⚠": "!",
        "●": "*",
        "○": "o",
        "•": "*",
        "·": ".",
        "→": "->",
        "←": "<-",
        "↳": "->",
        "…": "...",
        "–": "-",  # noqa: RUF001  # as below
        "—": "--",
        "‘": "'",  # noqa: RUF001  # the quotation mark itself is meant
        "’": "'",  # noqa: RUF001  # as above
        "“": '"',
        "”": '"',
        "×": "x",  # noqa: RUF001  # as above
        "≤": "<=",
        "≥": ">=",
        "µ": "u",
        "\N{NO-BREAK SPACE}": " ",
        "─": "-",
        "━": "-",
        "│": "|",
        "├": "|",
        "└": "`",
        "┌": "+",
        "┐": "+",
        "┘": "+",
    }
)


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""The text with `\x1b`, `\u202e` and so on in place of what a terminal would obey or not show; a tab as spaces."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(["\n" if keep_newlines and char == "\n" else _shown(char) for char in text])


def one_line(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters; what was cut is said by an ellipsis."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else line[: max(0, limit - 1)].rstrip() + "…"[:limit]


def ascii_only(text: str) -> str:
    """For a terminal that is not UTF-8: our own signs as near as can be, escapes for the rest."""
    if text.isascii():
        return text
    return "".join([char if char.isascii() else _escape(char) for char in text.translate(_ASCII)])


def _shown(char: str) -> str:
    if char == "\t":
        return _TAB
    return _escape(char) if _is_unsafe(char) else char


def _is_unsafe(char: str) -> bool:
    code = ord(char)
    return (
        unicodedata.category(char) in _UNSAFE
        or code in _INVISIBLE
        or any(code in selectors for selectors in _SELECTORS)
    )


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
