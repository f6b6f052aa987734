"""The service that is kept: its process, its record, and what is done when it crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Generator

from flawless.adapters.keeper import record as records
from flawless.adapters.keeper.budget import Budget
from flawless.adapters.keeper.child import CannotStart, Child, Ending, environment_values
from flawless.adapters.keeper.loop import Loop, Timer
from flawless.adapters.keeper.memory import oom_kills
from flawless.adapters.keeper.output import Output
from flawless.adapters.keeper.policy import Crash, GiveUp, Respawn, decide
from flawless.adapters.keeper.record import Exit, ExitKind, Record, State
from flawless.adapters.keeper.spec import KeeperSpec

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any

Work = Generator[None, None, None]
"""Something being carried out; it yields when it must wait for the tree to be gone."""


class Refused(Exception):
    """An order that cannot be carried out now, and why."""


class Service:
    """One process at a time, started from a spec. `changed` is called with every change of the record, `resume` when
    the tree is gone: it goes on with an order that waited for that and says whether there was one.
    """

    def __init__(
        self, folder: str, record: Record, loop: Loop, changed: Callable[[Record], None], resume: Callable[[], bool]
    ) -> None:
        self.record = record
        self.spec: KeeperSpec | None = None
        self.loop = loop
        self.output = Output(folder, loop)
        self._folder = folder
        self._changed = changed
        self._resume = resume
        self._budget = Budget(folder, record.service)
        self._child = Child(loop, self._child_ended)
        self._ending: Ending | None = None
        self._retry: Timer | None = None
        self._armed_at = 0.0
        self._was_ready = False
        self._unproven = 0
        self._oom_kills = oom_kills()

    @property
    def is_running(self) -> bool:
        """Whether there is a process, and nobody is ending it."""
        return self._child.process is not None and self._ending is None

    def knows(self, spec: KeeperSpec) -> bool:
        """Whether what runs was started from the same."""
        return dict(spec.fingerprint) == dict(self.record.fingerprint)

    def change(self, **fields: Any) -> None:
        """Every change of the record goes to those who watch and to the disk, which may let us wait: it comes last."""
        if fields.get("state", self.record.state) is not self.record.state:
            fields["since"] = time.time()
        self.record = self.record._replace(**fields)
        self._changed(self.record)
        with contextlib.suppress(OSError):  # a full disk or a lost folder must not stop the service
            records.write(self._folder, self.record)

    # --- what runs ---

    def remember(self, spec: KeeperSpec) -> None:
        """From here on this is what is started."""
        self.spec = spec
        self.record = self.record._replace(log=spec.log, stop_timeout=spec.stop_timeout)
        self.output.expect(spec.service, spec.log, spec.redact)

    def spawn(self) -> bool:
        """Start it; False when it could not be executed, as the record then says."""
        spec = self.known_spec()
        self._was_ready = False
        if self.record.state is State.GAVE_UP:
            self._budget.set(())
        self.record = self.record._replace(
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
            self.change(state=State.STOPPED, child=None, pgid=None, last_exit=last_exit, reason=str(error))
            return False
        child = self._child.process
        state = State.RUNNING if self.record.armed else State.STARTING
        self.change(state=state, child=child, pgid=child and child.pid, reason=None)
        return True

    def known_spec(self) -> KeeperSpec:
        """What it is started from; refused when it was adopted without."""
        if self.spec is None:
            raise Refused("its command is not known here: start it anew")
        return self.spec

    def adopt(self, old: Record | None) -> None:
        """Take over what an earlier keeper left running: the process it wrote down, and whatever prints here.

        Until a spec is given every value in the environment of the process counts as a secret.
        """
        if old is None:
            self._child.adopt(None, 0.0, self.output.identify())
            return
        if self.spec is None and old.log:
            self.output.expect(old.service, old.log, environment_values(old.child) if old.child else ())
        age = max(0.0, time.time() - old.started_at) if old.started_at else 0.0
        self._child.adopt(old.child, age, self.output.identify())
        if self._child.process:
            self._armed_at = self._child.started
            self._was_ready = old.ready
            state = State.RUNNING if old.state is State.STOPPING else old.state
            self.record = old._replace(keeper=self.record.keeper, state=state)

    def arm(self) -> None:
        """From now on a crash is answered."""
        if not self.is_running:
            raise Refused("it does not run")
        self._armed_at = time.monotonic()
        state = State.RUNNING if self.record.state is State.STARTING else self.record.state
        self.change(armed=True, state=state)

    def disarm(self) -> None:
        """From now on a crash is not answered, one that was not yet included."""
        state = State.STOPPED if self._retry else self.record.state
        self._cancel_retry()
        self.change(armed=False, state=state)

    def judge(self, *, is_ready: bool, pid: int | None, reason: str | None) -> None:
        """Somebody asked the process, and this was the answer."""
        process = self._child.process
        if process is None or self._ending:
            raise Refused("there is no process that could be ready")
        if pid not in (None, process.pid):
            raise Refused(f"process {pid} was replaced by {process.pid}")
        self._was_ready = self._was_ready or is_ready
        state = State.READY if is_ready else State.UNHEALTHY
        self.change(state=state, ready=is_ready, reason=None if is_ready else reason)

    def _run(self, spec: KeeperSpec) -> None:
        try:
            writing = self.output.open_writing_end()
        except OSError as error:
            raise CannotStart(126, f"its output: {error.strerror}") from None
        try:
            self._child.start(spec, writing)
        finally:
            os.close(writing)

    # --- the end of a tree ---

    def gone(self) -> Work:
        """End the tree and wait for it; an end that is under way is joined."""
        self._cancel_retry()
        if self._ending is None and not (self._child.process is None and self._child.is_gone()):
            self.change(state=State.STOPPING, reason=None)
            self._end()
        yield from self.settled()

    def settled(self) -> Work:
        """Wait for an end that is under way."""
        while self._ending:
            yield

    def bury(self) -> None:
        """See what has ended."""
        self._child.reap()
        if self._ending:
            self._ending.look()

    def _end(self) -> None:
        self._ending = Ending(self.loop, self._child, self._tree_gone)
        self._ending.begin(self.record.stop_timeout)

    def _tree_gone(self) -> None:
        self._ending = None
        if not self._resume():
            self._after_crash()

    def _child_ended(self, kind: ExitKind, value: int | None) -> None:
        self.output.drain()
        lived = round(time.monotonic() - self._child.started, 3)
        was_oom = self._was_oom()  # counted at every end: what came before the next start is not the next one's
        oom = was_oom if kind is ExitKind.SIGNAL and value == signal.SIGKILL else False
        last_exit = Exit(kind, value, lived, time.time(), oom, self._ending is not None)
        self.record = self.record._replace(child=None, pgid=None, ready=False, last_exit=last_exit)
        if self._ending:
            self.change()
        elif self._child.is_gone():
            self._after_crash()
        else:
            self.change(state=State.STOPPING, reason="its process ended; what that left behind is being ended")
            self._end()

    def _was_oom(self) -> bool | None:
        before, self._oom_kills = self._oom_kills, oom_kills()
        return None if before is None or self._oom_kills is None else self._oom_kills > before

    # --- after a crash ---

    def _after_crash(self) -> None:
        if self.spec is None or not self.record.armed:
            self.change(state=State.STOPPED)
            return
        up = time.monotonic() - max(self._child.started, self._armed_at)
        crash = Crash(time.time(), self._budget.restarts(), up, self._was_ready, self._unproven)
        match decide(self.spec.restart, crash):
            case Respawn(delay, remembered, unproven):
                self._unproven = unproven
                self._retry = self.loop.after(delay, lambda: self._respawn(remembered, crash.now))
                self.change(state=State.BACKOFF, reason=f"crashed, starts again in {delay:g} s")
            case GiveUp(reason):
                self.change(state=State.GAVE_UP, reason=reason)

    def _respawn(self, remembered: tuple[float, ...], crashed: float) -> None:
        """What was charged by others since it `crashed` counts too."""
        self._retry = None
        self.record = self.record._replace(restarts=self.record.restarts + 1)
        has_started = self.spawn()
        charged = [at for at in self._budget.restarts() if at > crashed]
        self._budget.set([*remembered, *charged, time.time()])
        if not has_started:
            self._after_crash()

    def _cancel_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
        self._retry = None
