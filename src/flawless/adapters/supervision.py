"""Who would start a process again if it were stopped: systemd, PM2, supervisord, a container, another Flawless stack.

Linux tells by a process's control group, its ancestors and its environment (proc(5)); what may not be read is not
known. Elsewhere only the ancestors are.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from flawless.core.supervision import Supervision

_UNIT: Final = re.compile(r"/([^/\s]+\.(?:service|scope))(?=/|\s|$)")
_CONTAINER: Final = re.compile(r"(?:docker[-/]|/libpod-|cri-containerd-)([0-9a-f]{12})[0-9a-f]{52}")
_SUPERVISORD: Final = re.compile(r"(?:^|[/ ])supervisord(?: |$)")
_NOBODYS: Final = re.compile(r"^(?:user@\d+|session-.*|getty@.*|sshd?(@.*)?|cron|crond|dbus)\.service$")
"""Units that carry whatever a person starts: a login, a terminal, a cron job."""


def supervision_of(pid: int) -> Supervision | None:
    """Who looks after this process; None when nobody does, or when it cannot be known."""
    groups = _read(pid, "cgroup").decode(errors="replace")
    return _container(groups) or _by_ancestors(pid) or _unit(groups)


def stack_of(pid: int) -> str | None:
    """The folder in which a service of a Flawless stack runs; None for any other process."""
    if "FLAWLESS_DEPLOY_ID" not in _environment(pid):
        return None
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/cwd").readlink())
    return None


def _container(groups: str) -> Supervision | None:
    found = _CONTAINER.search(groups)
    if found is None or found[0] in _read_own_groups():
        return None
    return Supervision("Docker", f"container {found[1]}", f"docker stop {found[1]}")


def _unit(groups: str) -> Supervision | None:
    """The service that is the innermost unit, unless we run in it ourselves; a scope starts nothing again."""
    own = set(_UNIT.findall(_read_own_groups()))
    units = [units[-1] for line in groups.splitlines() if (units := _UNIT.findall(line))]
    unit = next((unit for unit in units if unit.endswith(".service") and unit not in own), "")
    if not unit or _NOBODYS.match(unit):
        return None
    user = " --user" if "/user@" in groups else ""
    stop = f"{'' if user else 'sudo '}systemctl{user} disable --now {shlex.quote(unit)}"
    return Supervision("systemd", unit, stop)


def _by_ancestors(pid: int) -> Supervision | None:
    environment = _environment(pid)
    for ancestor, command in _ancestors(pid):
        if "God Daemon" in command and _is_charge(ancestor, environment, "pm_id"):
            name = environment.get("name") or environment.get("pm_id") or "all"
            return Supervision("PM2", f"{name} (daemon {ancestor})", f"pm2 delete {shlex.quote(name)}")
        if _SUPERVISORD.search(command) and _is_charge(ancestor, environment, "SUPERVISOR_PROCESS_NAME"):
            name = environment.get("SUPERVISOR_PROCESS_NAME", "all")
            group = environment.get("SUPERVISOR_GROUP_NAME", name)
            full = name if group == name else f"{group}:{name}"
            return Supervision("supervisord", f"{full} (daemon {ancestor})", f"supervisorctl stop {shlex.quote(full)}")
    return None


def _is_charge(daemon: int, environment: Mapping[str, str], mark: str) -> bool:
    """Whether the daemon looks after the process.

    One that we descend from ourselves (the first process of a container) is everybody's ancestor: there only the mark
    that it gives to each of its charges tells.
    """
    if daemon not in {ancestor for ancestor, _ in _ancestors(os.getpid())}:
        return True
    return environment.get(mark) not in {None, os.environ.get(mark)}


def _ancestors(pid: int) -> Iterator[tuple[int, str]]:
    import psutil

    with suppress(psutil.Error):
        for parent in psutil.Process(pid).parents():
            with suppress(psutil.Error):
                yield parent.pid, " ".join(parent.cmdline()) or parent.name()


def _environment(pid: int) -> dict[str, str]:
    pairs = (one.partition("=") for one in _read(pid, "environ").decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _read_own_groups() -> str:
    return _read(os.getpid(), "cgroup").decode(errors="replace")


def _read(pid: int, file: str) -> bytes:
    if sys.platform == "linux":
        with suppress(OSError):  # another user's, or gone
            return Path(f"/proc/{pid}/{file}").read_bytes()
    return b""
