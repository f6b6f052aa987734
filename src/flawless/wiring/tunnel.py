"""The tunnel and the public name of one stack: what is asked, who runs cloudflared, how it is restarted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flawless.adapters import tunnel_record
from flawless.adapters.cloudflared import connectors
from flawless.adapters.commands import Command, Completed, run
from flawless.adapters.http import RemoteHttp
from flawless.adapters.keeper.tree import identity
from flawless.adapters.restarts import RestartLedger
from flawless.adapters.tunnel_record import TunnelRecord
from flawless.checks.public.address import PublicAddress, asked_of
from flawless.checks.routing import Routed, View, observed
from flawless.checks.tunnel.config import Tunnel as Declared
from flawless.checks.tunnel.config import declared, origins_of
from flawless.checks.tunnel.observations import observe
from flawless.checks.tunnel.reading import World, counted
from flawless.core.check import Passed, Skipped
from flawless.core.clock import to_stamp
from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason
from flawless.core.service import TUNNEL, Change, ChangeAction, Running
from flawless.core.tunnel import Connection, Local, Metrics, Name, Outside, Process, Public, Route, Seen
from flawless.manifest.environment import tool_environment
from flawless.manifest.tunnel import hostname
from flawless.recovery import Rule
from flawless.wiring.services import Services
from flawless.wiring.stack import Stack

if TYPE_CHECKING:
    from flawless.core.answer import Answer
    from flawless.core.settings import PublicSettings

LOCALLY: Final = 2.0
"""Seconds that a metrics port, and the local origin, are given for one answer."""

RESPAWN: Final = 2.0
"""Seconds in which a keeper that starts it again at once has done so; a longer pause of it need not be waited for."""


@dataclass
class TunnelOf:
    """The tunnel and the public name of one stack, as its manifest declares them. Close it with `aclose`."""

    stack: Stack
    seen: str | None = field(default=None, init=False)
    """Which process carried the tunnel at the last look, told apart from every other one there was; None: none did."""
    _metrics: str = field(default="", init=False)

    @property
    def is_declared(self) -> bool:
        return self._declared is not None

    @cached_property
    def routed(self) -> Routed | None:
        """The question whether the public name leads here; None where nothing of it is declared."""
        if self._asked is None and self._declared is None:
            return None
        settings = self.stack.manifest.settings
        may_restart = settings.tunnel is not None and bool(settings.tunnel.restart)
        return Routed(hostname(settings), self.look, has_tunnel=self.is_declared, may_restart=may_restart)

    async def look(self, limit: float) -> View:
        """Everything that can be seen now. The public name is asked once cloudflared could carry an answer."""
        local = None if self._declared is None else await self.local(min(limit / 2, 2 * LOCALLY))
        self._metrics = local.metrics_address if local is not None else ""
        why_not = self._why_not(local) if self._asked is not None else "no public check is declared"
        look = await self._address.observe(limit) if why_not is None else None
        outside = look.outside if look is not None else _unasked(why_not or "")
        here = observed(local, is_proved=outside.public.state is Public.OURS)
        return View(local, outside, [*here, *(look.findings if look is not None else ())])

    def _why_not(self, local: Local | None) -> str | None:
        """Why it is of no use to ask from outside now; None when it may be."""
        if local is None:
            return None
        if local.process.state is Process.NONE:
            return "not asked: cloudflared does not run"
        if local.metrics.state is Metrics.SILENT:
            return "not asked: cloudflared answers nothing"
        if local.connection.state in (Connection.NONE, Connection.REFUSED):
            return "not asked: cloudflared is not connected to the edge"
        return self._still_starting(local) if local.process.state is Process.OURS else None

    def _still_starting(self, local: Local) -> str | None:
        """What visitors are answered meanwhile says nothing of what they will be: a 503, measured, for a moment."""
        if local.metrics.state is Metrics.NONE:
            return "not asked: cloudflared is still starting"
        assert self._declared is not None
        if self._declared.token and local.route.state is Route.UNKNOWN:
            return "not asked: the tunnel's rules have not come from Cloudflare yet"
        return None

    async def local(self, limit: float) -> Local:
        """What this machine knows of the tunnel."""
        assert self._declared is not None
        keeper = self.stack.keepers[TUNNEL]
        kept = _told_apart(await keeper.look())
        lines = await keeper.tail(50)
        world = World(connectors, keeper.pids, self.stack.sockets, self.stack.http, self._program, lambda: lines)
        local = await observe(self._declared, world, limit)
        self.seen = kept or _identified(local.pid)
        return local

    async def foreign(self) -> str | None:
        """Who runs cloudflared for this tunnel, where it is not us."""
        if self._declared is None:
            return None
        process = (await self.local(2 * LOCALLY)).process
        if process.state is not Process.FOREIGN or not isinstance(process.outcome, Passed):
            return None
        return f"cloudflared runs already, {process.outcome.evidence[0]}"

    name = TUNNEL

    @cached_property
    def ledger(self) -> RestartLedger:
        return RestartLedger(self.stack.state, TUNNEL)

    @cached_property
    def rule(self) -> Rule:
        """As often as any service is started again."""
        settings = self.stack.manifest.services[TUNNEL].restart
        again = f"flawless stop {TUNNEL} && flawless start {TUNNEL}"
        return Rule(settings.limit, settings.within, Reason.TUNNEL_RESTART_REFUSED, again)

    async def incarnation(self) -> str | None:
        """Which process carries the tunnel now. Its keeper knows of ours what the process table does not show: that it
        is just being started.
        """
        kept = _told_apart(await self.stack.keepers[TUNNEL].settled(RESPAWN))
        if kept is None:
            await self.local(2 * LOCALLY)
        return kept or self.seen

    async def restart_foreign(self) -> None:
        """Raises CommandFailed, also where the manifest gives no command for it."""
        settings = self.stack.manifest.settings.tunnel
        assert settings is not None
        if not settings.restart:
            raise _not_ours()
        environment = tool_environment(self.stack.manifest) | self.stack.manifest.services[TUNNEL].env
        command = Command(settings.restart, self.stack.manifest.root, environment)
        limit = self.stack.manifest.settings.timeouts.tunnel_ready
        done = await run(command, limit=limit, redactor=self.stack.redactor, leaves=True)
        if not done.succeeded:
            raise _unhelpful(command, done)

    def remember(self, routed: Routed) -> None:
        """Leaves the verdict for those who ask nobody."""
        if routed.verdict is not None:
            row, at = routed.verdict.row, to_stamp(self.stack.clock.now())
            tunnel_record.write(self.stack.state, TunnelRecord(row.verdict, row.reason, at, routed.hostname))

    async def aclose(self) -> None:
        if "_http" in vars(self):
            await self._http.aclose()

    @cached_property
    def _declared(self) -> Declared | None:
        return declared(self.stack.manifest)

    @cached_property
    def _asked(self) -> PublicSettings | None:
        return asked_of(self.stack.manifest.settings)

    @cached_property
    def _http(self) -> RemoteHttp:
        public = self._asked
        assert public is not None
        ca_file = self.stack.manifest.root / public.ca_file if public.ca_file else None
        return RemoteHttp(ca_file=ca_file, resolve=public.resolve)

    @cached_property
    def _address(self) -> PublicAddress:
        """Made when it is first asked, because the services run by then; kept, as it remembers who has answered."""
        assert self._asked is not None
        return PublicAddress(
            self._asked,
            self._http,
            self.stack.clock,
            ids=self._deploy_ids(),
            local=self._locally,
            hostname=hostname(self.stack.manifest.settings) if self._declared else "",
            arrivals=self._handed if self._declared else None,
        )

    def _deploy_ids(self) -> frozenset[str]:
        """The deploys that started what runs now: an answer that carries one of them is this release's."""
        records = (keeper.recorded() for name, keeper in self.stack.keepers.items() if name != TUNNEL)
        return frozenset(one.deploy_id for one in records if one is not None and one.is_alive and one.deploy_id)

    async def _locally(self, path: str) -> Answer | None:
        """What the service behind the public name answers here."""
        there = Declared("", None, origins=origins_of(self.stack.manifest))
        if not there.origins:
            return None
        try:
            return await self.stack.http.ask("GET", f"{there.origin}{path}", limit=LOCALLY)
        except (OSError, ValueError):
            return None  # it answers nothing here, so nothing can be compared with it

    async def _handed(self) -> float | None:
        """How many requests cloudflared here has been handed since it was started; None where it does not tell."""
        if not self._metrics:
            return None
        try:
            answer = await self.stack.http.ask("GET", f"http://{self._metrics}/metrics", limit=LOCALLY)
        except (OSError, ValueError):
            return None
        return counted(answer, "cloudflared_tunnel_total_requests")

    def _program(self) -> Path:
        return Path(Services(self.stack).command(TUNNEL)[0])


def _not_ours() -> CommandFailed:
    return CommandFailed(
        "cloudflared is not restarted here: Flawless did not start it, and [tunnel] restart names no command for it",
        code=Reason.TUNNEL_RESTART_REFUSED,
        evidence=["who runs it: flawless tunnel status"],
        next_steps=[
            "restart it as it was started, for example: sudo systemctl restart cloudflared",
            'or let Flawless do so: [tunnel] restart = ["sudo", "systemctl", "restart", "cloudflared"]',
        ],
    )


def _unhelpful(command: Command, done: Completed) -> CommandFailed:
    ended = "did not end in time" if done.timed_out else f"ended with {done.status}"
    return CommandFailed(
        f"the command in [tunnel] restart {ended}: {command}",
        code=Reason.TUNNEL_RESTART_REFUSED,
        evidence=[*done.output_tail] or ["it printed nothing"],
        next_steps=[f"run it yourself: {command}", "then: flawless tunnel status"],
    )


def _told_apart(running: Running | None) -> str | None:
    return _identified(running.pid) if running is not None and running.is_alive else None


def _identified(pid: int | None) -> str | None:
    process = identity(pid) if pid is not None else None
    return f"pid {process.pid}, started {process.start_time} ticks after boot {process.boot_id}" if process else None


def _unasked(because: str) -> Outside:
    return Outside(Seen(Name.UNASKED, Skipped(because)), Seen(Public.UNASKED, Skipped(because)))


async def left_to_others(stack: Stack, changes: Sequence[Change]) -> list[Change]:
    """The changes, but a tunnel that somebody else runs already is not started beside that one."""
    absent = any(one.name == TUNNEL and one.action is ChangeAction.START for one in changes)
    said = await TunnelOf(stack).foreign() if absent else None
    if said is None:
        return list(changes)
    return [Change(TUNNEL, ChangeAction.KEEP, (said,)) if one.name == TUNNEL else one for one in changes]
