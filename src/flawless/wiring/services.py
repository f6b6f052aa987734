"""The services of a stack: what each is started with, how each is asked, what a deploy would do with each."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from flawless.adapters import fingerprints
from flawless.checks.answer import Wanted
from flawless.checks.service import (
    ExecReady,
    HttpReady,
    LogReady,
    StaysAlive,
    Subject,
    TcpReady,
    exit_failure,
    listening_failure,
)
from flawless.checks.tunnel.exit import tunnel_exit
from flawless.core.check import Check, Failed
from flawless.core.errors import CommandFailed
from flawless.core.secret import Secret
from flawless.core.service import Change, Exit, Launch, Running
from flawless.core.settings import ExecProbe, HttpProbe, LogProbe, Probe, Role, ServiceSettings, TcpProbe
from flawless.deploy.leaving import Leaver, Leaving
from flawless.deploy.plan import change, late, ordered
from flawless.deploy.services import Group, Launcher, Plan, Recovery
from flawless.manifest import child_environment
from flawless.manifest.environment import secrets_of
from flawless.manifest.tunnel import config_path
from flawless.wiring.stack import keep_days_of

if TYPE_CHECKING:
    from flawless.deploy.run import Run
    from flawless.wiring.stack import Stack

_LATE: Final = {Role.FRONTEND, Role.PROXY}


@dataclass(frozen=True)
class Services:
    """All services of one stack, planned and asked."""

    stack: Stack

    @cached_property
    def settings(self) -> dict[str, ServiceSettings]:
        return self.stack.manifest.services

    def early(self) -> list[str]:
        """Backends and workers, each behind what it waits for."""
        later = [*self.late(), *self.tunnel()]
        return [name for name in ordered(list(self.settings), self._after()) if name not in later]

    def late(self) -> list[str]:
        """Frontends and proxies, and whatever waits for one of them."""
        frontends = [name for name, service in self.settings.items() if service.role in _LATE]
        return [name for name in late(list(self.settings), self._after(), frontends) if name not in self.tunnel()]

    def tunnel(self) -> list[str]:
        """The tunnel, where one is declared: behind all others."""
        return [name for name, service in self.settings.items() if service.role is Role.TUNNEL]

    async def group(self, run: Run, changes: Sequence[Change], leaving: Leaving) -> Group:
        """The services on their way up, as `changes` say."""
        plans = {one.name: self._plan(one) for one in changes}
        keepers = {name: self.stack.keepers[name] for name in plans}
        return Group(run, plans, keepers, Probes(self.stack), self._launcher(run.deploy_id), leaving)

    def leaving(self) -> Leaving:
        """What still runs and is no longer in the manifest."""
        found = self.stack.leaving()
        ports = {name: known.port if (known := keeper.recorded()) else None for name, keeper in found.items()}
        return Leaving({name: Leaver(keeper, ports[name]) for name, keeper in found.items()})

    async def changes(self) -> list[Change]:
        """What a deploy would do with each, in the order in which it would."""
        names = [*self.early(), *self.late(), *self.tunnel()]
        running = await asyncio.gather(*(self.stack.keepers[name].look() for name in names))
        # Without a key nothing of ours has ever been started here, so there is nothing to compare with.
        key = fingerprints.read_key(self.stack.state) or b""
        wanted = await asyncio.gather(*(asyncio.to_thread(self.fingerprint, name, key) for name in names))
        return [change(name, now, digest) for name, now, digest in zip(names, running, wanted, strict=True)]

    def fingerprint(self, name: str, key: bytes) -> dict[str, str]:
        service = self.settings[name]
        root = self.stack.manifest.root
        directory = root / service.directory
        environment = child_environment(self.stack.manifest, name, "", self.stack.database_url())
        inherited = self.stack.manifest.inherited
        parts = fingerprints.Parts(
            command=self.command(name),
            environment={key: value for key, value in environment.items() if inherited.get(key) != value},
            directory=directory,
            artefacts=self._tunnel_files() if service.role is Role.TUNNEL else self._artefacts(directory),
            sources=service.sources,
            excluded=[directory] if service.role is Role.TUNNEL else self._not_code(),
        )
        return fingerprints.fingerprint(parts, key)

    def command(self, name: str) -> tuple[str, ...]:
        """The argv with its program found on the child's own PATH. Raises CommandFailed: TOOL_MISSING."""
        service = self.settings[name]
        program, *arguments = service.command
        directory = self.stack.manifest.root / service.directory
        path = service.env.get("PATH") or self.stack.manifest.inherited.get("PATH")
        found = str(directory / program) if "/" in program and not program.startswith("/") else program
        resolved = shutil.which(found, path=path)
        if resolved is None:
            raise CommandFailed(
                f"the program of {name} is not installed: {program}",
                code="TOOL_MISSING",
                evidence=[f"looked for in {path or 'no PATH at all'}", f"for services.{name}.command"],
                next_steps=[f"install {program}, or write its path in services.{name}.command"],
            )
        # Not resolve(): a virtual environment's python is a link, and means more than what it points to.
        return (str(Path(resolved).absolute()), *arguments)

    def _plan(self, one: Change) -> Plan:
        service = self.settings[one.name]
        timeouts = self.stack.manifest.settings.timeouts
        limit = timeouts.frontend_ready if service.role in _LATE else timeouts.backend_ready
        limit = timeouts.tunnel_ready if service.role is Role.TUNNEL else limit
        return Plan(one, service.role, service.port, service.after, limit, timeouts.recover, timeouts.stable)

    def _launcher(self, deploy_id: str) -> Launcher:
        async def launch(name: str, fingerprint: Mapping[str, str] | None = None) -> Launch:
            if fingerprint is None:
                # The code is looked at when it is started: what changed since the plan was made runs too.
                key = fingerprints.ensure_key(self.stack.state)
                fingerprint = await asyncio.to_thread(self.fingerprint, name, key)
            return self._launch(name, deploy_id, fingerprint)

        return launch

    def _launch(self, name: str, deploy_id: str, fingerprint: Mapping[str, str]) -> Launch:
        service = self.settings[name]
        manifest = self.stack.manifest
        url = self.stack.database_url()
        entitled = secrets_of(manifest, name, url)
        known = {secret.reveal() for secret in manifest.sensitive} | set(entitled.values())
        return Launch(
            name=name,
            command=self.command(name),
            directory=manifest.root / service.directory,
            environment=child_environment(manifest, name, deploy_id, url),
            secrets=tuple(Secret(value) for value in sorted(known)),
            port=service.port,
            deploy_id=deploy_id,
            fingerprint=fingerprint,
            stop_timeout=service.stop_timeout,
            delays=service.restart.delays,
            limit=service.restart.limit,
            within=service.restart.within,
            forget=service.restart.forget,
            log_max_size=manifest.settings.logs.max_size,
            log_keep_days=keep_days_of(manifest.settings.logs.keep),
        )

    def _after(self) -> dict[str, tuple[str, ...]]:
        return {name: service.after for name, service in self.settings.items()}

    def _artefacts(self, directory: Path) -> list[Path]:
        """Those that lie in the service's own directory."""
        root = self.stack.manifest.root
        paths = [root / artefact.path for artefact in self.stack.manifest.settings.artefacts.values()]
        return [path for path in paths if path.is_relative_to(directory)]

    def _tunnel_files(self) -> list[Path]:
        """What cloudflared is started with instead of code."""
        settings = self.stack.manifest.settings
        assert settings.tunnel is not None
        config = config_path(settings.tunnel, self.stack.manifest.root, self.stack.manifest.inherited)
        return [config] if config is not None else []

    def _not_code(self) -> list[Path]:
        root = self.stack.manifest.root
        return [root / ".flawless", self.stack.logs, *self._writable(), *self._env_files()]

    def _env_files(self) -> list[Path]:
        """What they give a service counts as its environment."""
        return [self.stack.manifest.root / name for name in self.stack.manifest.env_files]

    def _writable(self) -> list[Path]:
        return [self.stack.manifest.root / path for path in self.stack.manifest.settings.paths.writable]


@dataclass(frozen=True)
class Probes:
    """The questions about the services of one stack (deploy.services.Probes)."""

    stack: Stack

    def readiness(self, name: str, running: Running) -> Sequence[Check]:
        service = self.stack.manifest.services[name]
        subject = self._subject(name, running.deploy_id)
        asked = [self._check(subject, running, probe) for probe in service.ready]
        if service.port is not None and not any(isinstance(one, HttpProbe | TcpProbe) for one in service.ready):
            # A port that is declared is proved, whatever else is asked.
            return [TcpReady(subject), *asked]
        return asked or [StaysAlive(subject)]

    def recovery(self, name: str) -> Recovery | None:
        service = self.stack.manifest.services[name]
        if service.recover is None or service.port is None:
            return None
        from flawless.adapters.recovery_routes import RecoveryRoutes

        subject = self._subject(name, None)
        return RecoveryRoutes(
            self.stack.http,
            f"http://{subject.netloc}",
            service.recover.stats,
            service.recover.action,
            self.stack.manifest.settings.admin.password,
            lambda: listening_failure(subject),
        )

    async def ended(self, name: str, exit_: Exit) -> Failed:
        tail = await self.stack.keepers[name].tail(20)
        failed = await exit_failure(self._subject(name, None), exit_, tail)
        return tunnel_exit(failed, tail) if self.stack.manifest.services[name].role is Role.TUNNEL else failed

    def _check(self, subject: Subject, running: Running, probe: Probe) -> Check:
        match probe:
            case HttpProbe():
                self.stack.http.prepare()
                wanted = Wanted(probe.status, probe.json_subset, probe.required)
                is_backend = self.stack.manifest.services[subject.name].role is Role.BACKEND
                return HttpReady(subject, self.stack.http, probe.http, wanted, probe.timeout, is_backend)
            case TcpProbe():
                return TcpReady(subject, probe.timeout)
            case ExecProbe():
                return ExecReady(subject, self._runner(subject.name, probe), probe.exec[0], probe.timeout)
            case LogProbe() if running.ready:
                # The line has been seen, and the lines behind it may long have pushed it out of what is kept.
                return StaysAlive(subject)
            case LogProbe():
                keeper = self.stack.keepers[subject.name]
                return LogReady(subject, lambda: keeper.tail(50), probe.log)
            case _:
                assert_never(probe)

    def _subject(self, name: str, deploy_id: str | None) -> Subject:
        service = self.stack.manifest.services[name]
        keeper = self.stack.keepers[name]
        return Subject(name, service.host, service.port, deploy_id, keeper.pids, self.stack.sockets)

    def _runner(self, name: str, probe: ExecProbe) -> Callable[[float], Awaitable[tuple[int | None, Sequence[str]]]]:
        from flawless.adapters.commands import Command, run

        manifest = self.stack.manifest
        directory = manifest.root / manifest.services[name].directory

        async def ask(limit: float) -> tuple[int | None, Sequence[str]]:
            environment = child_environment(manifest, name, "", self.stack.database_url())
            command = Command(probe.exec, directory, environment)
            done = await run(command, limit=limit, redactor=self.stack.redactor)
            return (None if done.timed_out else done.status), done.output_tail

        return ask
