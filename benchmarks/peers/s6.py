"""s6 (distribution)."""

from __future__ import annotations

from typing import ClassVar

from peers.peer import Peer
from world import Task, until

_RUN = "#!/bin/sh\nexec 2>&1\nNOTIFY=3 exec {command}\n"
_LOG = "#!/bin/sh\nexec s6-log n30 s10000000 {logs}\n"


class S6(Peer):
    """The service writes a line into a descriptor when it is ready (notification-fd)."""

    name: ClassVar[str] = "s6"
    programs: ClassVar[tuple[str, ...]] = ("s6-svscan", "s6-supervise", "s6-svc", "s6-svstat", "s6-log")
    orders_by_readiness: ClassVar[bool] = True

    def begin(self) -> None:
        for task in self.tasks:
            self._write_service(task)
        self.daemon("s6-svscan", self.folder / "services")
        for task in self.tasks:
            until((self.folder / "services" / task.name / "supervise" / "status").exists, "s6-supervise is up")

    def start(self) -> None:
        for task in self.tasks:
            self.order("s6-svc", "-uwU", "-T", "10000", self._folder(task))

    def stop(self) -> None:
        for task in self.tasks:
            self.order("s6-svc", "-d", self._folder(task))

    def status(self) -> None:
        for task in self.tasks:
            self.order("s6-svstat", self._folder(task))

    def _folder(self, task: Task) -> str:
        return str(self.folder / "services" / task.name)

    def _write_service(self, task: Task) -> None:
        base = f"services/{task.name}"
        self.write(f"{base}/run", _RUN.format(command=" ".join(task.command)), executable=True)
        self.write(f"{base}/log/run", _LOG.format(logs=self.logs / task.name), executable=True)
        self.write(f"{base}/timeout-kill", f"{int(task.stop_timeout * 1000)}\n")
        self.write(f"{base}/notification-fd", "3\n")
        self.write(f"{base}/down", "")
