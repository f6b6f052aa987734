"""A service as others see it: what to start, what runs, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from flawless.core.secret import Secret

TUNNEL: Final = "tunnel"
"""The name, and the role, of the service that the table [tunnel] is run as."""


class ServiceState(StrEnum):
    """The states of CONTRACTS 1. Running is not ready: nothing depends on `running`."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    BACKOFF = "backoff"
    HELD = "held"
    GAVE_UP = "gave_up"
    STOPPING = "stopping"


ALIVE = frozenset({ServiceState.STARTING, ServiceState.RUNNING, ServiceState.READY, ServiceState.UNHEALTHY})
"""States in which there is a process."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit status or its signal, after how many seconds."""

    status: int | None
    signal: int | None
    after: float
    at: str
    out_of_memory: bool = False
    requested: bool = False

    def __str__(self) -> str:
        if self.status is None and self.signal is None:
            return "an end that nobody saw"
        how = f"signal {self.signal}" if self.signal is not None else f"exit status {self.status}"
        memory = ", killed by the kernel for memory" if self.out_of_memory else ""
        hint = ", possibly memory" if self.signal == 9 and not self.out_of_memory and not self.requested else ""
        return f"{how} after {self.after:.1f} s{memory}{hint}"

    @property
    def sentence(self) -> str:
        """What the process did, to stand behind its name."""
        is_known = self.status is not None or self.signal is not None
        return f"ended with {self}" if is_known else "ended, and nobody saw how"


@dataclass(frozen=True, slots=True)
class Running:
    """What a keeper says of its service. `fingerprint`: what it was started from, a digest a part."""

    name: str
    state: ServiceState
    pid: int | None
    port: int | None
    since: str | None
    ready: bool
    deploy_id: str | None
    fingerprint: Mapping[str, str]
    restarts: int = 0
    last_exit: Exit | None = None
    keeper_pid: int | None = None
    reason: str | None = None
    armed: bool = True

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE and self.pid is not None


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that is needed to start a service. Seconds; `environment` is complete."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    secrets: tuple[Secret, ...]
    port: int | None
    deploy_id: str
    fingerprint: Mapping[str, str]
    stop_timeout: float
    delays: tuple[float, ...]
    limit: int
    within: float
    forget: float
    log_max_size: int
    log_keep_days: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of an order to recover, in a sentence; `taken` when the service may be at it now."""

    said: str
    taken: bool


class Keeper(Protocol):
    """One service in the hands of its keeper. Each order may be repeated safely."""

    @property
    def name(self) -> str: ...

    async def look(self) -> Running | None:
        """What is there now; None when no keeper lives and no process of ours is left."""

    def prepare(self) -> None:
        """Boots the keeper that `start` will need, where none lives. It costs no time, and starts nothing of ours."""

    async def start(self, launch: Launch) -> Running:
        """Starts a new process, always. What runs already is stopped first and kept for `revert`."""

    async def adopt(self, launch: Launch) -> Running | None:
        """Leaves what runs as it is; its keeper, a new one where that was killed, starts it from `launch` when it
        falls: give one of the fingerprint it was started from. None when nothing of it runs.
        """

    async def revert(self) -> Running | None:
        """Back to what ran before `start`: started as it was, or stopped when nothing did."""

    async def commit(self) -> None:
        """The verdict is yes: forget what ran before, respawn after a crash from now on."""

    async def stop(self) -> None:
        """Stops the whole tree, and the keeper."""

    async def hold(self) -> None:
        """Stops the process and remembers how it was started."""

    async def resume(self) -> Running:
        """Starts what is held as it was."""

    async def restart(self) -> Running:
        """Ends what runs and starts the same anew, from what it was started from."""

    async def mark(self, *, ready: bool, reason: str | None = None) -> None:
        """What a gate found out about readiness; `reason`: why it is not ready."""

    async def exited(self) -> Exit:
        """Returns when the process has ended, however long that takes."""

    async def tail(self, lines: int) -> Sequence[str]:
        """The last lines the service printed, redacted."""

    async def pids(self) -> frozenset[int]:
        """Every process of the service's tree."""


class ChangeAction(StrEnum):
    KEEP = "keep"
    START = "start"
    REPLACE = "replace"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Change:
    """What a deploy would do with a service, and why: one sentence a reason."""

    name: str
    action: ChangeAction
    why: tuple[str, ...]
