"""An HTTP answer, and the Protocol of whoever asks for it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from flawless.core.plain import printable

_TELLING: Final = (
    "status",
    "ok",
    "ready",
    "service",
    "code",
    "message",
    "error",
    "detail",
    "reason",
    "reasons",
    "lastError",
    "degradedReasons",
)
"""Keys under which a service says how it is."""

_LONGEST: Final = 80
_TITLE: Final = re.compile(rb"<title[^>]*>([^<]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read up to a limit. `peer` is where the request went.

    `is_whole`: the body ended within the limit. `certificate_ends`: when the peer's certificate does, over TLS.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    peer: str
    is_whole: bool = True
    certificate_ends: datetime | None = None

    def json(self) -> Any:
        """The body as JSON; raises ValueError when it is none."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("nested deeper than any answer of a service") from error

    def describe(self) -> str:
        """Status, content type and what the body says of itself, on one line; never the body."""
        kind = self.content_type or "without a content type"
        return f"{self.peer} answered {self.status} {kind}: {self._gist()}"

    def _gist(self) -> str:
        if not self.body.strip():
            return "(empty)"
        try:
            document = self.json()
        except ValueError:
            return self._title()
        if not isinstance(document, dict):
            return f"JSON of {len(self.body)} bytes"
        told = {key: _short(document[key]) for key in _TELLING if key in document}
        return json.dumps(told) if told else f"JSON with {len(document)} keys"

    def _title(self) -> str:
        found = _TITLE.search(self.body)
        title = " ".join(html.unescape(found[1].decode("utf-8", "replace")).split()) if found else ""
        return f'a page titled "{_short(printable(title))}"' if title else f"{len(self.body)} bytes that are no JSON"


def _short(value: Any) -> Any:
    """Numbers and words as they are; of what is longer, the beginning."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class Http(Protocol):
    """Asks over HTTP. Follows no redirect and reads a bounded body."""

    async def ask(self, method: str, url: str, *, limit: float, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises TimeoutError, ConnectionError or another OSError; ValueError when the answer is not HTTP."""
