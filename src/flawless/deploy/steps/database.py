"""DB_VALIDATE and MIGRATE_VERIFY: nothing is started before these pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flawless.core.check import Check, Failed, Outcome, Passed, Skipped
from flawless.core.event import Effected, Intended
from flawless.core.gate import Patience
from flawless.deploy.run import Run, required_failure


class EmbeddedServer(Protocol):
    """The embedded PostgreSQL, when the manifest says so."""

    def is_running(self) -> bool: ...

    async def start(self) -> None:
        """Returns when it answers in the project's database; one that does already is left alone."""

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DatabaseChecks:
    """The questions about one database, made when its address is known."""

    reachable: Check
    latency: Check


@dataclass(frozen=True, slots=True)
class ValidateDatabase:
    """Connect with retry inside the total deadline, then three pings. Seconds."""

    embedded: EmbeddedServer | None
    checks: Callable[[], DatabaseChecks] | None
    total: float

    async def run(self, run: Run) -> Outcome:
        if self.checks is None:
            return Skipped("not declared")
        await self._ensure_embedded(run)
        checks = self.checks()
        # Opening a connection takes five round trips: at 700 ms each the usual limit of an attempt would cut it.
        reachable = await run.wait_for(checks.reachable, Patience(self.total, attempt=min(self.total, 10.0)))
        if reachable.failure is not None:
            return reachable.failure
        latency = await run.wait_for(checks.latency, Patience(self.total, attempt=self.total))
        return latency.failure or Passed()

    async def _ensure_embedded(self, run: Run) -> None:
        if self.embedded is None:
            return
        if self.embedded.is_running():
            await self.embedded.start()  # a deploy that was killed may have left it without the project's database
            return
        run.tell(Intended("start", "embedded database"))
        run.undo.push("the embedded database is stopped, as before this deploy", self.embedded.stop)
        await self.embedded.start()
        run.tell(Effected("start", "embedded database"))


class Migrations(Protocol):
    """One set of migrations: the application's, or our own."""

    @property
    def name(self) -> str: ...

    async def ensure_applied(self, run_id: str, tell: Callable[[str], None]) -> Outcome:
        """Applies what is pending, under our lock. Facts: database.migrations of the report.

        `tell` is called, with what is about to be applied, before anything is changed.
        """


@dataclass(frozen=True, slots=True)
class VerifyMigrations:
    """The application's migrations, ours, then the tables that must exist. Migrations are never undone."""

    migrations: Sequence[Migrations]
    tables: Callable[[], Check] | None

    async def run(self, run: Run) -> Outcome:
        if not self.migrations and self.tables is None:
            return Skipped("not declared")
        for migrations in self.migrations:
            outcome = await self._apply(run, migrations)
            if isinstance(outcome, Failed):
                return outcome
        return required_failure(await run.ask_all([self.tables()])) or Passed() if self.tables else Passed()

    async def _apply(self, run: Run, migrations: Migrations) -> Outcome:
        intended: list[str] = []

        def tell(pending: str) -> None:
            intended.append(pending)
            run.tell(Intended("migrate", migrations.name, {"pending": pending}))

        finding = await run.timed(
            f"migrations.applied:{migrations.name}",
            f"the migrations of {migrations.name} are applied",
            migrations.ensure_applied(run.deploy_id, tell),
        )
        if intended and finding.failure is None:
            run.tell(Effected("migrate", migrations.name, {"pending": intended[-1]}))
        return finding.outcome
