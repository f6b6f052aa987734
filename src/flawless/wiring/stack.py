"""One stack, as every command finds it: its manifest, its folders, its services, its database, its archive."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawless.core.clock import Clock, SystemClock
from flawless.core.errors import CommandFailed
from flawless.core.event import Reader, Stream
from flawless.core.pasting import flags_of, with_flags
from flawless.core.secret import Secret
from flawless.manifest import Manifest, load
from flawless.manifest.location import NAME, nearest, state_of
from flawless.manifest.tunnel import declared

if TYPE_CHECKING:
    from flawless.adapters.archive import Archive
    from flawless.adapters.http import LocalHttp, RemoteHttp
    from flawless.adapters.locks import DeployLock
    from flawless.adapters.postgres import EmbeddedPostgres
    from flawless.adapters.services import KeptService
    from flawless.adapters.sockets import SystemSockets
    from flawless.core.redaction import Redactor
    from flawless.incidents import IncidentBook


@dataclass(frozen=True)
class Stack:
    """Parts are made when they are first asked for, because `status` must not pay for what a deploy needs."""

    manifest: Manifest
    clock: Clock

    @classmethod
    def load(cls, config: Path | None, environment: str | None) -> Stack:
        """The stack of the folder we stand in. Raises ConfigInvalid, or CommandFailed for another user's state."""
        from flawless.adapters.ownership import ensure_readable

        manifest = load(Path.cwd(), file=config, environment=environment, environ=os.environ)
        stack = cls(manifest, SystemClock())
        ensure_readable(stack.state, "state")
        return stack

    def ensure_ours(self) -> None:
        """For a command that writes without the deploy lock. Raises CommandFailed where the state is another user's."""
        from flawless.adapters.ownership import ensure_ours

        ensure_ours(self.state)

    @property
    def name(self) -> str:
        return self.manifest.settings.name

    @property
    def address(self) -> str:
        """The address that people open: as the manifest says, else that of the tunnel or of the first public check."""
        settings = self.manifest.settings
        asked = next((one.url for one in settings.public.checks), "") if settings.public is not None else ""
        tunnel = declared(settings)
        carried = tunnel.hostname if tunnel is not None else ""
        return settings.base_url or (f"https://{carried}" if carried else asked)

    @cached_property
    def flags(self) -> str:
        """The flags with which a command finds this very stack in the folder where we are."""
        path = self.manifest.path
        is_found = path.name == NAME and path == nearest(Path.cwd())
        return flags_of(None if is_found else os.path.relpath(path), self.manifest.environment)

    @cached_property
    def state(self) -> Path:
        """Where the state is kept. An environment has its own, so that two of them can run beside one another."""
        return state_of(self.manifest.root, self.manifest.environment)

    @cached_property
    def logs(self) -> Path:
        return self.manifest.root / "logs"

    @cached_property
    def service_logs(self) -> Path:
        """Where what the services print is kept."""
        from flawless.wiring.logs import service_logs_of

        return service_logs_of(self.manifest.root, self.manifest.environment)

    @cached_property
    def redactor(self) -> Redactor:
        """Knows every secret of the manifest, and the embedded database's password."""
        from flawless.core.redaction import Redactor

        url = self.embedded.url() if self.embedded else None
        known = [*self.manifest.sensitive, *([url] if url else [])]
        return Redactor([secret.reveal() for secret in known])

    @cached_property
    def lock(self) -> DeployLock:
        from flawless.adapters.locks import DeployLock

        return DeployLock(self.state / "lock")

    @cached_property
    def archive(self) -> Archive:
        from flawless.adapters.archive import Archive

        return Archive(self.state, self.logs, self.name, self.manifest.environment)

    @cached_property
    def sockets(self) -> SystemSockets:
        from flawless.adapters.sockets import SystemSockets

        return SystemSockets()

    @cached_property
    def http(self) -> LocalHttp:
        from flawless.adapters.http import LocalHttp

        return LocalHttp()

    @cached_property
    def remote_http(self) -> RemoteHttp:
        """For the interfaces of others: certificates are verified."""
        from flawless.adapters.http import RemoteHttp

        return RemoteHttp()

    @cached_property
    def embedded(self) -> EmbeddedPostgres | None:
        database = self.manifest.settings.database
        if database is None or not database.embedded:
            return None
        from flawless.adapters.postgres import EmbeddedPostgres

        return EmbeddedPostgres(self.state / "postgres", database=re.sub(r"[^a-z0-9_]", "_", self.name))

    def database_url(self) -> Secret | None:
        """Where the database is; None when none is declared, or the embedded one has never been started."""
        if self.embedded is not None:
            return self.embedded.url()
        database = self.manifest.settings.database
        return database.url if database is not None else None

    def known_database_url(self) -> Secret:
        """The same, where a step has made sure that there is one."""
        url = self.database_url()
        if url is None:
            raise CommandFailed(
                "the embedded database has never been started",
                code="DB_REFUSED",
                evidence=[f"nothing is written in {self.state / 'postgres'}"],
                next_steps=["flawless db start"],
            )
        return url

    def direct_url(self) -> Secret:
        """Past a pooler, for migrations and locks."""
        database = self.manifest.settings.database
        return database.direct_url if database is not None and database.direct_url else self.known_database_url()

    def keeper(self, name: str) -> KeptService:
        from flawless.adapters.services import KeptService

        return KeptService(name, self.state / "run" / name, self.service_logs)

    @cached_property
    def keepers(self) -> Mapping[str, KeptService]:
        """The declared services, in the manifest's order."""
        return {name: self.keeper(name) for name in self.manifest.services}

    def leaving(self) -> dict[str, KeptService]:
        """Services that still have a process of ours and are no longer in the manifest."""
        from flawless.adapters.given_up import services

        names = services(self.state)
        found = {name: (keeper := self.keeper(name), keeper.recorded()) for name in names if name not in self.keepers}
        return {
            name: keeper for name, (keeper, known) in found.items() if known and (known.keeper_pid or known.is_alive)
        }

    def stream(self, *readers: Reader) -> Stream:
        """The event stream of a command: redacted, written to logs/flawless*.jsonl, and read by `readers`."""
        return Stream(self.clock, self.redact, *readers, self._event_log())

    def redact(self, tree: Any) -> Any:
        """What may be shown: without secrets, and with next steps that can be pasted."""
        return with_flags(self.redactor.tree(tree), self.flags)

    def learn_database_password(self) -> None:
        """The embedded database has just made its password: from now on it is redacted too."""
        vars(self).pop("redactor", None)

    def _event_log(self) -> Reader:
        from flawless.adapters.event_log import EventLog

        settings = self.manifest.settings.logs
        return EventLog(self.logs, settings.max_size, keep_days_of(settings.keep))

    @cached_property
    def incidents(self) -> IncidentBook:
        from flawless.incidents import IncidentBook

        return IncidentBook(
            self.state / "outbox",
            stack=self.name,
            url=self.database_url,
            redact=self.redact,
            clock=self.clock,
            embedded=self.embedded is not None,
            is_declared=self.manifest.settings.database is not None,
        )

    def versions(self) -> dict[str, Any]:
        from flawless.adapters.versions import versions

        return versions(self.manifest.root, uses_node=self._uses_node())

    def _uses_node(self) -> bool:
        programs = {Path(service.command[0]).name for service in self.manifest.services.values()}
        return bool(programs & {"node", "npm", "npx", "pnpm", "yarn"})

    def prepare(self, names: Collection[str] = ()) -> None:
        """Keepers of those that wait for nobody, of the named services or of all, boot while something else is done."""
        for name, service in self.manifest.settings.services.items():
            if not service.after and (not names or name in names):
                self.keepers[name].prepare()

    async def aclose(self) -> None:
        """Ends what was opened, and the keepers that were not needed after all."""
        for keeper in self.keepers.values():
            keeper.dismiss()
        await self.http.aclose()
        await self.remote_http.aclose()


def keep_days_of(seconds: float) -> int:
    """Whole days, rounded up: what should be kept is never removed early."""
    return max(1, -int(-seconds // 86400))
