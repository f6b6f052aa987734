"""How incidents are read, whoever keeps them: the Protocol of the stores, and what belongs to both of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from flawless.core.check import Failed
from flawless.core.errors import CommandFailed, UsageError
from flawless.incidents.incident import Incident, Story
from flawless.incidents.known import Known
from flawless.incidents.record import Record

_LOWEST, _HIGHEST = "0" * 32, "f" * 32


class Store(Protocol):
    """Keeps incidents. Two of them exist: PostgreSQL, and the outbox's own records while that is away."""

    async def apply(self, records: Sequence[Record]) -> None:
        """Takes records in, all or none, each once however often it comes."""

    async def page(self, query: Query) -> list[Incident]:
        """Open ones first, the newest first."""

    async def stories(self, ids: IdRange) -> list[Story]:
        """At most two, because two are one too many. A whole id under which a detection was written counts too."""

    async def batch(self, after: UUID | None, count: int) -> list[Story]:
        """Every incident in the order of ids, the oldest first; `after` is the last one of the batch before."""


@dataclass(frozen=True, slots=True)
class Query:
    """A page: `before` is the last id of the page before, `resolved` whether those come too."""

    limit: int
    resolved: bool = False
    before: UUID | None = None


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids that begin with what was written."""

    first: UUID
    last: UUID

    @classmethod
    def of(cls, written: str) -> IdRange:
        """Raises UsageError when it cannot be the beginning of an id."""
        digits = written.strip().lower().replace("-", "")
        if not digits or len(digits) > 32 or any(digit not in "0123456789abcdef" for digit in digits):
            raise no_such(written)
        return cls(UUID((digits + _LOWEST)[:32]), UUID((digits + _HIGHEST)[:32]))

    @property
    def is_whole(self) -> bool:
        return self.first == self.last


def no_such(written: str) -> UsageError:
    return UsageError(
        f"no incident's id begins with {written!r}",
        evidence=["an id, or the beginning of one, is made of hexadecimal digits and hyphens"],
        next_steps=["see the ids: flawless incidents list --all"],
    )


def only_in_database(written: str, because: Failed, known: Sequence[Known]) -> CommandFailed:
    """No incident of the outbox has this id, and the database, which has the others, cannot be asked. `known`: those of
    this id that are known to be open; the report of the deploy that opened one tells what there is to know.
    """
    reports = [f"the report of its deploy: flawless reports show {one.deploy_id}" for one in known if one.deploy_id]
    return CommandFailed(
        f"the story of {written!r} is not in the outbox, and the database is down: {because.cause}",
        code=because.reason,
        evidence=[*(f"{one.id} is open: {one.severity}" for one in known), *because.evidence],
        next_steps=[*reports, *because.next_steps, "then try again", "what can be read now: flawless incidents list"],
    )


def only(stories: Sequence[Story], written: str) -> Story:
    """The one story. Raises UsageError when there is none, or more than one."""
    only_one([story.incident.id for story in stories], written)
    return stories[0]


def only_one(ids: Sequence[UUID], written: str) -> UUID:
    """The one id. Raises UsageError when there is none, or more than one."""
    match ids:
        case [id_]:
            return id_
        case []:
            raise no_such(written)
    raise UsageError(
        f"more than one incident's id begins with {written!r}",
        evidence=[str(id_) for id_ in ids],
        next_steps=["write more of the id: flawless incidents list --all"],
    )
