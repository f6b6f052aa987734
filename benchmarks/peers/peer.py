"""What every peer can be asked to do."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from world import Task, World, descendants, launch, run


class Peer(ABC):
    """One supervisor, alone in a world of its own, with three orders: begin (itself), start and stop (the services)."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    """All must be on the PATH, or the peer is skipped."""
    orders_by_readiness: ClassVar[bool] = False
    """Whether it can start a service when the one before it has said that it is ready."""
    respawns: ClassVar[bool] = True

    def __init__(self, world: World, tasks: Sequence[Task]) -> None:
        self.world = world
        self.tasks = tasks
        self.folder = world.folder / "peer"
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.root = 0

    @classmethod
    def is_installed(cls) -> bool:
        return all(shutil.which(program) for program in cls.programs)

    @abstractmethod
    def begin(self) -> None:
        """The supervisor itself is up; no service is."""

    @abstractmethod
    def start(self) -> None:
        """Every service is started; in order of readiness, and returns when the last is, where the peer can."""

    @abstractmethod
    def stop(self) -> None:
        """Every service is told to stop."""

    def status(self) -> None:
        """Shows what runs."""
        raise NotImplementedError(f"{self.name} has no such command")

    def processes(self, services: Iterable[int] = ()) -> list[int]:
        """The peer's own processes, its services aside."""
        theirs = {each for pid in services for each in (pid, *descendants(pid))}
        return [pid for pid in (self.root, *descendants(self.root)) if pid not in theirs]

    def daemon(self, *command: str | Path, **details: object) -> None:
        self.root = launch(command, self.folder, **details).pid

    def order(self, *command: str | Path, codes: tuple[int, ...] = (0,)) -> str:
        return run(command, self.folder, self.variables(), codes).output

    def variables(self) -> dict[str, str]:
        return {}

    def write(self, name: str, text: str, *, executable: bool = False) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if executable:
            path.chmod(0o755)
        return path

    def ready_file(self, task: Task) -> Path:
        """Is there once the service has said that it is ready."""
        return Path(f"{self.world.events.path}.{task.name}.ready")
