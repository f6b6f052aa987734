"""Who would start a process again: found by its control group, its ancestors, its environment; on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flawless.adapters.supervision import stack_of, supervision_of
from flawless.core.supervision import Supervision
from support.postgres import free_port
from support.strangers import stranger

HIERARCHY = Path("/sys/fs/cgroup/systemd")
CONTAINER = "0123456789ab" + "c" * 52


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A control group of the name asked for, as systemd or Docker would make it."""
    root = HIERARCHY if HIERARCHY.is_dir() else HIERARCHY.parent
    folder = root / request.param
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("no control group may be made here")
    try:
        yield folder
    finally:
        while folder != root:
            with suppress(OSError):  # the outer ones may be somebody else's
                folder.rmdir()
            folder = folder.parent


def found_in(group: Path) -> Supervision | None:
    enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    with stranger("127.0.0.1", free_port(), prefix=enter) as pid:
        return supervision_of(pid)


@pytest.mark.parametrize("group", ["flawless-test.slice/shop.service"], indirect=True)
def test_a_unit_of_systemd(group: Path) -> None:
    """A service of systemd is named, with the command that stops it for good."""
    assert found_in(group) == Supervision("systemd", "shop.service", "sudo systemctl disable --now shop.service")


@pytest.mark.parametrize("group", ["flawless-test.slice/user@1000.service/app.slice/shop.service"], indirect=True)
def test_a_unit_of_a_user(group: Path) -> None:
    """A user's own unit is stopped by that user's systemd."""
    found = found_in(group)
    assert found is not None
    assert found.stop == "systemctl --user disable --now shop.service"


@pytest.mark.parametrize(
    "group",
    [
        "flawless-test.slice/session-3.scope",
        "flawless-test.slice/user@1000.service/app.slice/vte-spawn-1.scope",
        "flawless-test.slice/getty@tty1.service",
    ],
    indirect=True,
)
def test_what_a_person_started(group: Path) -> None:
    """A process of somebody's terminal is nobody's unit."""
    assert found_in(group) is None


@pytest.mark.parametrize("group", [f"flawless-test.slice/docker-{CONTAINER}.scope"], indirect=True)
def test_a_container(group: Path) -> None:
    """A process in a container is stopped with it."""
    assert found_in(group) == Supervision("Docker", "container 0123456789ab", "docker stop 0123456789ab")


def parent_called(title: str) -> tuple[str, ...]:
    return ("bash", "-c", f"exec -a '{title}' bash -c '\"$@\"; true' x \"$@\"", "x")


def test_supervisord() -> None:
    """A child of supervisord is stopped by supervisorctl, by the name it was given."""
    environment = {"SUPERVISOR_PROCESS_NAME": "api", "SUPERVISOR_GROUP_NAME": "shop"}
    parent = parent_called("/usr/bin/supervisord -n")
    with stranger("127.0.0.1", free_port(), prefix=parent, environment=environment) as pid:
        found = supervision_of(_child_of(pid))
    assert found is not None
    assert found.by == "supervisord"
    assert found.stop == "supervisorctl stop shop:api"


BELOW = """
import sys
from flawless.adapters.supervision import supervision_of
from support.postgres import free_port
from support.strangers import stranger
for mark in ("0", "1"):
    with stranger("127.0.0.1", free_port(), environment={"pm_id": mark, "name": "api"}) as pid:
        print(supervision_of(pid) and supervision_of(pid).by)
"""


def test_the_daemon_that_runs_us_too() -> None:
    """Below a PM2 that runs us as well, a process is PM2's only when it has a mark of its own."""
    argv = [*parent_called("PM2 v6.0.5: God Daemon"), sys.executable, "-c", BELOW]
    environment = {**os.environ, "pm_id": "0", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["None", "PM2"]


def test_nobody(tmp_path: Path) -> None:
    """A process that nobody looks after, one that is gone, one that is no stack's."""
    with stranger("127.0.0.1", free_port()) as pid:
        assert supervision_of(pid) is None
        assert stack_of(pid) is None
    assert supervision_of(pid) is None
    assert stack_of(pid) is None
    with stranger("127.0.0.1", free_port(), environment={"FLAWLESS_DEPLOY_ID": "x"}, folder=str(tmp_path)) as pid:
        assert stack_of(pid) == str(tmp_path)
    assert supervision_of(os.getpid()) is None


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
