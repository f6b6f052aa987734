"""The book of incidents of one stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flawless.incidents import IncidentBook

if TYPE_CHECKING:
    from flawless.wiring.stack import Stack


def book(stack: Stack) -> IncidentBook:
    return IncidentBook(
        stack.state / "outbox",
        stack=stack.name,
        url=stack.database_url,
        redact=stack.redact,
        clock=stack.clock,
        embedded=stack.embedded is not None,
    )
