"""What stands on disk of a service: who runs it, since when, in which state. No secret and no environment is in it.

Values are named tuples, because a keeper imports this: dataclasses cost every keeper 1.3 MB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import StrEnum

from flawless.adapters.keeper.spec import LogRule
from flawless.adapters.keeper.tree import ProcessId
from flawless.adapters.keeper.value import Value

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any, Final

PROTOCOL: Final = 1
FILE: Final = "record.json"


class State(StrEnum):
    """A service's state, as `flawless status` names it."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    BACKOFF = "backoff"
    HELD = "held"
    GAVE_UP = "gave_up"
    STOPPING = "stopping"


PASSING = frozenset({State.BACKOFF, State.STOPPING})
"""Of a crash that is just being answered, or of an end under way: there is no process, or not for long."""


class ExitKind(StrEnum):
    """How a process ended. It is unknown when its keeper was not its parent."""

    EXIT = "exit"
    SIGNAL = "signal"
    UNKNOWN = "unknown"


class Exit(Value):
    """The last end of the service's process."""

    kind: ExitKind
    value: int | None
    """Exit status or signal number; 126 and 127: it could not be started, see the record's reason."""
    after_s: float
    """Seconds it lived."""
    at: float
    """Wall time, seconds since the epoch."""
    oom: bool | None
    """Whether the kernel killed for memory meanwhile; None where that cannot be known."""
    requested: bool
    """Whether it was told to end."""


class Record(Value):
    """The present facts about one service. Times are wall times in seconds since the epoch."""

    service: str
    keeper: ProcessId
    child: ProcessId | None
    pgid: int | None
    state: State
    since: float
    ready: bool
    port: int | None
    deploy_id: str
    fingerprint: Mapping[str, str]
    restarts: int
    last_exit: Exit | None
    started_at: float | None
    """When the present process, or the last one, was started."""
    reason: str | None
    """Why it is in this state, where the state alone does not say."""
    armed: bool
    """Whether a crash is answered with a restart: the verdict was yes."""
    log: LogRule | None
    stop_timeout: float
    protocol: int = PROTOCOL

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; named tuples inside become objects."""
        nested = {"keeper": self.keeper, "child": self.child, "last_exit": self.last_exit, "log": self.log}
        return self._asdict() | {name: value and value._asdict() for name, value in nested.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        """Raise KeyError, TypeError or ValueError when it is no record of this version."""
        fields = {name: value[name] for name in cls._fields}
        if fields["protocol"] != PROTOCOL:
            raise ValueError(f"a record of version {fields['protocol']}")
        child, last_exit = fields["child"], fields["last_exit"]
        return cls(
            **fields
            | {
                "keeper": ProcessId(**fields["keeper"]),
                "child": ProcessId(**child) if child else None,
                "state": State(fields["state"]),
                "last_exit": Exit(**last_exit | {"kind": ExitKind(last_exit["kind"])}) if last_exit else None,
                "log": LogRule(**fields["log"]) if fields["log"] else None,
            }
        )


def read(folder: str | os.PathLike[str]) -> Record | None:
    """The record in a run folder; None when there is none, or none that can be read."""
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            return Record.from_json(json.loads(file.read()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(folder: str, record: Record) -> None:
    """Replace the record. It is not synced: after a power cut the boot id in it tells that it is stale."""
    write_atomically(os.path.join(folder, FILE), json.dumps(record.to_json(), indent=1).encode())


def write_atomically(path: str, content: bytes) -> None:
    """Replace a file of mode 0600; a reader sees the old or the new content."""
    scratch = f"{path}.{os.getpid()}"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, content)
    except OSError:
        os.unlink(scratch)
        raise
    finally:
        os.close(descriptor)
    os.replace(scratch, path)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:  # on a disk that is almost full the first write takes a part, the next one fails
        content = content[os.write(descriptor, content) :]
