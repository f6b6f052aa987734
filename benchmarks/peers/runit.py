"""runit (distribution)."""

from __future__ import annotations

from typing import ClassVar

from peers.peer import Peer
from world import Task, until

_RUN = "#!/bin/sh\nexec 2>&1\nexec {command}\n"
_LOG = "#!/bin/sh\nexec svlogd {logs}\n"
_CHECK = "#!/bin/sh\nexec test -e {ready}\n"


class Runit(Peer):
    """`sv start` waits for the check script of each service in turn."""

    name: ClassVar[str] = "runit"
    programs: ClassVar[tuple[str, ...]] = ("runsvdir", "runsv", "sv", "svlogd")
    orders_by_readiness: ClassVar[bool] = True

    def begin(self) -> None:
        for task in self.tasks:
            self._write_service(task)
        self.daemon("runsvdir", self.folder / "services")
        until(self._is_up, "runsv is up")

    def start(self) -> None:
        for task in self.tasks:
            self.order("sv", "-w", "10", "start", self._folder(task))

    def stop(self) -> None:
        longest = max(task.stop_timeout for task in self.tasks)
        self.order("sv", "-w", str(int(longest)), "force-stop", *map(self._folder, self.tasks), codes=())

    def status(self) -> None:
        self.order("sv", "status", *map(self._folder, self.tasks), codes=())

    def _is_up(self) -> bool:
        told = self.order("sv", "status", *map(self._folder, self.tasks), codes=())
        return told.startswith(("down:", "run:")) and "runsv not running" not in told and "unable" not in told

    def _folder(self, task: Task) -> str:
        return str(self.folder / "services" / task.name)

    def _write_service(self, task: Task) -> None:
        base, logs = f"services/{task.name}", self.logs / task.name
        logs.mkdir(exist_ok=True)
        (logs / "config").write_text("s10000000\nn30\n", encoding="ascii")
        self.write(f"{base}/run", _RUN.format(command=" ".join(task.command)), executable=True)
        self.write(f"{base}/log/run", _LOG.format(logs=logs), executable=True)
        self.write(f"{base}/check", _CHECK.format(ready=self.ready_file(task)), executable=True)
        self.write(f"{base}/down", "")
