"""circus (pip)."""

from __future__ import annotations

from typing import ClassVar

from peers.peer import Peer
from world import Task, environment, free_port

_MAIN = """[circus]
endpoint = tcp://127.0.0.1:{endpoint}
pubsub_endpoint = tcp://127.0.0.1:{pubsub}
check_delay = 1
"""
_WATCHER = """[watcher:{name}]
cmd = {command}
numprocesses = 1
copy_env = true
max_retry = -1
warmup_delay = 0
priority = {priority}
graceful_timeout = {stop}
hooks.after_start = hooks.{name}
stdout_stream.class = FileStream
stdout_stream.filename = {logs}/{name}.log
stdout_stream.max_bytes = 10000000
stdout_stream.backup_count = 20
"""
_HOOK = """
def {name}(*args, **kwargs):
    return wait({path!r})
"""
_HOOKS = """
import os, time
def wait(path):
    deadline = time.monotonic() + {wait}
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)
    return True
"""


class Circus(Peer):
    """Its hook after a start holds the next watcher up until the service is ready."""

    name: ClassVar[str] = "circus"
    programs: ClassVar[tuple[str, ...]] = ("circusd", "circusctl")
    orders_by_readiness: ClassVar[bool] = True

    def begin(self) -> None:
        self.endpoint = free_port()
        main = _MAIN.format(endpoint=self.endpoint, pubsub=free_port())
        watchers = [self._watcher(place, task) for place, task in enumerate(self.tasks)]
        self.write("circus.ini", main + "".join(watchers))
        hooks = [_HOOK.format(name=task.name, path=str(self.ready_file(task))) for task in self.tasks]
        self.write("hooks.py", _HOOKS.format(wait=5) + "".join(hooks))

    def start(self) -> None:
        """It has no order that starts its watchers by readiness; it does so when it starts itself."""
        variables = environment() | {"PYTHONPATH": str(self.folder)}
        self.daemon("circusd", self.folder / "circus.ini", env=variables)

    def stop(self) -> None:
        self.order("circusctl", *self._address(), "stop", "--waiting", codes=())

    def status(self) -> None:
        self.order("circusctl", *self._address(), "status")

    def _watcher(self, place: int, task: Task) -> str:
        return _WATCHER.format(
            name=task.name,
            command=" ".join(task.command),
            priority=100 - place,
            stop=task.stop_timeout,
            logs=self.logs,
        )

    def _address(self) -> tuple[str, ...]:
        return "--endpoint", f"tcp://127.0.0.1:{self.endpoint}", "--timeout", "60"
