"""PM2 (npm)."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from peers.peer import Peer
from world import Task


class Pm2(Peer):
    """Started one after another, each waiting for the word `ready` on its channel."""

    name: ClassVar[str] = "PM2"
    programs: ClassVar[tuple[str, ...]] = ("pm2",)
    orders_by_readiness: ClassVar[bool] = True

    def begin(self) -> None:
        apps = {"apps": [self._app(task) for task in self.tasks]}
        self.write("apps.json", json.dumps(apps))
        self.order("pm2", "ping")
        self.root = int((self.folder / "pm2.pid").read_text())

    def start(self) -> None:
        self.order("pm2", "start", self.folder / "apps.json")

    def stop(self) -> None:
        self.order("pm2", "stop", "all", codes=())

    def status(self) -> None:
        self.order("pm2", "ls")

    def variables(self) -> dict[str, str]:
        return {"PM2_HOME": str(self.folder), "PM2_CONCURRENT_ACTIONS": "1", "PM2_DISCRETE_MODE": "1"}

    def _app(self, task: Task) -> dict[str, Any]:
        return {
            "name": task.name,
            "script": task.command[0],
            "args": list(task.command[1:]),
            "interpreter": "none",
            "exec_mode": "fork",
            "wait_ready": True,
            "listen_timeout": 10_000,
            "kill_timeout": int(task.stop_timeout * 1000),
            "max_restarts": 10_000,
            "min_uptime": 0,
            "out_file": str(self.logs / f"{task.name}.log"),
            "error_file": str(self.logs / f"{task.name}.err"),
            "merge_logs": True,
        }
