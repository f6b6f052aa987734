"""Flawless as one of the contenders: a manifest for the same tasks, the command line, keepers spoken to directly."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from figures import median
from flawless.adapters.keeper import record
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.spec import KeeperSpec, LogRule, RestartRule
from world import Ran, Task, World, environment, run

REFERENCE: Final = Path(__file__).resolve().parent.parent
"""Where the reference stack and its manifest are."""
ENDLESSLY: Final = RestartRule((0.0,), 1000, 300.0, 600.0)

_SERVICE: Final = """
[services.{name}]
role = "{role}"
command = {command}
after = {after}
stop_timeout = "{stop}s"
ready = [{probe}]
"""
_DATABASE: Final = """
[database]
url = "embedded"
tables = ["projects"]
[database.migrate]
tool = "alembic"
directory = "backend"
"""


class Ours:
    """A stack of its own in a world, as a user would have it."""

    def __init__(
        self, world: World, tasks: Sequence[Task] = (), *, database: bool = False, stable: float = 0.1
    ) -> None:
        """`stable`: seconds that what became ready must stay so."""
        self.world = world
        self.tasks = tasks
        self.folder = world.folder / "stack"
        self.folder.mkdir()
        self.logs = self.folder / "logs" / "services"
        if database:
            copy_folder(REFERENCE / "stack" / "backend", self.folder / "backend")
        head = f'name = "bench"\n[timeouts]\nstable = "{stable}s"\n'
        self.write(head + (_DATABASE if database else "") + "".join(self._services()))

    def write(self, manifest: str) -> None:
        (self.folder / "flawless.toml").write_text(manifest, encoding="utf-8")

    def run(self, *words: str, codes: tuple[int, ...] = (0,), variables: Mapping[str, str] | None = None) -> Ran:
        """One command line, to its end."""
        return run([sys.executable, "-m", "flawless", *words], self.folder, variables, codes)

    def remove(self, variables: Mapping[str, str] | None = None) -> None:
        """Ends all of it, and removes the database, which root has outside of the folder."""
        for words in (("stop", "--all"), ("-y", "db", "remove")):
            self.run(*words, codes=(), variables=variables)

    def report(self) -> dict[str, Any]:
        """The newest report."""
        newest = max((self.folder / "logs").glob("deploy-report-*.json"))
        report: dict[str, Any] = json.loads(newest.read_bytes())
        return report

    def keepers(self) -> list[int]:
        """The pids of our processes; the services aside."""
        found = [record.read(folder) for folder in (self.folder / ".flawless" / "run").iterdir()]
        return [one.keeper.pid for one in found if one]

    def _services(self) -> list[str]:
        """Each after the one before it."""
        before = ["", *(task.name for task in self.tasks)]
        return [
            _SERVICE.format(
                name=task.name,
                role="worker" if task.port is None else "backend",
                command=json.dumps(task.command),
                after=json.dumps([name] if name else []),
                stop=task.stop_timeout,
                probe='{ http = "/" }' if task.port else "",
            )
            + (f"port = {task.port}\n" if task.port else "")
            for task, name in zip(self.tasks, before, strict=False)
        ]


def to_note(rans: Sequence[Ran]) -> str:
    return f"{median([ran.cpu for ran in rans]) * 1000:.0f} ms of processor time"


def copy_folder(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".flawless", "logs"))


def spec(world: World, task: Task, *, redact: tuple[str, ...] = (), restart: RestartRule = ENDLESSLY) -> KeeperSpec:
    """What a keeper is told, where the command line would only be in the way of the figure."""
    folder = world.folder / "keepers"
    folder.mkdir(exist_ok=True)
    return KeeperSpec(
        service=task.name,
        command=(shutil.which(task.command[0]) or task.command[0], *task.command[1:]),
        directory=str(folder),
        environment=environment(),
        run_folder=str(folder / "run" / task.name),
        log=LogRule(str(folder / "logs")),
        deploy_id="20261123T141502Z-3f9c2a",
        redact=redact,
        stop_timeout=task.stop_timeout,
        restart=restart,
    )


async def kept(world: World, task: Task, **details: Any) -> Keeper:
    """A service in the hands of its keeper, after a good verdict."""
    keeper = await Keeper.spawn(spec(world, task, **details))
    await keeper.ready(value=True)
    await keeper.commit()
    return keeper


def child(keeper: Keeper) -> int:
    assert keeper.record.child, keeper.record
    return keeper.record.child.pid
