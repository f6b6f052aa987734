"""The one place where a keeper waits: descriptors, signals and timers."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable


class Timer:
    """Something to do at a time; forgotten once `cancel` was called."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """poll(2) over descriptors with a callback each, and a handful of timers on the monotonic clock."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events seen, until `forget`; again with other events: replace them."""
        self._callbacks[descriptor] = callback
        self._poll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        if self._callbacks.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, action)
        self._timers.append(timer)
        return timer

    def on_signals(self, actions: dict[int, Callable[[], None]]) -> None:
        """Run the action in the loop, not in the handler: a byte in a pipe wakes the loop without delay."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in actions:
            signal.signal(number, lambda _number, _frame: None)

        def received(_events: int) -> None:
            for number in set(os.read(reading, 4096)):
                if number in actions:
                    actions[number]()

        self.watch(reading, select.POLLIN, received)

    def turn(self) -> None:
        """Wait for the next thing to happen and do it."""
        for descriptor, events in self._poll.poll(self._until_next()):
            callback = self._callbacks.get(descriptor)
            if callback:
                callback(events)
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.at <= now]
        self._timers = [timer for timer in self._timers if timer.at > now and timer.action]
        for timer in due:
            if timer.action:
                timer.action()

    def _until_next(self) -> int | None:
        pending = [timer.at for timer in self._timers if timer.action]
        return max(0, math.ceil((min(pending) - time.monotonic()) * 1000)) if pending else None
