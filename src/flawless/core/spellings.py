"""How a value may be written down: the byte sequences by which a secret is recognised in any output."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator

# ECMA-48: Select Graphic Rendition, and the erasing of a line that goes with it (grep); at the end also begun ones.
_COLOUR = re.compile(rb"\x1b(?:\[[0-9;:]*(?:[mK]|\Z)|\Z)")
NOISE = re.compile(rb"[\r\n]+|" + _COLOUR.pattern)
"""What may stand anywhere in a secret and changes nothing of what a person reads."""

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
# RFC 3986 unreserved; with "/"; encodeURIComponent; encodeURI; nothing but letters and digits.
_URL_SAFE = ("_.-~", "_.-~/", "_.-~!*'()", "_.-~!*'();/?:@&=+$,#", "")
_JSON_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
# What PHP and JavaScript, Go, and .NET escape beyond the standard.
_JSON_EXTRA: tuple[dict[str, str] | str, ...] = ({}, {"/": "\\/"}, "<>&", "<>&'", "<>&'\"+`")
_HTML: tuple[dict[str, str], ...] = (
    {},
    {'"': "&quot;"},
    {'"': "&quot;", "'": "&#x27;"},
    {'"': "&quot;", "'": "&#39;"},
    {'"': "&#34;", "'": "&#39;"},
    {'"': "&quot;", "'": "&apos;"},
    {'"': "&quot;", "'": "&#x27;", "/": "&#x2F;", "`": "&#x60;", "=": "&#x3D;"},
)


def spellings(value: str) -> set[bytes]:
    """Every form of the value, each as one line: line breaks are left out, since they may fall anywhere."""
    texts = set(_texts(value))
    texts.update([_json(text, {}, ascii_only=False) for text in texts])
    forms = {text.encode("utf-8", "surrogatepass") for text in texts}
    forms.update(_binary(value.encode("utf-8", "surrogatepass")))
    return {one_line(form) for form in forms}


def one_line(data: bytes) -> bytes:
    """Without line breaks and without what colours it."""
    # Colours apart from line breaks: what begins with one byte is looked for ten times as fast.
    plain = _COLOUR.sub(b"", data) if b"\x1b" in data else data
    return plain.replace(b"\n", b"").replace(b"\r", b"")


def _texts(value: str) -> Iterator[str]:
    yield value
    yield from _urls(value)
    yield from _jsons(value)
    yield from _htmls(value)
    yield from _shells(value)
    yield from _reprs(value)
    yield from _code_points(value)


def _urls(value: str) -> Iterator[str]:
    for style in ("%%%02X", "%%%02x"):
        yield "".join([style % byte for byte in _utf8(value)])
        for safe in _URL_SAFE:
            quoted = "".join([_percent(char, safe, style) for char in value])
            yield quoted
            yield quoted.replace("%20", "+")


def _percent(char: str, safe: str, style: str) -> str:
    return char if char in _PLAIN or char in safe else "".join([style % byte for byte in _utf8(char)])


def _jsons(value: str) -> Iterator[str]:
    for extra in _JSON_EXTRA:
        for style in ("\\u%04x", "\\u%04X"):
            escapes = extra if isinstance(extra, dict) else {char: style % ord(char) for char in extra}
            yield _json(value, escapes, ascii_only=False)
            yield _json(value, escapes, ascii_only=True, style=style)


def _json(value: str, extra: dict[str, str], *, ascii_only: bool, style: str = "\\u%04x") -> str:
    escapes = _JSON_SHORT | extra

    def spell(char: str) -> str:
        if char in escapes:
            return escapes[char]
        return _utf16(char, style) if char < " " or (ascii_only and char > "~") else char

    return "".join(map(spell, value))


def _htmls(value: str) -> Iterator[str]:
    basic = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for names in _HTML:
        yield "".join([names.get(char, char) for char in basic])


def _shells(value: str) -> Iterator[str]:
    yield value.replace("'", "'\"'\"'")
    yield value.replace("'", "'\\''")
    yield _backslashed(value, '\\"$`')
    yield _backslashed(value, '\\"$`!')
    yield "".join([char if char in _PLAIN or char in "_.-/:=@%+," or char > "~" else "\\" + char for char in value])


def _reprs(value: str) -> Iterator[str]:
    for text in (repr(value), repr(value.encode("utf-8", "surrogatepass"))[1:]):
        inner = text[1:-1]
        yield inner
        yield inner.replace("'", "\\'")
        yield inner.replace('"', '\\"')
    yield _backslashed(value, "\\'")


def _backslashed(value: str, specials: str) -> str:
    return "".join(["\\" + char if char in specials else char for char in value])


def _code_points(value: str) -> Iterator[str]:
    for style in ("\\u%04x", "\\u%04X"):
        yield "".join([_utf16(char, style) for char in value])
    for style in ("\\x%02x", "\\x%02X"):
        yield "".join([style % byte for byte in _utf8(value)])
        yield "".join([style % ord(char) for char in value])
    for style in ("&#%d;", "&#x%x;", "&#x%X;"):
        yield "".join([style % ord(char) for char in value])


def _utf16(char: str, style: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join([style % int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)])


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _binary(raw: bytes) -> Iterator[bytes]:
    yield binascii.hexlify(raw)
    yield binascii.hexlify(raw).upper()
    for offset in range(3):
        yield from _base64_spellings(_base64(raw, offset))


def _base64(raw: bytes, offset: int) -> bytes:
    """The characters of a base64 text that the value alone decides when it begins `offset` bytes into a group of 3."""
    text = binascii.b2a_base64(bytes(offset) + raw, newline=False)
    return text[(8 * offset + 5) // 6 : 8 * (offset + len(raw)) // 6]


def _base64_spellings(text: bytes) -> Iterable[bytes]:
    return (
        text,
        text.replace(b"+", b"-").replace(b"/", b"_"),
        text.replace(b"/", b"\\/"),
        text.replace(b"+", b"%2B").replace(b"/", b"%2F"),
        text.replace(b"+", b"%2b").replace(b"/", b"%2f"),
    )
