"""monit (distribution). It looks once a second and finds processes by their pid files."""

from __future__ import annotations

from typing import ClassVar

from peers.peer import Peer
from world import Task, until

_MAIN = """set daemon 1
set pidfile {folder}/monit.pid
set statefile {folder}/state
set idfile {folder}/id
set httpd unixsocket {folder}/sock
    allow localhost
"""
_PROCESS = """check process {name} with pidfile {folder}/{name}.pid
    start program = "{folder}/{name}.start"
    stop program = "/bin/sh -c 'kill `cat {folder}/{name}.pid`'"
"""
_START = """#!/bin/sh
{command} >>{logs}/{name}.log 2>&1 &
echo $! >{folder}/{name}.pid
"""


class Monit(Peer):
    name: ClassVar[str] = "monit"
    programs: ClassVar[tuple[str, ...]] = ("monit",)

    def begin(self) -> None:
        config = self.write("monitrc", _MAIN.format(folder=self.folder) + "".join(map(self._process, self.tasks)))
        config.chmod(0o600)
        (self.folder / "sock").unlink(missing_ok=True)  # of one that was killed
        self.daemon("monit", "-I", "-c", config)
        until((self.folder / "sock").exists, "monit listens")

    def start(self) -> None:
        """It starts what does not run by itself, in its first round."""

    def stop(self) -> None:
        self.order("monit", "-c", self.folder / "monitrc", "stop", "all", codes=())

    def status(self) -> None:
        self.order("monit", "-c", self.folder / "monitrc", "summary", codes=())

    def _process(self, task: Task) -> str:
        start = _START.format(command=" ".join(task.command), name=task.name, folder=self.folder, logs=self.logs)
        self.write(f"{task.name}.start", start, executable=True)
        return _PROCESS.format(name=task.name, folder=self.folder)
