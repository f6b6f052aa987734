"""honcho (pip). It has no orders: it starts everything, prints everything, and ends when one of them does."""

from __future__ import annotations

import signal
from typing import ClassVar

from peers.peer import Peer
from world import kill


class Honcho(Peer):
    name: ClassVar[str] = "honcho"
    programs: ClassVar[tuple[str, ...]] = ("honcho",)
    respawns: ClassVar[bool] = False

    def begin(self) -> None:
        lines = [f"{task.name}: {' '.join(task.command)}\n" for task in self.tasks]
        self.write("Procfile", "".join(lines))

    def start(self) -> None:
        with (self.logs / "all.log").open("ab") as log:
            self.daemon("honcho", "-f", self.folder / "Procfile", "start", stdout=log, stderr=log)

    def stop(self) -> None:
        kill(self.root, signal.SIGTERM)
