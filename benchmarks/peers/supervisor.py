"""supervisor (pip)."""

from __future__ import annotations

from typing import ClassVar

from peers.peer import Peer
from world import until

_MAIN = """[unix_http_server]
file={folder}/sock
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/sock
"""
_PROGRAM = """[program:{name}]
command={command}
autostart=false
autorestart=true
startsecs=0
stopwaitsecs={stop}
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=20
redirect_stderr=true
"""


class Supervisor(Peer):
    name: ClassVar[str] = "supervisor"
    programs: ClassVar[tuple[str, ...]] = ("supervisord", "supervisorctl")

    def begin(self) -> None:
        sections = [
            _PROGRAM.format(name=task.name, command=" ".join(task.command), stop=int(task.stop_timeout), logs=self.logs)
            for task in self.tasks
        ]
        config = self.write("supervisord.conf", _MAIN.format(folder=self.folder) + "".join(sections))
        (self.folder / "sock").unlink(missing_ok=True)  # of one that was killed
        self.daemon("supervisord", "-c", config)
        until((self.folder / "sock").exists, "supervisord listens")

    def start(self) -> None:
        self._ask("start", "all")

    def stop(self) -> None:
        self._ask("stop", "all")

    def status(self) -> None:
        self._ask("status")

    def _ask(self, *words: str) -> None:
        self.order("supervisorctl", "-c", self.folder / "supervisord.conf", *words, codes=())
