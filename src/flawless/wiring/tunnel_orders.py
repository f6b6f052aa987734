"""What a person asks of the tunnel: to be shown it, and to have it restarted once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flawless.adapters.restarts import RestartLedger
from flawless.checks.routing import Routed
from flawless.core.budget import Spent
from flawless.core.check import Failed, Finding, Outcome, ask
from flawless.core.errors import CommandFailed, UsageError
from flawless.core.gate import Patience, gate
from flawless.core.reason import Reason
from flawless.core.service import ALIVE, TUNNEL, ServiceState
from flawless.recovery import Recovery, Refused, Restarted
from flawless.wiring.stack import Stack
from flawless.wiring.tunnel import TunnelOf

_KEPT: Final = ALIVE | {ServiceState.BACKOFF, ServiceState.GAVE_UP}
"""States of what is to run: one that waits for its next start, or has given up, is started by an order."""


@dataclass(frozen=True)
class Looked:
    """What `flawless tunnel` found out. `restarted`: what became of the restart, where one was ordered."""

    routed: Routed
    finding: Finding
    redact: Callable[[Any], Any]
    restarted: str | None = None
    of_the_api: Sequence[Finding] = ()

    @property
    def findings(self) -> Sequence[Finding]:
        return (*(self.routed.view.findings if self.routed.view is not None else ()), *self.of_the_api)


async def look(config: Path | None, environment: str | None) -> Looked:
    """Asks everything once, and the Cloudflare API for its own view where a token is given.

    Raises UsageError where the manifest declares neither a tunnel nor a public check.
    """
    stack, tunnel, routed = _opened(config, environment)
    try:
        limit = stack.manifest.settings.timeouts.public
        finding, view = await asyncio.gather(ask(routed, limit), _of_the_api(stack))
        return replace(_looked(tunnel, routed, finding), of_the_api=view)
    finally:
        await tunnel.aclose()
        await stack.aclose()


async def restart(config: Path | None, environment: str | None) -> Looked:
    """Restarts cloudflared once, through `recovery`, and waits until the name leads here or the time is over.

    The order is a person's, so it is not charged to the budget. Raises CommandFailed.
    """
    stack, tunnel, routed = _opened(config, environment)
    if not tunnel.is_declared:
        raise UsageError("the manifest declares no tunnel", next_steps=["see docs/settings.md, [tunnel]"])
    stack.ensure_ours()
    carrier = _Carrier(tunnel, routed)
    try:
        recovery = Recovery(carrier, _Uncharged(tunnel.ledger), tunnel.rule, stack.clock)
        done = await recovery.restart(await tunnel.incarnation())
        if isinstance(done, Refused):
            raise _refusal(done.failed)
        assert carrier.after is not None
        # How many a machine may make is no matter of a person's order.
        said = done.said.partition(" (")[0] if isinstance(done, Restarted) else done.said
        return replace(_looked(tunnel, routed, carrier.after), restarted=said)
    finally:
        await tunnel.aclose()
        await stack.aclose()


async def _of_the_api(stack: Stack) -> list[Finding]:
    """What Cloudflare says of the tunnel and of the name's record; a token that is refused is for a deploy to say."""
    from flawless.checks.interfaces.declared import cloudflare_view

    timeouts = stack.manifest.settings.timeouts
    checks = cloudflare_view(stack.manifest, stack.remote_http, stack.clock)
    return list(await asyncio.gather(*(ask(check, timeouts.external) for check in checks)))


def _refusal(failed: Failed) -> CommandFailed:
    return CommandFailed(failed.cause, code=failed.reason, evidence=failed.evidence, next_steps=failed.next_steps)


def _opened(config: Path | None, environment: str | None) -> tuple[Stack, TunnelOf, Routed]:
    stack = Stack.load(config, environment)
    tunnel = TunnelOf(stack)
    if tunnel.routed is None:
        raise UsageError(
            "the manifest declares neither a tunnel nor a public check, so there is nothing to ask",
            next_steps=["see docs/settings.md, [tunnel] and [public]"],
        )
    return stack, tunnel, tunnel.routed


def _looked(tunnel: TunnelOf, routed: Routed, finding: Finding) -> Looked:
    tunnel.remember(routed)
    return Looked(routed, finding, tunnel.stack.redact)


@dataclass
class _Carrier:
    """The process that carries the tunnel, as `recovery` restarts it for a person. `after`: what was found out then."""

    tunnel: TunnelOf
    routed: Routed
    name: str = TUNNEL
    after: Finding | None = None

    async def incarnation(self) -> str | None:
        return await self.tunnel.incarnation()

    async def restart(self) -> None:
        """Raises CommandFailed, also where nothing runs that could be restarted."""
        keeper = self.tunnel.stack.keepers[TUNNEL]
        running = await keeper.look()
        if running is not None and running.state in _KEPT:
            await keeper.restart()
        elif await self.tunnel.foreign() is not None:
            await self.tunnel.restart_foreign()
        else:
            raise CommandFailed(
                "no cloudflared runs for this tunnel, so there is nothing to restart",
                code=Reason.TUNNEL_NOT_RUNNING,
                next_steps=["start it: flawless start tunnel", "see what is there: flawless tunnel status"],
            )

    async def ask(self) -> Outcome:
        timeouts = self.tunnel.stack.manifest.settings.timeouts
        patience = Patience(max(timeouts.tunnel_ready, timeouts.public), attempt=timeouts.public)
        self.after = await gate(self.routed, patience, clock=self.tunnel.stack.clock)
        keeper = self.tunnel.stack.keepers[TUNNEL]
        running = await keeper.look()
        if running is not None and running.is_alive and running.keeper_pid is not None:
            await keeper.mark(ready=self.after.failure is None)
        return self.after.outcome


@dataclass(frozen=True)
class _Uncharged:
    """The same lock; what a person orders is no sign of a tunnel that falls again and again (recovery.Ledger)."""

    ledger: RestartLedger

    def held(self, limit: float) -> AbstractAsyncContextManager[None]:
        return self.ledger.held(limit)

    def spent(self) -> Spent:
        return Spent(())

    def charge(self, restarts: Sequence[float]) -> None:
        """Nothing is written down."""
