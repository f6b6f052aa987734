"""An HTTP answer, and the Protocol of whoever asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read up to a limit. `peer` is where the request went."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    peer: str

    def json(self) -> Any:
        """The body as JSON; raises ValueError when it is none."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("nested deeper than any answer of a service") from error

    def describe(self) -> str:
        """Status, content type and the beginning of the body, on one line."""
        text = " ".join(self.body[:160].decode("utf-8", "replace").split())
        return (
            f"{self.peer} answered {self.status} {self.content_type or 'without a content type'}: {text or '(empty)'}"
        )


class Http(Protocol):
    """Asks over HTTP. Follows no redirect and reads a bounded body."""

    async def ask(self, method: str, url: str, *, limit: float, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises TimeoutError, ConnectionError or another OSError; ValueError when the answer is not HTTP."""
