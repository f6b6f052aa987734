"""How a living process was started, read from the process itself: its keeper was killed together with what it knew.

Linux alone tells (proc(5)); what may have been changed since by the process (its title is kept where its arguments and
its environment are) is not believed. What is read stays in memory, like every spec.
"""

from __future__ import annotations

import os

from flawless.adapters.keeper.child import environment_values
from flawless.adapters.keeper.record import Record
from flawless.adapters.keeper.spec import KeeperSpec, RestartRule
from flawless.adapters.keeper.tree import is_alive

_DELETED = " (deleted)"


def origin_of(old: Record, run_folder: str, given: KeeperSpec | None) -> KeeperSpec | None:
    """What would start the process of this record as it was started; None where that cannot be told for certain.

    `given` is what is to run in its place: what both have in their environments is a secret only if it says so.
    """
    if old.child is None or old.log is None:
        return None
    proc = f"/proc/{old.child.pid}"
    try:
        words, variables = _texts(f"{proc}/cmdline"), _texts(f"{proc}/environ")
        directory, program = os.readlink(f"{proc}/cwd"), os.readlink(f"{proc}/exe")
    except OSError:
        return None
    environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
    path = _path_of(words[0], directory, program, environment.get("PATH", "")) if words else None
    is_whole = len(environment) == len(variables) and environment.get("FLAWLESS_DEPLOY_ID") == old.deploy_id
    if path is None or not is_whole or not os.path.isdir(directory) or not is_alive(old.child):
        return None
    common = set(given.environment.values()) if given else set()
    secrets = {value for value in environment_values(old.child) if value not in common}
    return KeeperSpec(
        service=old.service,
        command=(path, *words[1:]),
        directory=directory,
        environment=environment,
        run_folder=run_folder,
        log=old.log,
        deploy_id=old.deploy_id,
        redact=tuple(sorted({*secrets, *(given.redact if given else ())})),
        fingerprint=old.fingerprint,
        stop_timeout=old.stop_timeout,
        port=old.port,
        restart=given.restart if given else RestartRule(),
    )


def _texts(file: str) -> list[str]:
    """Words that each end in NUL."""
    with open(file, "rb") as stream:
        *texts, rest = stream.read().split(b"\0")
    return [] if rest else [os.fsdecode(text) for text in texts]


def _path_of(word: str, directory: str, program: str, search: str) -> str | None:
    """Where the program is that was called so: it was found on its own PATH when it was called by its name alone."""
    if word.startswith("/"):
        return word if os.access(word, os.X_OK) else None
    folders = [directory] if "/" in word else search.split(os.pathsep)
    paths = [os.path.join(directory, folder, word) for folder in folders]
    runs = program.removesuffix(_DELETED)
    return next((path for path in paths if os.path.realpath(path) == runs and os.access(path, os.X_OK)), None)
