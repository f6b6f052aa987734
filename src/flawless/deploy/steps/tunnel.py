"""TUNNEL_START_OR_VERIFY: process, edge connection, route, public name; restart once if, and only if, that can help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from flawless.checks.routing import LEAST, Routed, row_of
from flawless.core.check import Failed, Finding, Outcome, Passed, Skipped
from flawless.core.errors import CommandFailed
from flawless.core.gate import Ending, Patience
from flawless.core.reason import Reason
from flawless.core.tunnel import Restart
from flawless.deploy.run import Run
from flawless.deploy.services import Group
from flawless.deploy.steps.services import GroupOf
from flawless.recovery import Ledger, Recovery, Refused, Rule

REGISTERING: Final = 15.0 + LEAST + 1.0
"""Seconds that cloudflared may take from its start to its first connection (measured: up to 15), and what a look and
the pause before it take."""

CONFIRMING: Final = 5.0
"""Seconds for which a cloudflared that has been running is seen broken before it is restarted: waiting for it to
reconnect by itself may take 330 s (its own back-off, measured), a restart 0.2 s."""

ATTEMPT: Final = 10.0
"""Seconds for one look at everything: a sample of requests through the public name is in it."""


class Tunnel(Protocol):
    """The declared tunnel. `name`: that of the service as which we run it. `ledger`, `rule`: of its restarts."""

    @property
    def name(self) -> str: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def rule(self) -> Rule: ...

    async def foreign(self) -> str | None:
        """Who runs cloudflared here, where it is not us: in a sentence."""

    async def incarnation(self) -> str | None:
        """Which process carries the tunnel now; None when none does."""

    @property
    def seen(self) -> str | None:
        """The same at the last look."""

    async def restart_foreign(self) -> None:
        """By the command that the manifest gives for it. Raises CommandFailed, also where it gives none."""


@dataclass(frozen=True, slots=True)
class VerifyTunnel:
    """Starts the tunnel unless somebody else runs it, and waits until the public name leads to this release.

    `routed` is None where neither a tunnel nor a public check is declared. `total`: seconds. `on_verdict` is told the
    name of the verdict, for those who ask later.
    """

    group: GroupOf
    tunnel: Tunnel | None
    routed: Routed | None
    total: float
    on_verdict: Callable[[Routed], None] = lambda _: None

    async def run(self, run: Run) -> Outcome:
        if self.routed is None:
            return Skipped("not declared")
        group = await self.group(run)
        started = Passed() if self.tunnel is None else await self._ensure_runs(run, group, self.tunnel)
        if isinstance(started, Failed):
            return started
        try:
            finding = await self._settled(run, group, self.routed)
        finally:
            self._record(run, self.routed)
        return finding.failure or await self._ready(group)

    async def _ensure_runs(self, run: Run, group: Group, tunnel: Tunnel) -> Outcome:
        """What somebody else runs is verified and never fought: a second one would take half of the requests."""
        said = await tunnel.foreign()
        if said is None:
            if group.replaces(tunnel.name):
                run.undo.push(f"{self._name} leads here again", lambda: self._led_back(run))
            return await group.spawn([tunnel.name])
        run.note("tunnel", {"foreign": said})
        return Passed((said,))

    async def _led_back(self, run: Run) -> None:
        """The way back ends where the way here did: at the public name. What ran before may meet a file that is new."""
        assert self.routed is not None
        finding = await run.wait_for(self.routed, Patience(self.total, attempt=max(self.total, ATTEMPT)))
        self.on_verdict(self.routed)
        failed = finding.failure
        if failed is not None:
            down = f"{self._name} is DOWN now: the tunnel runs as before, and {failed.cause}"
            raise CommandFailed(down, code=failed.reason, evidence=failed.evidence, next_steps=failed.next_steps)

    @property
    def _name(self) -> str:
        return self.routed.hostname if self.routed is not None else ""

    async def _settled(self, run: Run, group: Group, routed: Routed) -> Finding:
        """A first, short wait; then the restart where the verdict says that it helps; then all the time there is."""
        finding = await self.wait(run, group, routed, self._early(group))
        if finding.failure is None:
            return finding
        if self._restart_helps(finding.failure):
            return await self._restarted(run, group, routed, finding)
        if self.tunnel is None or finding.failure.is_permanent:
            return finding
        return await self.wait(run, group, routed, self.total)

    async def _restarted(self, run: Run, group: Group, routed: Routed, before: Finding) -> Finding:
        """Through `recovery`: once, whoever else has seen the same."""
        assert self.tunnel is not None
        assert before.failure is not None
        carrier = _Carrier(self, self.tunnel, run, group, routed)
        recovery = Recovery(carrier, self.tunnel.ledger, self.tunnel.rule, run.clock)
        try:
            done = await recovery.restart(self.tunnel.seen)
        except CommandFailed as error:
            return _refused(before, before.failure, [error.cause, *error.evidence], error.next_steps)
        run.note("recovery", {"attempted": True, "result": done.said})
        if isinstance(done, Refused):
            refusal = done.failed
            return _refused(before, before.failure, [refusal.cause, *refusal.evidence], refusal.next_steps)
        assert carrier.after is not None
        said = f"it was {before.failure.reason} before, too: {done.said}"
        failure = carrier.after.failure
        return carrier.after if failure is None else replace(carrier.after, outcome=failure.because(said))

    async def wait(self, run: Run, group: Group, routed: Routed, total: float) -> Finding:
        """Where somebody else puts another process in its place meanwhile, that one is given the same time."""
        patience = Patience(total, attempt=max(total, ATTEMPT))
        finding = await run.wait_for(routed, patience, ending=self._ending(group))
        if finding.failure is not None and await self.rejoined(group):
            finding = await run.wait_for(routed, patience, ending=self._ending(group))
        return finding

    async def rejoined(self, group: Group) -> bool:
        """A person's order, or the keeper's own, may have been quicker than this deploy."""
        return self.tunnel is not None and self._is_ours(group) and await group.rejoin(self.tunnel.name)

    def _early(self, group: Group) -> float:
        if self.tunnel is None:
            return self.total
        fresh = self._is_ours(group) and group.is_new(self.tunnel.name)
        return min(self.total, REGISTERING if fresh else CONFIRMING)

    def _restart_helps(self, failed: Failed) -> bool:
        """By the verdict of this failure. A process that ended for a reason that may pass has none: the gate ended."""
        if self.tunnel is None:
            return False
        row = row_of(failed)
        if row is not None:
            return row.restart is not Restart.NO
        return failed.reason in {Reason.TUNNEL_NOT_CONNECTED, Reason.TUNNEL_NOT_RUNNING}

    def _is_ours(self, group: Group) -> bool:
        return self._ending(group) is not None

    def _ending(self, group: Group) -> Ending | None:
        return group.ending(self.tunnel.name) if self.tunnel is not None else None

    def _record(self, run: Run, routed: Routed) -> None:
        """Each observation by itself, as it was at the end: what the verdict was made of."""
        for finding in routed.view.findings if routed.view else ():
            run.record(finding)
        self.on_verdict(routed)

    async def _ready(self, group: Group) -> Outcome:
        """Our own process has to say so too, before anybody calls it ready."""
        return await group.ready([self.tunnel.name]) if self.tunnel and self._is_ours(group) else Passed()


def _refused(before: Finding, failed: Failed, evidence: Sequence[str], steps: Sequence[str]) -> Finding:
    """The same failure, and what to do where nobody here may restart it: the order that was refused is no help."""
    others = [step for step in failed.next_steps if "tunnel restart" not in step and step not in steps]
    outcome = replace(failed.because(*evidence), next_steps=(*steps, *others))
    return replace(before, outcome=outcome)


@dataclass
class _Carrier:
    """The process that carries the tunnel, as `recovery` restarts it. `after`: what was found out then."""

    step: VerifyTunnel
    tunnel: Tunnel
    run: Run
    group: Group
    routed: Routed
    after: Finding | None = None

    @property
    def name(self) -> str:
        return self.tunnel.name

    async def incarnation(self) -> str | None:
        return await self.tunnel.incarnation()

    async def restart(self) -> None:
        if self.group.ending(self.name) is not None:
            await self.group.restart(self.name)
        else:
            await self.tunnel.restart_foreign()

    async def ask(self) -> Outcome:
        await self.step.rejoined(self.group)
        self.after = await self.step.wait(self.run, self.group, self.routed, self.step.total)
        return self.after.outcome
