"""The one stream of events: the terminal, the JSON-lines log, the journal, the report, the incident recorder read it.

An event is a frozen value whose fields are JSON, so that a run can be told again from its journal: the report of a
deploy that was killed is built from the same events as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from flawless.core.check import Finding
from flawless.core.clock import Clock, from_stamp, to_stamp


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `durable` events stand in the journal; `synced` ones are on disk before the next act."""

    name: ClassVar[str]
    durable: ClassVar[bool] = False
    synced: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A deploy begins. `last_good`: the deploy id of the last good run, if any."""

    name = "run.started"
    durable = True
    synced = True
    deploy_id: str
    project: str
    environment: str | None
    versions: Mapping[str, Any]
    pid: int
    embedded: bool
    last_good: str | None = None


@dataclass(frozen=True, slots=True)
class PhaseStarted(Event):
    """A phase begins; the names are those of the deploy's states."""

    name = "phase.started"
    durable = True
    phase: str


@dataclass(frozen=True, slots=True)
class PhaseEnded(Event):
    """`status` is passed, failed or skipped; `duration` in seconds."""

    name = "phase.ended"
    durable = True
    phase: str
    status: str
    duration: float
    because: str | None = None


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """A check was answered; `finding` is the outcome as it stands in the report."""

    name = "check.asked"
    durable = True
    phase: str
    finding: Mapping[str, Any]

    @classmethod
    def of(cls, phase: str, finding: Finding) -> Asked:
        return cls(phase, finding.to_json())


@dataclass(frozen=True, slots=True)
class WaitingFor(Event):
    """A gate waits: for what, since when, and what the last answer was. Seconds."""

    name = "gate.waiting"
    durable = True
    phase: str
    check: str
    claim: str
    waited: float
    remaining: float
    last: str | None


@dataclass(frozen=True, slots=True)
class Intended(Event):
    """What the run is about to change, written before it is changed."""

    name = "action.intended"
    durable = True
    synced = True
    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effected(Event):
    """What the run has changed."""

    name = "action.effected"
    durable = True
    synced = True
    action: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """A fact for the report, under the report's own key: services, database, health, recovery, log_tail ..."""

    name = "fact.noted"
    durable = True
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Failure(Event):
    """Why the run failed, once: the report's `failure`."""

    name = "run.failed"
    durable = True
    synced = True
    phase: str
    code: str
    cause: str
    evidence: Sequence[str]
    next_steps: Sequence[str]


@dataclass(frozen=True, slots=True)
class RolledBack(Event):
    """The end of the rollback: `status` is not needed, done or failed; each action is a sentence."""

    name = "run.rolled_back"
    durable = True
    synced = True
    status: str
    actions: Sequence[str]
    next_steps: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict(Event):
    """The result is decided; from here on the run only tidies up and tells."""

    name = "run.verdict"
    durable = True
    synced = True
    result: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """The report is written; the last record of a journal."""

    name = "run.ended"
    durable = True
    synced = True
    report: str
    incident_id: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event with the moment it was told."""

    at: str
    elapsed: float
    event: Event

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "elapsed": round(self.elapsed, 3), "event": self.event.name, **asdict(self.event)}


_BY_NAME = {kind.name: kind for kind in Event.__subclasses__()}


def from_json(record: Mapping[str, Any]) -> Stamped:
    """The event that `to_json` wrote. Raises KeyError or TypeError when the record is none."""
    fields = {key: value for key, value in dict(record).items() if key not in {"at", "elapsed", "event"}}
    from_stamp(record["at"])
    return Stamped(record["at"], record["elapsed"], _BY_NAME[record["event"]](**fields))


Reader = Callable[[Stamped], None]


class Stream:
    """Hands each event to every reader, in order. The journal reads first: an intent is on disk before the act.

    `redact` takes every secret out of an event's fields before any reader sees them. A reader that fails keeps none of
    the others from reading; its error is raised when all have read. One that has lost whom it tells (a closed
    terminal, a full disk below a log) is not told any more: that is no reason to end a run.
    """

    def __init__(self, clock: Clock, redact: Callable[[Any], Any], *readers: Reader) -> None:
        self._clock = clock
        self._redact = redact
        self._readers = list(readers)
        self._started = clock.monotonic()

    def add(self, reader: Reader) -> None:
        self._readers.append(reader)

    def tell(self, event: Event) -> None:
        clean = type(event)(**self._redact(_plain(asdict(event))))
        stamped = Stamped(to_stamp(self._clock.now()), self._clock.monotonic() - self._started, clean)
        errors = [error for reader in list(self._readers) if (error := self._failed(reader, stamped)) is not None]
        if errors:
            raise errors[0]

    def _failed(self, reader: Reader, stamped: Stamped) -> Exception | None:
        try:
            reader(stamped)
        except OSError:
            self._readers.remove(reader)
        except Exception as error:  # noqa: BLE001 - it is raised when the other readers have read
            return error
        return None


def _plain(value: Any) -> Any:
    """What JSON would make of it: a redactor looks into lists and objects, and into nothing else."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str():
            return str(value)
        case _:
            return value
