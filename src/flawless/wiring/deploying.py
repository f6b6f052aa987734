"""A deploy, put together: its steps, its journal, its readers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawless.core import ids
from flawless.core.check import Outcome, Skipped
from flawless.core.clock import to_stamp
from flawless.core.event import Reader, RunStarted
from flawless.core.phase import Phase
from flawless.core.service import Change
from flawless.core.settings import DatabaseSettings, MigrationTool, Settings
from flawless.deploy.deployment import Deployment
from flawless.deploy.journal import Journal
from flawless.deploy.leaving import Leaving
from flawless.deploy.migrate import ApplicationMigrations
from flawless.deploy.report import ReportBuilder
from flawless.deploy.run import Run, Step
from flawless.deploy.services import Group
from flawless.deploy.steps.database import DatabaseChecks, Migrations, ValidateDatabase, VerifyMigrations
from flawless.deploy.steps.external import Interfaces, ThenAsk, UnlessRefused, VerifyInterfaces
from flawless.deploy.steps.precheck import Precheck
from flawless.deploy.steps.services import ReadyBackends, StartBackends, StartFrontends
from flawless.deploy.steps.success import ConfirmEndState
from flawless.deploy.steps.tunnel import VerifyTunnel
from flawless.deploy.steps.undeclared import Unsupported
from flawless.manifest.environment import tool_environment
from flawless.wiring import given_up, preflight
from flawless.wiring.services import Services
from flawless.wiring.settling import settle

if TYPE_CHECKING:
    from flawless.adapters.postgres import EmbeddedPostgres
    from flawless.checks.interfaces.declared import Declared
    from flawless.core.check import Check
    from flawless.wiring.stack import Stack
    from flawless.wiring.tunnel import TunnelOf

NOT_YET = "declared, and not supported by this version yet"


@dataclass(frozen=True)
class Deploying:
    """One deploy of one stack. The caller holds the deploy lock."""

    stack: Stack
    readers: Sequence[Reader]

    def deployment(self) -> Deployment:
        """Opens the journal; the first event is not told yet."""
        from flawless.adapters.files import ensure_private_folder

        now = self.stack.clock.now()
        ensure_private_folder(self.stack.state)
        deploy_id = ids.deploy_id(now)
        with suppress(OSError):  # on a full disk the journal says so better, with a code and a next step
            self.stack.archive.reserve.ensure()
        builder = ReportBuilder()
        journal = Journal(self.stack.archive.open_journal(deploy_id))
        run = Run(deploy_id, self.stack.clock, self.stack.stream(journal, builder, *self.readers))
        return Deployment(
            run,
            self._steps(),
            self._started(deploy_id),
            builder,
            self.stack.archive,
            self.stack.incidents,
            self._on_good(run),
        )

    def settle(self) -> list[Path]:
        """Reports of runs that were killed."""
        return settle(self.stack)

    def _started(self, deploy_id: str) -> RunStarted:
        from flawless.adapters import desired

        last = desired.read(self.stack.state)
        return RunStarted(
            deploy_id,
            self.stack.name,
            self.stack.manifest.environment,
            self._versions,
            os.getpid(),
            self.stack.embedded is not None,
            last.deploy_id if last else None,
        )

    def _steps(self) -> dict[Phase, Step]:
        early, late = self._services.early(), self._services.late()
        return {
            Phase.PRECHECK: ThenAsk(self._precheck(), self._interfaces),
            Phase.DB_VALIDATE: self._validate_database(),
            Phase.MIGRATE_VERIFY: UnlessRefused(self._verify_migrations(), self._interfaces),
            Phase.BACKEND_START: UnlessRefused(StartBackends(self._group, early), self._interfaces),
            Phase.BACKEND_READY_GATE: ReadyBackends(self._group, early),
            Phase.FRONTEND_START: StartFrontends(self._group, late),
            Phase.TUNNEL_START_OR_VERIFY: self._verify_tunnel(),
            Phase.EXTERNAL_VERIFY: VerifyInterfaces(self._interfaces, list(_unsupported(self._settings))),
            Phase.SUCCESS: ConfirmEndState(self._group, self._leaving, self._last_questions),
        }

    @property
    def _settings(self) -> Settings:
        return self.stack.manifest.settings

    @property
    def _database(self) -> DatabaseSettings | None:
        return self._settings.database

    @cached_property
    def _versions(self) -> dict[str, Any]:
        return self.stack.versions()

    @cached_property
    def _services(self) -> Services:
        return Services(self.stack)

    @cached_property
    def _tunnel(self) -> TunnelOf | None:
        """Of a stack that declares a tunnel or a public check."""
        if not self._services.tunnel() and self._settings.public is None:
            return None
        from flawless.wiring.tunnel import TunnelOf

        return TunnelOf(self.stack)

    @cached_property
    def _interfaces(self) -> Interfaces:
        return Interfaces(self._declared, self.stack.remote_http.ready)

    def _declared(self) -> Declared:
        from flawless.checks.interfaces.declared import declared

        return declared(self.stack.manifest, self.stack.remote_http, self.stack.clock)

    @cached_property
    def _leaving(self) -> Leaving:
        return Services(self.stack).leaving()

    @cached_property
    def _planned(self) -> list[asyncio.Future[Group]]:
        return []

    async def _group(self, run: Run) -> Group:
        """Planned once, by the first phase that needs it: then the database's address is known."""
        if not self._planned:
            self._planned.append(asyncio.ensure_future(self._plan(run)))
        return await self._planned[0]

    async def _plan(self, run: Run) -> Group:
        changes = await self._services.changes()
        if self._services.tunnel():
            from flawless.wiring.tunnel import left_to_others

            changes = await left_to_others(self.stack, changes)
        run.note("changes", {"services": {one.name: _told(one) for one in changes}})
        group = await self._services.group(run, changes, self._leaving)
        run.ends_with(group.aclose)
        return group

    def _precheck(self) -> Precheck:
        folders = [self.stack.manifest.root / name for name in self._settings.paths.writable]
        tell = partial(preflight.tell_keepers, self.stack)
        return Precheck(preflight.checks(self.stack), preflight.artefacts(self.stack), folders, tell)

    def _validate_database(self) -> ValidateDatabase:
        if self._database is None:
            return ValidateDatabase(None, None, 0.0)
        embedded = Embedded(self.stack, self.stack.embedded) if self.stack.embedded else None
        return ValidateDatabase(embedded, self._database_checks, self._settings.timeouts.database)

    def _database_checks(self) -> DatabaseChecks:
        from flawless.checks.database import DatabaseLatency, DatabaseReachable

        assert self._database is not None
        url, embedded = self.stack.known_database_url(), self._database.embedded
        latency = DatabaseLatency(url, self._database.latency_warning, embedded)
        return DatabaseChecks(DatabaseReachable(url, embedded), latency)

    def _verify_migrations(self) -> VerifyMigrations:
        tables = self._tables if self._database is not None and self._database.tables else None
        return VerifyMigrations(list(self._migrations()), tables)

    def _migrations(self) -> Iterator[Migrations]:
        if self._database is None:
            return
        tool = migration_tool(self.stack)
        if tool is not None:
            yield tool
        yield self.stack.incidents.migrations(self.stack.direct_url)

    def _tables(self) -> Check:
        from flawless.checks.database import TablesPresent

        assert self._database is not None
        return TablesPresent(self.stack.known_database_url(), self._database.tables, self._database.embedded)

    def _verify_tunnel(self) -> VerifyTunnel:
        timeouts, tunnel = self._settings.timeouts, self._tunnel
        if tunnel is None:
            return VerifyTunnel(self._group, None, None, timeouts.public)
        if not tunnel.is_declared:
            return VerifyTunnel(self._group, None, tunnel.routed, timeouts.public)
        total = max(timeouts.tunnel_ready, timeouts.public)
        return VerifyTunnel(self._group, tunnel, tunnel.routed, total, tunnel.remember)

    def _last_questions(self) -> list[Check]:
        database = [self._database_checks().reachable] if self._database is not None else []
        routed = self._tunnel.routed if self._tunnel is not None else None
        return [*database, *([routed] if routed is not None else [])]

    def _on_good(self, run: Run) -> Callable[[], Awaitable[None]]:
        """What a good deploy leaves behind: what should run from now on."""

        async def remember() -> None:
            from flawless.adapters import desired

            group = await self._group(run)
            everything = [*self._services.early(), *self._services.late(), *self._services.tunnel()]
            names = [name for name in everything if name in group.started]
            commit = self._versions["git_commit"]
            good = desired.Desired(run.deploy_id, to_stamp(self.stack.clock.now()), commit, names)
            desired.write(self.stack.state, good)
            given_up.end(self.stack, None, by=f"deploy {run.deploy_id}")

        return remember


@dataclass(frozen=True)
class Embedded:
    """The embedded database as DB_VALIDATE needs it."""

    stack: Stack
    server: EmbeddedPostgres

    def is_running(self) -> bool:
        return self.server.status().running

    async def start(self) -> None:
        await self.server.ensure_running()
        self.stack.learn_database_password()

    async def stop(self) -> None:
        await self.server.stop()


@dataclass(frozen=True, slots=True)
class UnsupportedMigrations:
    """A migration tool that is declared and cannot be run yet: said, and never passed over."""

    name: str

    async def ensure_applied(self, run_id: str, tell: Callable[[str], None]) -> Outcome:  # noqa: ARG002 - nothing is run
        return Skipped(f"{NOT_YET}: {self.name}", declared=True)


def migration_tool(stack: Stack) -> Migrations | None:
    """The application's own migrations, with whatever tool the manifest names."""
    database = stack.manifest.settings.database
    settings = database.migrate if database is not None else None
    if settings is None or settings.tool is MigrationTool.NONE:
        return None
    from flawless.adapters.migrations import SUPPORTED, Alembic, MigrationCommand, Migrator, Surroundings

    if settings.tool not in SUPPORTED:
        return UnsupportedMigrations(settings.tool)
    directory = stack.manifest.root / settings.directory
    environment = tool_environment(stack.manifest)
    around = Surroundings(
        directory, environment, stack.state, stack.redactor, stack.clock, embedded=stack.embedded is not None
    )
    alembic = settings.tool is MigrationTool.ALEMBIC
    tool = Alembic(directory) if alembic else MigrationCommand(settings.apply, settings.pending)
    limit = stack.manifest.settings.timeouts.migrate
    return ApplicationMigrations(settings.tool, Migrator(tool, around), stack.direct_url, limit)


def _unsupported(settings: Settings) -> Iterator[Unsupported]:
    if settings.metrics is not None:
        yield Unsupported("metrics.served", "metrics are served", NOT_YET)
    if settings.notify is not None:
        yield Unsupported("notify.sent", "incidents are sent to those who want to know", NOT_YET)


def _told(one: Change) -> str:
    return f"{one.action}: {', '.join(one.why)}"
