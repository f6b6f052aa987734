"""Databases whose project is gone: found, shown, and removed after a yes; nobody else's is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.postgres import need_wheel
from support.stacks import Done, Stack, lives, until

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root has databases outside of their projects"
)
PROJECT: Final = 'name = "shop"\n[database]\nurl = "embedded"\n'
_PLACE: Final = "from pathlib import Path\nfrom flawless.adapters.postgres import place"


class Clusters:
    """Projects of root, and the folder that stands for /var/lib/flawless."""

    def __init__(self, stack: Stack, system: Path) -> None:
        self.stack = stack
        self.system = system
        self._elsewhere = f"{_PLACE}\nplace.SYSTEM_FOLDER = Path({str(system)!r})"

    def run(self, *words: str, breaking: str = "") -> Done:
        return self.stack.run(*words, mutation=f"{self._elsewhere}\n{breaking}")

    def started(self, name: str) -> Path:
        """The place of a new project's cluster, whose server runs."""
        folder = self.stack.folder / name
        folder.mkdir()
        (folder / "flawless.toml").write_text(PROJECT)
        self.of(name, "start")
        return Path(json.loads((folder / ".flawless/postgres/state.json").read_bytes())["data_directory"]).parent

    def stopped(self, name: str) -> Path:
        home = self.started(name)
        self.of(name, "stop")
        return home

    def of(self, name: str, *words: str) -> None:
        done = self.run("-c", f"{name}/flawless.toml", "db", *words)
        assert done.exit_code == 0, done.output

    def orphans(self, *words: str, breaking: str = "") -> dict[str, Any]:
        done = self.run("db", "remove", "--orphans", "-y", "--json", *words, breaking=breaking)
        assert done.exit_code == 0, done.output
        told: dict[str, Any] = json.loads(done.stdout)
        return told


@pytest.fixture
def clusters(stack: Stack) -> Iterator[Clusters]:
    need_wheel()
    system = Path(tempfile.mkdtemp(prefix="flawless-system-"))
    system.chmod(0o755)
    try:
        yield Clusters(stack, system)
    finally:
        shutil.rmtree(system)


def test_while_anything_of_the_stack_runs_it_is_named_and_nothing_is_removed(clusters: Clusters) -> None:
    """A service with its keeper, and the server: stop --all comes first, whoever says yes."""
    stack = clusters.stack
    stack.service("backend")
    stack.manifest["database"] = {"url": "embedded"}
    assert clusters.run("deploy").exit_code == 0
    home = Path(json.loads((stack.folder / ".flawless/postgres/state.json").read_bytes())["data_directory"]).parent

    refused = clusters.run("db", "remove", "-y")
    assert refused.exit_code == 1, "it is a state, and no wrong use"
    assert "shop still runs: backend (pid " in refused.stderr
    assert f"{stack.keeper('backend')}" in refused.stderr
    assert "the embedded database (pid " in refused.stderr
    assert stack.is_served("backend")

    assert clusters.run("stop", "--all").exit_code == 0
    assert clusters.run("db", "remove", "-y").stdout == f"removed {home}\n"
    assert not home.exists()
    done = clusters.run("deploy")
    assert done.exit_code == 0, "the next deploy makes a database as the first one did"


def test_a_database_whose_project_was_deleted_is_shown_and_removed(clusters: Clusters) -> None:
    """Shown first, with its size and whose it was; removed after a yes; the one beside it keeps its data."""
    gone, kept = clusters.stopped("gone"), clusters.stopped("kept")
    shutil.rmtree(clusters.stack.folder / "gone")

    shown = clusters.run("db", "remove", "--orphans")

    assert shown.exit_code == 64
    assert f"{gone}: " in shown.stderr
    assert f"of {clusters.stack.folder / 'gone'}, which is gone" in " ".join(shown.stderr.split())
    assert str(kept) not in shown.stderr
    assert gone.is_dir()

    done = clusters.run("db", "remove", "--orphans", "-y")

    assert (done.exit_code, done.stdout) == (0, f"removed {gone}\n")
    assert not gone.exists()
    assert kept.is_dir()
    assert "nothing to remove" in clusters.run("db", "remove", "--orphans", "-y").stdout
    clusters.of("kept", "start")
    clusters.of("kept", "stop")


def test_a_database_whose_state_was_deleted_belongs_to_its_project_still(clusters: Clusters) -> None:
    """Without `.flawless` it is no orphan, and the project's own removal finds it where it must be."""
    home = clusters.stopped("kept")
    shutil.rmtree(clusters.stack.folder / "kept/.flawless")

    assert clusters.orphans()["removed"] == []
    clusters.of("kept", "remove", "-y")

    assert not home.exists()


def test_what_may_still_be_somebodys_is_left_and_said(clusters: Clusters) -> None:
    """A running server, a cluster of which nobody noted whose it is, a disk that is not there: each with its reason."""
    running, unknown, unmounted = clusters.started("running"), clusters.stopped("unknown"), clusters.stopped("far")
    (unknown / "project.json").unlink()
    note = json.loads((unmounted / "project.json").read_bytes())
    (unmounted / "project.json").write_text(json.dumps(note | {"device": note["device"] + 1}))
    shutil.move(clusters.stack.folder / "running", clusters.stack.folder / "moved")
    for name in ("unknown", "far"):
        shutil.rmtree(clusters.stack.folder / name)

    told = clusters.orphans()

    reasons = {one["folder"]: one["because"] for one in told["kept"]}
    assert told["removed"] == []
    assert "its server runs, pid " in reasons[str(running)]
    assert "not written down" in reasons[str(unknown)]
    assert "another disk" in reasons[str(unmounted)]
    assert all(home.is_dir() for home in (running, unknown, unmounted))
    [pid] = re.findall(r"kill -INT (\d+), and ask again", reasons[str(running)])
    os.kill(int(pid), signal.SIGINT)
    until(lambda: not lives(int(pid)), "what was told ends the server in good order")
    assert clusters.orphans()["removed"] == [
        {"folder": str(running), "project": str(clusters.stack.folder / "running")}
    ]


def test_a_project_that_was_moved_keeps_its_database(clusters: Clusters) -> None:
    """Its next start writes down where it is now; who comes to its old place gets a database of their own."""
    home = clusters.stopped("before")
    shutil.move(clusters.stack.folder / "before", clusters.stack.folder / "after")
    clusters.of("after", "start")
    clusters.of("after", "stop")

    assert clusters.orphans() == {"schema_version": 1, "removed": [], "kept": []}
    assert clusters.stopped("before") not in {home, clusters.system}
    clusters.of("before", "remove", "-y")
    assert list((home / "..").resolve().iterdir()) == [home]
    clusters.of("after", "start")
    clusters.of("after", "stop")


def test_without_the_look_at_the_project_a_living_one_would_lose_its_database(clusters: Clusters) -> None:
    """That its project is gone is what makes an orphan: a product that does not look removes another's data."""
    home = clusters.stopped("kept")

    clusters.orphans(breaking="place.Outside.is_orphan = lambda self: True")

    assert not home.exists()
