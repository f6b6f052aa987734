"""The keeper's process: one per service, started by `client`, apart from any terminal. Whoever started it may die."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time

from flawless.adapters.keeper import record as records
from flawless.adapters.keeper.control import Client
from flawless.adapters.keeper.orders import Keeper
from flawless.adapters.keeper.output import FIFO
from flawless.adapters.keeper.record import Record, State
from flawless.adapters.keeper.spec import KeeperSpec, SpecInvalid, from_line, to_line
from flawless.adapters.keeper.tree import identity

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any, Final

    Message = dict[str, Any]

LOCK: Final = "keeper.lock"
ERRORS: Final = "keeper.err"


def main() -> None:
    """The keeper's process. Its first order comes as one line through standard input, and is answered there.

    That may be long in coming, as a keeper is started ahead. Until then it holds nothing, and it ends when whoever
    would have given the order is gone.
    """
    folder = sys.argv[1]
    try:
        _serve(folder)
    except Exception:
        import traceback  # only now: it would be a twentieth of a keeper

        with contextlib.suppress(OSError):
            records.write_atomically(os.path.join(folder, ERRORS), traceback.format_exc().encode())
        raise
    os._exit(0)  # who ordered `stop` waits for our end, and the interpreter would take its time


def _serve(folder: str) -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    _silence_input()
    _load_the_rest()
    try:
        message = _first_message(connection)
    except SpecInvalid as error:
        _refuse(connection, f"no valid order: {error}")
        return
    if os.fork():  # whoever started us can forget us now: we are no child of theirs
        os._exit(0)
    lock = _take_lock(folder)
    if lock is None:
        _refuse(connection, "another keeper has this service")
        return
    keeper = _awaken(folder, lock, message)
    keeper.request(Client(keeper.loop, connection, keeper.request), message)
    while not keeper.is_finished:
        keeper.loop.turn()


def _load_the_rest() -> None:
    """What a keeper imports when it needs it; here that costs nothing, as the first order is still to come."""
    import ctypes  # noqa: F401 - for `tree.become_subreaper`


def _awaken(folder: str, lock: int, message: Message) -> Keeper:
    """The keeper, with what an earlier one may have left running in its hands."""
    old = records.read(folder)
    spec = KeeperSpec.from_json(message["spec"]) if message.get("spec") is not None else None
    has_output = os.path.lexists(os.path.join(folder, FIFO))
    keeper = Keeper(folder, lock, _first_record(os.path.basename(folder), spec, old))
    if spec:
        keeper.service.remember(spec)
    if has_output:
        keeper.service.adopt(old)
    if old and keeper.service.is_running and not (spec and keeper.service.knows(spec)):
        from flawless.adapters.keeper.origin import origin_of  # only where a keeper was killed

        keeper.service.spec = origin_of(old, folder, spec)  # what runs was not started from this one
        if spec:
            message["order"] = "replace"
    return keeper


def _first_record(service: str, spec: KeeperSpec | None, old: Record | None) -> Record:
    me = identity(os.getpid())
    assert me, "this process is alive"
    return Record(
        service=spec.service if spec else service,
        keeper=me,
        child=None,
        pgid=None,
        state=State.STOPPED,
        since=time.time(),
        ready=False,
        port=spec.port if spec else None,
        deploy_id=spec.deploy_id if spec else "",
        fingerprint=spec.fingerprint if spec else {},
        restarts=0,
        last_exit=old.last_exit if old else None,
        started_at=None,
        reason=None,
        armed=False,
        log=spec.log if spec else old.log if old else None,
        stop_timeout=spec.stop_timeout if spec else old.stop_timeout if old else 0.0,
    )


def _silence_input() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)


def _first_message(connection: socket.socket) -> Message:
    with connection.makefile("rb") as lines:
        message = from_line(lines.readline())
    if message.get("order") not in ("start", "adopt"):
        raise SpecInvalid("order: start or adopt is needed")
    if message["order"] == "start" or message.get("spec") is not None:
        KeeperSpec.from_json(message.get("spec"))
    return message


def _refuse(connection: socket.socket, error: str) -> None:
    with contextlib.suppress(OSError):  # who asked may be gone already
        connection.sendall(to_line({"ok": False, "error": error}))


def _take_lock(folder: str) -> int | None:
    """Held until this process ends, and by no child: the descriptor is not inherited."""
    descriptor = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
