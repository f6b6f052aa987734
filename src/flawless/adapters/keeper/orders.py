"""The orders a keeper takes: some are answered at once, the others are carried out one after the other."""

from __future__ import annotations

import os
import signal
from collections import deque

from flawless.adapters.keeper.control import Client, Control
from flawless.adapters.keeper.loop import Loop
from flawless.adapters.keeper.output import REMEMBERED
from flawless.adapters.keeper.record import PASSING, Record, State
from flawless.adapters.keeper.service import Refused, Service, Work
from flawless.adapters.keeper.spec import KeeperSpec, SpecInvalid

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]


class Job:
    """An order that may take time, and who waits for its answer."""

    def __init__(self, order: str, work: Work, client: Client | None) -> None:
        self.order = order
        self.work = work
        self.clients = [client] if client else []


class Keeper:
    """Takes orders for one service until it was told to stop it. `lock` is what makes it the only one."""

    def __init__(self, folder: str, lock: int, record: Record) -> None:
        self.is_finished = False
        self.loop = Loop()
        self._lock = lock
        self._previous: KeeperSpec | None = None
        self._is_proven = False
        self._jobs: deque[Job] = deque()
        self._active: Job | None = None
        self._control = Control(folder, self.loop, self.request)
        self.service = Service(folder, record, self.loop, self._tell, self._resume_order)
        self.loop.on_signals({signal.SIGCHLD: self.service.bury, signal.SIGTERM: self.stop})

    def request(self, client: Client, message: Message) -> None:
        """Answer at once, or take the order into the queue. What has ended by now is known first, signal or not: no
        answer speaks of a dead process as if it lived.
        """
        self.service.bury()
        order = str(message.get("order"))
        if order in self._ANSWERS:
            self._answer_at_once(client, order, message)
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

    # --- the queue ---

    def _proceed(self) -> None:
        while self._active is None and self._jobs:
            self._active = self._jobs.popleft()
            self._advance(self._active)

    def _resume_order(self) -> bool:
        if self._active is None:
            return False
        self._advance(self._active)
        self._proceed()
        return True

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

    def _answer_at_once(self, client: Client, order: str, message: Message) -> None:
        try:
            client.send({"ok": True} | self._ANSWERS[order](self, client, message))
        except Refused as refusal:
            client.send(self._refusal(refusal))

    def _facts(self) -> Message:
        return {"ok": True, "record": self.service.record.to_json()}

    def _refusal(self, refusal: Exception) -> Message:
        return {"ok": False, "error": str(refusal), "record": self.service.record.to_json()}

    def _tell(self, record: Record) -> None:
        self._control.broadcast({"ok": True, "record": record.to_json()})

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
        return {"lines": self.service.output.tail(count)}

    def _ready(self, _client: Client, message: Message) -> Message:
        value = message.get("value")
        if not isinstance(value, bool):
            raise Refused("value: true or false is needed")
        self.service.judge(is_ready=value, pid=message.get("pid"), reason=self._reason_in(message))
        return self._facts()

    def _disarm(self, _client: Client, _message: Message) -> Message:
        self.service.disarm()
        return self._facts()

    # --- orders that may have to wait ---

    def _start(self, message: Message) -> Work:
        spec = self._spec_in(message)
        if self.service.is_running:
            if not self.service.knows(spec):
                raise Refused("it runs already, from something else: replace it")
            self.service.remember(spec)
            return
        yield from self.service.gone()
        self._launch(spec)

    def _adopt(self, message: Message) -> Work:
        spec = self._spec_in(message) if message.get("spec") is not None else None
        if spec:
            self.service.remember(spec)
        if not self.service.is_running and self.service.record.state not in PASSING:
            yield from self._stop(message)
            raise Refused("nothing is left to adopt")
        self.service.change(armed=self.service.record.armed and self.service.spec is not None)

    def _replace(self, message: Message) -> Work:
        spec = self._spec_in(message)
        yield from self.service.gone()
        if self._is_proven or self._previous is None:
            self._previous = self.service.spec
        self._is_proven = False
        self._launch(spec)

    def _revert(self, _message: Message) -> Work:
        yield from self.service.gone()
        previous, self._previous = self._previous, None
        self.service.spec = None
        self.service.change(armed=False, state=State.STOPPED, reason=None)
        if previous:
            self._is_proven = True
            self._launch(previous)

    def _commit(self, _message: Message) -> Work:
        yield from self.service.settled()
        self.service.arm()
        self._previous = None
        self._is_proven = True

    def _restart(self, _message: Message) -> Work:
        self.service.known_spec()
        yield from self.service.gone()
        self.service.spawn()

    def _hold(self, message: Message) -> Work:
        yield from self.service.gone()
        self.service.change(state=State.HELD, reason=self._reason_in(message))

    def _resume(self, _message: Message) -> Work:
        yield from self.service.settled()
        self.service.known_spec()
        if not self.service.is_running:
            yield from self.service.gone()
            self.service.spawn()

    def _stop(self, _message: Message) -> Work:
        yield from self.service.gone()
        self.service.change(state=State.STOPPED, armed=False, reason=None)
        self._leave()

    def _launch(self, spec: KeeperSpec) -> None:
        self.service.remember(spec)
        self.service.change(armed=False, restarts=0)
        self.service.spawn()

    def _leave(self) -> None:
        """Nothing is left to keep. The lock goes before the answer, so that who hears it can start a new keeper."""
        self._control.close()
        self.service.output.close()
        os.close(self._lock)
        self.is_finished = True

    def _spec_in(self, message: Message) -> KeeperSpec:
        spec = KeeperSpec.from_json(message.get("spec"))
        if spec.service != self.service.record.service:
            raise Refused(f"this is the keeper of {self.service.record.service}")
        return spec

    def _reason_in(self, message: Message) -> str | None:
        reason = message.get("reason")
        return self.service.output.redact(str(reason)) if reason else None

    _ANSWERS = {  # noqa: RUF012 - never changed; ClassVar would need the module typing
        "status": _status,
        "watch": _watch,
        "tail": _tail,
        "ready": _ready,
        "disarm": _disarm,
    }
    _WORKS = {  # noqa: RUF012 - as above
        "start": _start,
        "adopt": _adopt,
        "replace": _replace,
        "revert": _revert,
        "commit": _commit,
        "restart": _restart,
        "hold": _hold,
        "resume": _resume,
    }
