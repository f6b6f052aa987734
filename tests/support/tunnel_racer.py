"""A program that sees the tunnel of the stack in its folder, and has it restarted: `tunnel_racer.py MODE`, once a line.

    deploy   the step of a deploy that verifies the tunnel, without the deploy lock
    bare     `recovery` itself; a line is which process was seen
    hold     takes the lock and never gives it back

The answer is a line: what came of it, and what `recovery` said. Who comes to the lock says so in `waiting`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from flawless.adapters.restarts import RestartLedger
from flawless.core import ids
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.event import Noted, Stamped
from flawless.core.phase import Phase
from flawless.deploy.run import Run
from flawless.recovery import Recovery
from flawless.wiring.deploying import Deploying
from flawless.wiring.stack import Stack
from flawless.wiring.tunnel import TunnelOf


def announce() -> None:
    """From now on whoever comes to the lock in this process says so first."""
    held = RestartLedger.held

    @asynccontextmanager
    async def told(self: RestartLedger, limit: float) -> AsyncIterator[None]:
        with Path("waiting").open("a") as waiting:
            waiting.write("waiting\n")
        async with held(self, limit):
            yield

    RestartLedger.held = told  # type: ignore[method-assign]  # only to be seen: it does what it did


@dataclass
class Carrier:
    """The process of the tunnel, as a monitor of its own would restart it."""

    tunnel: TunnelOf
    name: str = "tunnel"

    async def incarnation(self) -> str | None:
        return await self.tunnel.incarnation()

    async def restart(self) -> None:
        await self.tunnel.stack.keepers["tunnel"].restart()

    async def ask(self) -> Outcome:
        return Passed((f"it is {await self.incarnation()}",))


async def deploy(stack: Stack, _: str) -> str:
    said: list[str] = []

    def read(stamped: Stamped) -> None:
        if isinstance(stamped.event, Noted) and stamped.event.key == "recovery":
            said.append(stamped.event.value["result"])

    run = Run(ids.deploy_id(stack.clock.now()), stack.clock, stack.stream(read))
    step = Deploying(stack, ())._steps()[Phase.TUNNEL_START_OR_VERIFY]
    try:
        outcome = await step.run(run)
    finally:
        await run.aclose()
    told = f"{outcome.reason}: {outcome.cause}" if isinstance(outcome, Failed) else type(outcome).__name__
    return " | ".join([told, *said])


async def bare(stack: Stack, seen: str) -> str:
    tunnel = TunnelOf(stack)
    done = await Recovery(Carrier(tunnel), tunnel.ledger, tunnel.rule, stack.clock).restart(seen)
    return f"{type(done).__name__} | {done.said}"


async def hold(stack: Stack, _: str) -> str:
    async with TunnelOf(stack).ledger.held(5.0):
        print("holding", flush=True)
        await asyncio.Event().wait()
    return "let go"


MODES = {"deploy": deploy, "bare": bare, "hold": hold}


async def main(mode: str) -> None:
    if mode != "hold":
        announce()
    print("there", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        stack = Stack.load(None, None)
        try:
            print(await MODES[mode](stack, line), flush=True)
        finally:
            await stack.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
