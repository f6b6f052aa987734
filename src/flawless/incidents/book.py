"""The book of incidents: every write goes to the outbox first, and from there to PostgreSQL, exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence, Sized
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flawless.core.check import Failed
from flawless.core.clock import Clock
from flawless.core.ids import uuid7
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.incidents.incident import EventType, Opening, Severity, Story
from flawless.incidents.known import Known, KnownOpen
from flawless.incidents.outbox import LIMIT, Outbox
from flawless.incidents.reading import IdRange, Store, only, only_in_database, only_one
from flawless.incidents.record import Record
from flawless.incidents.rules import failure_of, is_consequence, opening_of, root_of

if TYPE_CHECKING:
    from flawless.incidents.postgres import PostgresStore
    from flawless.incidents.schema import OwnMigrations

EXPORT_LIMIT: Final = 30.0
"""Seconds for a batch."""

EXPORT_BATCH: Final = 1000

READ_LIMIT: Final = 5.0
"""Seconds to reach the database and read from it."""


@dataclass(frozen=True, slots=True)
class Book:
    """Where incidents are read from: the database, or `because` it cannot be asked, what the outbox still holds."""

    store: Store
    because: Failed | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An incident that is there, and when it ended."""

    id: UUID
    resolved_at: datetime | None


class IncidentBook:
    """The incidents of one stack. `folder` is `.flawless/outbox`; `url` gives None while no database is known.

    `redact` takes every secret out of a tree of JSON before any of it is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stack: str,
        url: Callable[[], Secret | None],
        redact: Callable[[Any], Any],
        clock: Clock,
        embedded: bool = False,
        is_declared: bool = True,
        limit: int = LIMIT,
    ) -> None:
        self._stack = stack
        self._url = url
        self._redact = redact
        self._clock = clock
        self._embedded = embedded
        self.is_declared = is_declared
        """Whether the manifest has a database at all; without one the outbox is where incidents are."""
        self._outbox = Outbox(folder, on_drop=self._dropped, limit=limit)
        self._known = KnownOpen(folder / "open")
        self.unavailable: Failed | None = None
        """Why the last drain left records behind, or the last export has the outbox's alone."""

    # Writing: on disk when it returns.

    def open_for(self, failure: Mapping[str, Any], deploy_id: str) -> str | None:
        """The id of the incident that a failed deploy opened or extended; None when the disk takes no more.

        The report then tells the failure all the same, and must not be kept from doing so.
        """
        return self._opened_for(opening_of(failure, stack=self._stack, deploy_id=deploy_id))

    def warn_for(self, outcome: Mapping[str, Any], deploy_id: str) -> str | None:
        """The same for an outcome of a report that only made the deploy partial: a WARN."""
        failure = failure_of(outcome)
        return self._opened_for(opening_of(failure, stack=self._stack, deploy_id=deploy_id, severity=Severity.WARN))

    def _opened_for(self, opening: Opening) -> str | None:
        try:
            return str(self.open(opening))
        except OSError:
            return None

    def resolve_for(self, deploy_id: str, but: Collection[str] = ()) -> None:
        """A good deploy ends what earlier deploys of this stack had opened: it has passed the gate each failed at.

        `but` those it has met again itself, which stay open.
        """
        opened = [known for known in self._known.all() if known.deploy_id is not None and str(known.id) not in but]
        for known in opened:
            self.resolve(known.id, f"the deploy {deploy_id} succeeded", by=f"deploy {deploy_id}")

    def open(self, opening: Opening, id_: UUID | None = None) -> UUID:
        """Opens an incident, or extends the one that is open for the same fault; its id.

        With an `id_` of the caller's the same detection may be written again, and counts once.
        """
        clean = self._clean_opening(opening)
        record = self._record(EventType.DETECTED, f"detected: {clean.summary}", clean.severity, _seen_by(clean))
        record = replace(record, id=id_ or record.id, opening=clean)
        with self._outbox.locked():
            self._outbox.append_locked([record])
            known = self._known.get(clean.fingerprint)
            if known is None:
                known = Known(record.id, clean.fingerprint, clean.severity, clean.deploy_id)
                self._known.add(known)
        return known.id

    def open_together(self, openings: Sequence[Opening]) -> list[UUID]:
        """Opens what was found at the same time; consequences are linked to their cause. The ids, in their order."""
        root = root_of(openings)
        cause = self.open(root) if root is not None else None
        ids = []
        for opening in openings:
            if root is not None and is_consequence(opening, root):
                opening = replace(opening, caused_by=cause)  # noqa: PLW2901 - the same fault, linked
            ids.append(cause if cause is not None and opening is root else self.open(opening))
        return ids

    def tell(self, incident: UUID, type_: EventType, message: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Appends an event to an incident: a note, a recovery that was tried."""
        record = self._record(type_, message, self._severity(incident), metadata or {})
        self._outbox.append([replace(record, incident=incident)])

    def resolve(self, incident: UUID, notes: str, *, by: str) -> None:
        """Ends an incident; one that has ended already gets a note. `by`: who, for the next time it is seen."""
        record = self._record(EventType.RESOLVED, notes, self._severity(incident), {"by": by})
        with self._outbox.locked():
            self._outbox.append_locked([replace(record, incident=incident)])
            self._known.discard(incident)

    def forget_database(self) -> None:
        """The database is gone, and so is what only it had; nothing of that is known to be open any more."""
        gone = self.open_in_database()
        with self._outbox.locked():
            for known in gone:
                self._known.discard(known.id)

    # To the database.

    async def drain(self, limit: float) -> int:
        """Hands the outbox to the database, for at most `limit` seconds; how many records are left.

        Asks and imports nothing when there are none.
        """
        segments = self._outbox.seal()
        if not segments:
            return 0
        from flawless.database.connection import DatabaseUnavailable

        try:
            async with self._database(limit) as store:
                for segment in segments:
                    await store.apply(segment.records())
                    segment.remove()
                await self._learn(store)
        except DatabaseUnavailable as unavailable:
            self.unavailable = unavailable.failed
        return self._outbox.count()

    def migrations(self, url: Callable[[], Secret]) -> OwnMigrations:
        """Our own migrations, for the deploy. `url` leads past a pooler."""
        from flawless.incidents.schema import OwnMigrations

        return OwnMigrations(url, embedded=self._embedded)

    # Reading.

    def counts(self) -> dict[str, int]:
        """`open` and `critical` of this stack, as known here; a listing of a folder, nothing slow."""
        return self._known.counts()

    def waiting(self) -> int:
        """How many records the database does not have yet."""
        return self._outbox.count()

    @asynccontextmanager
    async def opened(self, limit: float = READ_LIMIT) -> AsyncIterator[Book]:
        """The incidents, to be read within `limit` seconds. Raises DatabaseUnavailable when it fails after opening."""
        from flawless.database.connection import DatabaseUnavailable

        async with AsyncExitStack() as stack:
            try:
                book = Book(await stack.enter_async_context(self._database(limit)))
            except DatabaseUnavailable as unavailable:
                book = Book(await self._waiting_ones(), unavailable.failed)
            yield book

    async def find(self, written: str) -> Found:
        """The incident whose id begins so, as far as it is known here while the database is away.

        Raises UsageError for none or several, CommandFailed where the database would have to be asked.
        """
        ids = IdRange.of(written)
        async with self.opened() as book:
            stories = await book.store.stories(ids)
        found = {story.incident.id: Found(story.incident.id, story.incident.resolved_at) for story in stories}
        if book.because is not None:
            found = {known.id: Found(known.id, None) for known in self._known_in(ids)} | found
            self._ensure_known(found, book.because, written)
        return found[only_one(list(found), written)]

    async def story(self, written: str) -> tuple[Story, Failed | None]:
        """The story of the incident whose id begins so, and why it is the outbox's alone. Raises as `find`."""
        ids = IdRange.of(written)
        async with self.opened() as book:
            stories = await book.store.stories(ids)
        if book.because is not None:
            self._ensure_known(stories, book.because, written)
        return only(stories, written), book.because

    def open_in_database(self) -> list[Known]:
        """What is known to be open and is not in the outbox, the newest first: only the database has its story."""
        here = {record.opening.fingerprint for record in self._outbox.records() if record.opening}
        away = (known for known in self._known.all() if known.fingerprint not in here)
        return sorted(away, key=lambda known: known.id, reverse=True)

    def _ensure_known(self, found: Sized, because: Failed, written: str) -> None:
        """Nothing is found while the database is away: it may be there. Where none is declared it is nowhere."""
        if self.is_declared and not found:
            raise only_in_database(written, because, list(self._known_in(IdRange.of(written))))

    def _known_in(self, ids: IdRange) -> Iterator[Known]:
        return (known for known in self._known.all() if ids.first <= known.id <= ids.last)

    async def export(self) -> AsyncIterator[Story]:
        """Every incident, the oldest first. Raises DatabaseUnavailable."""
        last = None
        while True:
            async with self.opened(EXPORT_LIMIT) as book:
                self.unavailable = book.because
                if last is not None and book.because is not None:
                    raise _unavailable(book.because)
                batch = await book.store.batch(last, EXPORT_BATCH)
            for story in batch:
                yield story
            if len(batch) < EXPORT_BATCH:
                return
            last = batch[-1].incident.id

    @asynccontextmanager
    async def _database(self, limit: float) -> AsyncIterator[PostgresStore]:
        from flawless.database.connection import DatabaseUnavailable, session
        from flawless.incidents.postgres import PostgresStore, tables_missing

        url = self._url()
        if url is None:
            raise DatabaseUnavailable(_NO_DATABASE)
        async with session(url, limit=limit, application="flawless incidents", embedded=self._embedded) as connection:
            if await tables_missing(connection):
                raise DatabaseUnavailable(_NO_TABLES)
            yield PostgresStore(connection)

    async def _waiting_ones(self) -> Store:
        from flawless.incidents.memory import MemoryStore

        store = MemoryStore()
        await store.apply(list(self._outbox.records()))
        return store

    async def _learn(self, store: PostgresStore) -> None:
        """What is open according to the database, unless somebody has written since."""
        truth = await store.open_ones(self._stack)
        with self._outbox.locked():
            if self._outbox.is_empty:
                self._known.replace(truth)

    def _severity(self, incident: UUID) -> Severity:
        """Of an incident not known here to be open nothing may be dropped."""
        return next((known.severity for known in self._known.all() if known.id == incident), Severity.CRITICAL)

    def _clean_opening(self, opening: Opening) -> Opening:
        said = {"summary": opening.summary, "details": opening.details, "next_steps": opening.next_steps}
        clean = self._redact(_tree(said))
        return replace(opening, **{**clean, "next_steps": tuple(clean["next_steps"])})

    def _record(self, type_: EventType, message: str, severity: Severity, metadata: Mapping[str, Any]) -> Record:
        now = self._clock.now()
        clean = self._redact(_tree({"message": message, "metadata": metadata}))
        return Record(uuid7(now), now, type_, clean["message"], severity, metadata=clean["metadata"])

    def _dropped(self, count: int) -> Record:
        failure = {
            "code": "OUTBOX_FULL",
            "cause": "incidents were dropped because the outbox reached its limit while no database took them",
            "evidence": [f"{count} records dropped, the mildest first, of those the oldest"],
            "next_steps": ["bring the database up; every command then hands it the rest: flawless incidents list"],
        }
        opening = opening_of(failure, stack=self._stack, severity=Severity.WARN)
        record = self._record(EventType.DETECTED, f"detected: {opening.summary}", Severity.CRITICAL, {"dropped": count})
        return replace(record, opening=opening)


def _tree(value: Any) -> Any:
    """The same as dicts and lists: a redactor of JSON looks into nothing else."""
    match value:
        case Mapping():
            return {key: _tree(item) for key, item in value.items()}
        case list() | tuple():
            return [_tree(item) for item in value]
        case _:
            return value


def _unavailable(failed: Failed) -> Exception:
    from flawless.database.connection import DatabaseUnavailable

    return DatabaseUnavailable(failed)


def _seen_by(opening: Opening) -> dict[str, Any]:
    seen = {"deploy_id": opening.deploy_id, "cause": opening.details.get("cause")}
    return {key: value for key, value in seen.items() if value is not None}


_NO_DATABASE = Failed(
    Reason.DB_REFUSED,
    "no database is known here yet, so incidents wait in the outbox",
    ("none is declared, or the embedded one has never been started",),
    ("flawless deploy",),
)
_NO_TABLES = Failed(
    Reason.DB_TABLE_MISSING,
    "our tables are not in the database, so incidents wait in the outbox",
    ("flawless.ops_incident and flawless.ops_incident_event are not there, or may not be read",),
    ("flawless deploy makes them, where the database's user may create a schema",),
)
