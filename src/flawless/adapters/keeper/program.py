"""The keeper: one process per service, the only place where that service is started and ended.

Started by `client`, apart from any terminal. It needs nobody: whoever gave the order may die.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Generator

from flawless.adapters.keeper import record as records
from flawless.adapters.keeper.budget import Budget
from flawless.adapters.keeper.child import CannotStart, Child, Ending, environment_values
from flawless.adapters.keeper.control import Client, Control
from flawless.adapters.keeper.loop import Loop, Timer
from flawless.adapters.keeper.memory import oom_kills
from flawless.adapters.keeper.output import FIFO, REMEMBERED, Output
from flawless.adapters.keeper.policy import Crash, GiveUp, Respawn, decide
from flawless.adapters.keeper.record import Exit, ExitKind, Record, State
from flawless.adapters.keeper.spec import KeeperSpec, SpecInvalid, from_line, to_line
from flawless.adapters.keeper.tree import identity

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any, Final

LOCK: Final = "keeper.lock"
ERRORS: Final = "keeper.err"

if TYPE_CHECKING:
    Message = dict[str, Any]
Work = Generator[None, None, None]
"""An order being carried out; it yields when it must wait for the tree to be gone."""


class Refused(Exception):
    """An order that cannot be carried out now, and why."""


class Job:
    """An order that may take time, and who waits for its answer."""

    def __init__(self, order: str, work: Work, client: Client | None) -> None:
        self.order = order
        self.work = work
        self.clients = [client] if client else []


class Keeper:
    """Carries out orders one after the other, and what a crash asks for when there are none."""

    def __init__(self, folder: str, lock: int, record: Record) -> None:
        self.is_finished = False
        self._folder = folder
        self._lock = lock
        self._record = record
        self._spec: KeeperSpec | None = None
        self._previous: KeeperSpec | None = None
        self._is_proven = False
        self._armed_at = 0.0
        self._was_ready = False
        self._unproven = 0
        self._oom_kills = oom_kills()
        self._ending: Ending | None = None
        self._retry: Timer | None = None
        self._jobs: deque[Job] = deque()
        self._active: Job | None = None
        self.loop = Loop()
        self._budget = Budget(folder, record.service)
        self._child = Child(self.loop, self._child_ended)
        self._output = Output(folder, self.loop)
        self._control = Control(folder, self.loop, self.request)
        self.loop.on_signals({signal.SIGCHLD: self._on_child_signal, signal.SIGTERM: self.stop})

    # --- orders ---

    def request(self, client: Client, message: Message) -> None:
        """Answer at once, or take the order into the queue."""
        order = str(message.get("order"))
        if order in self._ANSWERS:
            try:
                client.send({"ok": True} | self._ANSWERS[order](self, client, message))
            except Refused as refusal:
                client.send(self._refusal(refusal))
        elif order == "stop":
            self.stop(client)
        elif order in self._WORKS:
            self._jobs.append(Job(order, self._WORKS[order](self, message), client))
            self._proceed()
        else:
            client.send({"ok": False, "error": "unknown order"})

    def stop(self, client: Client | None = None) -> None:
        """Before all other orders; those still waiting are refused, and another stop is joined."""
        if self._active and self._active.order == "stop":
            self._active.clients += [client] if client else []
            return
        for job in [*([self._active] if self._active else []), *self._jobs]:
            job.work.close()
            self._answer(job, self._refusal(Refused("the service is being stopped")))
        self._active = None
        self._jobs = deque([Job("stop", self._stop({}), client)])
        self._proceed()

    def expect(self, spec: KeeperSpec | None, old: Record | None) -> None:
        """What prints from here on. Without a spec every value in the environment of the child counts as a secret."""
        if spec:
            self._output.expect(spec.service, spec.log, spec.redact)
        elif old and old.log:
            self._output.expect(old.service, old.log, environment_values(old.child) if old.child else ())

    def runs_other_than(self, spec: KeeperSpec | None) -> bool:
        """Whether the process that was taken over was started from something else."""
        return bool(spec and self._child.process and dict(spec.fingerprint) != dict(self._record.fingerprint))

    def adopt(self, old: Record | None) -> None:
        """Take over what an earlier keeper left running: the process it wrote down, and whatever prints here."""
        if old is None:
            self._child.adopt(None, 0.0, self._output.identify())
            return
        age = max(0.0, time.time() - old.started_at) if old.started_at else 0.0
        self._child.adopt(old.child, age, self._output.identify())
        if self._child.process:
            self._armed_at = self._child.started
            self._was_ready = old.ready
            self._record = old._replace(keeper=self._record.keeper)

    def _proceed(self) -> None:
        while self._active is None and self._jobs:
            self._active = self._jobs.popleft()
            self._advance(self._active)

    def _advance(self, job: Job) -> None:
        try:
            next(job.work)
        except StopIteration:
            self._active = None
            self._answer(job, self._facts())
        except (Refused, SpecInvalid) as refusal:
            self._active = None
            self._answer(job, self._refusal(refusal))

    def _answer(self, job: Job, answer: Message) -> None:
        for client in job.clients:
            client.send(answer)

    def _facts(self) -> Message:
        return {"ok": True, "record": self._record.to_json()}

    def _refusal(self, refusal: Exception) -> Message:
        return {"ok": False, "error": str(refusal), "record": self._record.to_json()}

    # --- orders answered at once ---

    def _status(self, _client: Client, _message: Message) -> Message:
        return self._facts()

    def _watch(self, client: Client, _message: Message) -> Message:
        client.is_watching = True
        return self._facts()

    def _tail(self, _client: Client, message: Message) -> Message:
        count = message.get("n", REMEMBERED)
        if not isinstance(count, int):
            raise Refused("n: a number is needed")
        return {"lines": self._output.tail(count)}

    def _ready(self, _client: Client, message: Message) -> Message:
        value, pid = message.get("value"), message.get("pid")
        if not isinstance(value, bool):
            raise Refused("value: true or false is needed")
        if self._child.process is None or self._ending:
            raise Refused("there is no process that could be ready")
        if pid not in (None, self._child.process.pid):
            raise Refused(f"process {pid} was replaced by {self._child.process.pid}")
        self._was_ready = self._was_ready or value
        reason = None if value else self._reason_in(message)
        self._change(state=State.READY if value else State.UNHEALTHY, ready=value, reason=reason)
        return self._facts()

    def _disarm(self, _client: Client, _message: Message) -> Message:
        if self._retry:
            self._cancel_retry()
            self._change(state=State.STOPPED)
        self._change(armed=False)
        return self._facts()

    # --- orders that may have to wait ---

    def _start(self, message: Message) -> Work:
        spec = self._spec_of(message)
        if self._child.process and not self._ending:
            if dict(spec.fingerprint) != dict(self._record.fingerprint):
                raise Refused("it runs already, from something else: replace it")
            self._remember(spec)
            return
        yield from self._gone()
        self._remember(spec)
        self._change(armed=False, restarts=0)
        self._spawn()

    def _adopt(self, message: Message) -> Work:
        if message.get("spec") is not None:
            self._remember(self._spec_of(message))
        if self._child.process is None:
            yield from self._stop(message)
            raise Refused("nothing is left to adopt")
        self._change(armed=self._record.armed and self._spec is not None)

    def _replace(self, message: Message) -> Work:
        spec = self._spec_of(message)
        yield from self._gone()
        if self._is_proven or self._previous is None:
            self._previous = self._spec
        self._is_proven = False
        self._remember(spec)
        self._change(armed=False, restarts=0)
        self._spawn()

    def _revert(self, _message: Message) -> Work:
        yield from self._gone()
        previous, self._spec, self._previous = self._previous, None, None
        self._change(armed=False, restarts=0, state=State.STOPPED, reason=None)
        if previous:
            self._is_proven = True
            self._remember(previous)
            self._spawn()

    def _commit(self, _message: Message) -> Work:
        yield from self._settled()
        if self._child.process is None:
            raise Refused("it does not run")
        self._previous = None
        self._is_proven = True
        self._armed_at = time.monotonic()
        state = State.RUNNING if self._record.state is State.STARTING else self._record.state
        self._change(armed=True, state=state)

    def _restart(self, _message: Message) -> Work:
        self._known_spec()
        yield from self._gone()
        self._spawn()

    def _hold(self, message: Message) -> Work:
        yield from self._gone()
        self._change(state=State.HELD, reason=self._reason_in(message))

    def _resume(self, _message: Message) -> Work:
        yield from self._settled()
        self._known_spec()
        if self._child.process is None:
            self._cancel_retry()
            self._spawn()

    def _stop(self, _message: Message) -> Work:
        yield from self._gone()
        self._change(state=State.STOPPED, armed=False, reason=None)
        self._leave()

    def _reason_in(self, message: Message) -> str | None:
        reason = message.get("reason")
        return self._output.redact(str(reason)) if reason else None

    def _spec_of(self, message: Message) -> KeeperSpec:
        spec = KeeperSpec.from_json(message.get("spec"))
        if spec.service != self._record.service:
            raise Refused(f"this is the keeper of {self._record.service}")
        return spec

    def _known_spec(self) -> KeeperSpec:
        if self._spec is None:
            raise Refused("its command is not known here: start it anew")
        return self._spec

    def _remember(self, spec: KeeperSpec) -> None:
        self._spec = spec
        self._record = self._record._replace(log=spec.log, stop_timeout=spec.stop_timeout)
        self._output.expect(spec.service, spec.log, spec.redact)

    # --- the end of a tree ---

    def _gone(self) -> Work:
        """End the tree and wait for it; an end that is under way is joined."""
        self._cancel_retry()
        if self._ending is None and not (self._child.process is None and self._child.is_gone()):
            self._change(state=State.STOPPING, reason=None)
            self._end()
        yield from self._settled()

    def _settled(self) -> Work:
        while self._ending:
            yield

    def _end(self) -> None:
        self._ending = Ending(self.loop, self._child, self._tree_gone)
        self._ending.begin(self._record.stop_timeout)

    def _tree_gone(self) -> None:
        self._ending = None
        if self._active:
            self._advance(self._active)
        else:
            self._after_crash()
        self._proceed()

    def _on_child_signal(self) -> None:
        self._child.reap()
        if self._ending:
            self._ending.look()

    def _child_ended(self, kind: ExitKind, value: int | None) -> None:
        self._output.drain()
        before, self._oom_kills = self._oom_kills, oom_kills()
        oom = None if before is None or self._oom_kills is None else self._oom_kills > before
        lived = time.monotonic() - self._child.started
        killed = kind is ExitKind.SIGNAL and value == signal.SIGKILL
        last_exit = Exit(kind, value, round(lived, 3), time.time(), oom if killed else False, self._ending is not None)
        self._record = self._record._replace(child=None, pgid=None, ready=False, last_exit=last_exit)
        if self._ending:
            self._change()
        elif self._child.is_gone():
            self._after_crash()
        else:
            self._change(state=State.STOPPING, reason="its process ended; what that left behind is being ended")
            self._end()

    # --- after a crash ---

    def _after_crash(self) -> None:
        if self._spec is None or not self._record.armed:
            self._change(state=State.STOPPED)
            return
        up = time.monotonic() - max(self._child.started, self._armed_at)
        crash = Crash(time.time(), self._budget.restarts(), up, self._was_ready, self._unproven)
        match decide(self._spec.restart, crash):
            case Respawn(delay, remembered, unproven):
                self._unproven = unproven
                self._retry = self.loop.after(delay, lambda: self._respawn(remembered))
                self._change(state=State.BACKOFF, reason=f"crashed, starts again in {delay:g} s")
            case GiveUp(reason):
                self._change(state=State.GAVE_UP, reason=reason)

    def _respawn(self, remembered: tuple[float, ...]) -> None:
        self._retry = None
        self._record = self._record._replace(restarts=self._record.restarts + 1)
        has_started = self._spawn()
        self._budget.set([*remembered, time.time()])
        if not has_started:
            self._after_crash()

    def _cancel_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
        self._retry = None

    # --- the process and the record ---

    def _spawn(self) -> bool:
        spec = self._known_spec()
        self._was_ready = False
        if self._record.state is State.GAVE_UP:
            self._budget.set(())
        self._record = self._record._replace(
            port=spec.port,
            deploy_id=spec.deploy_id,
            fingerprint=spec.fingerprint,
            started_at=time.time(),
            ready=False,
        )
        try:
            self._run(spec)
        except CannotStart as error:
            last_exit = Exit(ExitKind.EXIT, error.status, 0.0, time.time(), False, False)
            self._change(state=State.STOPPED, child=None, pgid=None, last_exit=last_exit, reason=str(error))
            return False
        child = self._child.process
        state = State.RUNNING if self._record.armed else State.STARTING
        self._change(state=state, child=child, pgid=child and child.pid, reason=None)
        return True

    def _run(self, spec: KeeperSpec) -> None:
        try:
            writing = self._output.open_writing_end()
        except OSError as error:
            raise CannotStart(126, f"its output: {error.strerror}") from None
        try:
            self._child.start(spec, writing)
        finally:
            os.close(writing)

    def _change(self, **fields: Any) -> None:
        """Every change of the record goes to the disk and to those who watch."""
        if fields.get("state", self._record.state) is not self._record.state:
            fields["since"] = time.time()
        self._record = self._record._replace(**fields)
        with contextlib.suppress(OSError):  # a full disk or a lost folder must not stop the service
            records.write(self._folder, self._record)
        self._control.broadcast(self._facts())

    def _leave(self) -> None:
        """Nothing is left to keep. The lock goes before the answer, so that who hears it can start a new keeper."""
        self._control.close()
        self._output.close()
        os.close(self._lock)
        self.is_finished = True

    _ANSWERS = {"status": _status, "watch": _watch, "tail": _tail, "ready": _ready, "disarm": _disarm}  # noqa: RUF012 - never changed
    _WORKS = {  # noqa: RUF012 - never changed
        "start": _start,
        "adopt": _adopt,
        "replace": _replace,
        "revert": _revert,
        "commit": _commit,
        "restart": _restart,
        "hold": _hold,
        "resume": _resume,
    }


def main() -> None:
    """The keeper's process. Its first order comes as one line through standard input, and is answered there."""
    folder = sys.argv[1]
    if os.fork():  # whoever started us can forget us: we are no child of theirs
        os._exit(0)
    try:
        _serve(folder)
    except Exception:
        import traceback  # only now: it would be a twentieth of a keeper

        with contextlib.suppress(OSError):
            records.write_atomically(os.path.join(folder, ERRORS), traceback.format_exc().encode())
        raise


def _serve(folder: str) -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    _silence_input()
    message = _first_message(connection)
    lock = _take_lock(folder)
    if message is None or lock is None:
        error = "no valid order" if message is None else "another keeper has this service"
        with contextlib.suppress(OSError):  # who asked may be gone already
            connection.sendall(to_line({"ok": False, "error": error}))
        return
    keeper = _awaken(folder, lock, message)
    keeper.request(Client(keeper.loop, connection, keeper.request), message)
    while not keeper.is_finished:
        keeper.loop.turn()


def _awaken(folder: str, lock: int, message: Message) -> Keeper:
    """The keeper, with what an earlier one may have left running in its hands."""
    old = records.read(folder)
    spec = KeeperSpec.from_json(message["spec"]) if message.get("spec") is not None else None
    left = os.path.exists(os.path.join(folder, FIFO))
    keeper = Keeper(folder, lock, _first_record(os.path.basename(folder), spec, old))
    keeper.expect(spec, old)
    if left:
        keeper.adopt(old)
    if keeper.runs_other_than(spec):
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


def _first_message(connection: socket.socket) -> Message | None:
    with connection.makefile("rb") as lines:
        line = lines.readline()
    try:
        message = from_line(line)
        if message.get("order") == "start" or message.get("spec") is not None:
            KeeperSpec.from_json(message.get("spec"))
    except SpecInvalid:
        return None
    return message if message.get("order") in ("start", "adopt") else None


def _take_lock(folder: str) -> int | None:
    """Held until this process ends, and by no child: the descriptor is not inherited."""
    descriptor = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
