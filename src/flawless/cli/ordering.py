"""What start, stop and restart have in common: the lock, the progress, the interruption, the answer."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from flawless.cli.interruption import interruptions
from flawless.cli.options import Common
from flawless.cli.streams import ensure_told, go_on_unheard
from flawless.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from flawless.core.event import Stamped
    from flawless.wiring import Stack
    from flawless.wiring.lifecycle import Lifecycle


class Order(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"


def carry_out(order: Order, flags: Common, services: Sequence[str], *, everything: bool = False) -> int:
    """The exit code of one order; 0 as well when there was nothing to do."""
    from flawless.wiring import Stack

    if everything and services:
        raise UsageError("--all stops everything: give it no names", next_steps=["flawless stop --all"])
    go_on_unheard()
    stack = Stack.load(flags.config, flags.environment)
    done = asyncio.run(_ordered(stack, order, flags, services, everything=everything))
    _tell(order, done, flags)
    ensure_told(f"the {order} succeeded")
    return 0


async def _ordered(
    stack: Stack, order: Order, flags: Common, services: Sequence[str], *, everything: bool
) -> list[tuple[str, str]]:
    """Each service and what was done with it."""
    with stack.lock.held(f"flawless {order}", stack.clock.now()):
        if order is not Order.STOP:
            stack.prepare(services)
        try:
            return await _interruptibly(stack, order, flags, services, everything=everything)
        finally:
            await stack.aclose()


async def _interruptibly(
    stack: Stack, order: Order, flags: Common, services: Sequence[str], *, everything: bool
) -> list[tuple[str, str]]:
    from flawless.wiring.lifecycle import Lifecycle  # only now: loading it takes as long as a keeper to boot
    from flawless.wiring.settling import settle

    settle(stack)
    readers = [] if flags.quiet or flags.json else [_progress]
    work = asyncio.ensure_future(_work(Lifecycle(stack, readers), order, services, everything=everything))
    told: list[Interrupted] = []

    def interrupt(interrupted: Interrupted) -> None:
        told.append(interrupted)
        work.cancel()

    try:
        with interruptions(interrupt):
            return await work
    except asyncio.CancelledError:
        if not told:
            raise
        again = shlex.join(["flawless", order, *services, *["--all"] * everything])
        raise Interrupted(told[0].signal_number, told[0].signal_name, again) from None


async def _work(
    lifecycle: Lifecycle, order: Order, services: Sequence[str], *, everything: bool
) -> list[tuple[str, str]]:
    if order is Order.STOP:
        return [(name, "stopped") for name in await lifecycle.stop(services, everything=everything)]
    changes = await (lifecycle.start(services) if order is Order.START else lifecycle.restart(services))
    return [(one.name, _DONE[one.action]) for one in changes]


_DONE = {"keep": "ran already", "start": "started, ready", "replace": "restarted, ready", "stop": "stopped"}


def _progress(stamped: Stamped) -> None:
    from flawless.core.event import Effected, WaitingFor
    from flawless.core.plain import printable

    match stamped.event:
        case Effected(action=action, subject=subject, detail=detail):
            pid = f", pid {detail['pid']}" if detail.get("pid") else ""
            sys.stderr.write(printable(f"{action} {subject}: done{pid}") + "\n")
        case WaitingFor(claim=claim, waited=waited, last=last):
            because = f": {last}" if last else ""
            sys.stderr.write(printable(f"waiting until {claim} ({waited:.0f} s){because}") + "\n")
        case _:
            pass


def _tell(order: Order, done: Sequence[tuple[str, str]], flags: Common) -> None:
    if flags.json:
        services = [{"name": name, "result": result} for name, result in done]
        sys.stdout.write(json.dumps({"schema_version": 1, "order": order, "services": services}, indent=2) + "\n")
        return
    for name, result in done:
        sys.stdout.write(f"{name}: {result}\n")
    if not done:
        sys.stdout.write("nothing to do\n")
