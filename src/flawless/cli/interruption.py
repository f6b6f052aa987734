"""Hang-up, Ctrl-C and SIGTERM, handed to whoever can end in good order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flawless.core.errors import Interrupted

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def interruptions(interrupt: Callable[[Interrupted], None]) -> Iterator[None]:
    """Hands hang-up, Ctrl-C and SIGTERM to `interrupt` for the time of the block."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    if sys.platform == "win32":
        # The loop there knows no signal handlers; Ctrl-C arrives between two of its turns.
        before = {number: signal.signal(number, _handler(loop, interrupt)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return
    for number in numbers:
        loop.add_signal_handler(number, interrupt, Interrupted(number, signal.Signals(number).name))
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _handler(loop: asyncio.AbstractEventLoop, interrupt: Callable[[Interrupted], None]) -> Callable[[int, Any], None]:
    def on_signal(number: int, _frame: Any) -> None:
        loop.call_soon_threadsafe(interrupt, Interrupted(number, signal.Signals(number).name))

    return on_signal
