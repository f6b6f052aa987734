"""A secret in every spelling in which it could leave: whoever finds one of them has found the secret."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

CANARY = 'Kan4ri"\\/+=<&> 9.9-Vogel'
"""Every character that some encoding treats in a way of its own is in it."""

KEY_CANARY: Final = 'Kan4ri"\\/+=<&>9.9-Vogel'
"""The same without a space, which no key has."""


def spellings(secret: str) -> dict[str, bytes]:
    """The secret in fifteen encodings."""
    data = secret.encode()
    shifted = [_base64(data, shift) for shift in range(3)]
    half = len(secret) // 2
    return {
        "raw": data,
        "url": urllib.parse.quote(secret, safe="").encode(),
        "url, plus": urllib.parse.quote_plus(secret).encode(),
        "base64": shifted[0],
        "base64, shifted by one": shifted[1],
        "base64, shifted by two": shifted[2],
        "base64, for urls": shifted[0].translate(bytes.maketrans(b"+/", b"-_")),
        "hex": data.hex().encode(),
        "hex, capitals": data.hex().upper().encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "html": html.escape(secret).encode(),
        "repr": repr(secret)[1:-1].encode(),
        "shell": re.sub(r'([\\\\"$`])', r"\\\1", secret).encode(),
        "unicode escapes": "".join(f"\\u{ord(char):04x}" for char in secret).encode(),
        "two lines": f"{secret[:half]}\n{secret[half:]}".encode(),
    }


def _base64(data: bytes, shift: int) -> bytes:
    """The part of the encoding that does not depend on what stands before and behind the secret."""
    encoded = base64.b64encode(b"x" * shift + data)
    whole = encoded.rstrip(b"=")
    return whole[(0, 2, 3)[shift] : len(whole) - (whole != encoded)]


def found_in(places: Mapping[str, bytes], secret: str, *, allowed: Iterable[str] = ()) -> list[str]:
    """Each place that holds the secret, and in which spelling; `allowed` places may."""
    known = {name: spelling for name, spelling in spellings(secret).items() if spelling}
    return [
        f"{place} ({name})"
        for place, content in places.items()
        if place not in set(allowed)
        for name, spelling in known.items()
        if spelling in content
    ]


def contents(paths: Iterable[Path]) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in paths}
