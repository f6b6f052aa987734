"""What is known without asking anybody: records, notes and reports, as `flawless status` tells them.

It reads what it needs of the manifest and does not validate the rest, so that it is quick, and so that what runs can
be seen while the manifest is being edited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawless.adapters import desired, given_up, tunnel_record
from flawless.adapters.archive import Archive
from flawless.adapters.keeper.record import FILE
from flawless.adapters.ownership import ensure_readable
from flawless.adapters.services import KeptService
from flawless.adapters.tunnel_record import TunnelRecord
from flawless.core.clock import from_stamp
from flawless.core.service import TUNNEL, Running, ServiceState
from flawless.manifest.document import read_document
from flawless.manifest.location import find_manifest, find_overlay, state_of
from flawless.wiring.logs import service_logs_of
from flawless.wiring.settling import killed_run

if TYPE_CHECKING:
    from flawless.adapters.locks import Holder
    from flawless.adapters.postgres import ServerStatus


class Standing(StrEnum):
    """The state of a whole stack."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    NOT_RUNNING = "not_running"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outline:
    """What status needs of a manifest. `roles` by service, in the manifest's order."""

    name: str
    root: Path
    environment: str | None
    roles: Mapping[str, str]
    has_database: bool
    embedded: bool

    @property
    def state(self) -> Path:
        return state_of(self.root, self.environment)

    @property
    def service_logs(self) -> Path:
        return service_logs_of(self.root, self.environment)


@dataclass(frozen=True, slots=True)
class Seen:
    """One service: what its record says, None where there is none; `is_readable` is False for a torn record.

    `is_wanted`: the last good deploy, or an order since, says that it should run.
    """

    name: str
    role: str | None
    running: Running | None
    is_readable: bool
    is_wanted: bool

    @property
    def state(self) -> ServiceState:
        return self.running.state if self.running else ServiceState.STOPPED

    @property
    def is_ready(self) -> bool:
        return self.running is not None and self.running.ready and self.state is ServiceState.READY

    @property
    def is_unkept(self) -> bool:
        """It runs, and nobody would start it again: its keeper was killed."""
        return self.is_up and self.running is not None and self.running.keeper_pid is None

    @property
    def is_unverified(self) -> bool:
        """It runs, and no verdict was given on it: a crash would not be answered."""
        return self.is_up and self.running is not None and not self.running.armed

    @property
    def is_up(self) -> bool:
        return self.running is not None and self.running.is_alive


@dataclass(frozen=True, slots=True)
class Picture:
    """One stack, as far as it is written down. `latency_ms` is from the last report that has one.

    `is_forgotten`: what should run was written down, and cannot be read any more.
    """

    outline: Outline
    services: Sequence[Seen]
    leaving: Sequence[Seen]
    server: ServerStatus | None
    incidents: Mapping[str, int]
    holder: Holder | None
    deploy_id: str | None
    report: Mapping[str, Any] | None
    report_path: Path | None
    killed: str | None
    is_forgotten: bool
    tunnel: TunnelRecord | None = None

    @property
    def standing(self) -> Standing:
        if self.is_forgotten or not all(one.is_readable for one in self.services):
            return Standing.UNKNOWN
        if not any(one.is_up for one in self.services):
            return Standing.DOWN if any(one.is_wanted for one in self.services) else Standing.NOT_RUNNING
        is_whole = all(one.is_ready and not one.is_unkept and not one.is_unverified for one in self.services)
        is_routed = self.tunnel is None or self.tunnel.code is None
        is_well = is_whole and is_routed and self.database_ready is not False
        return Standing.HEALTHY if is_well else Standing.DEGRADED

    @property
    def database_ready(self) -> bool | None:
        """Whether the embedded server runs; None for another's server, which is not asked."""
        return self.server.running if self.server is not None else None

    @property
    def latency_ms(self) -> float | None:
        try:
            return float((self.report or {})["database"]["latency_ms"]["average"])
        except (KeyError, TypeError, ValueError):
            return None


def look(config: Path | None, environment: str | None) -> Picture:
    """Reads what is written down about the stack of the folder we stand in. Raises ConfigInvalid."""
    outline = outline_of(config, environment)
    archive = Archive(outline.state, outline.root / "logs", outline.name, outline.environment)
    holder = _holder(outline.state)
    good = desired.read(outline.state)
    wanted = set(good.services) if good else set()
    path = archive.last_report()
    return Picture(
        outline=outline,
        services=_services(outline, wanted),
        leaving=_leaving(outline),
        server=_server(outline) if outline.embedded else None,
        incidents=_incidents(outline.state),
        holder=holder,
        deploy_id=good.deploy_id if good else None,
        report=_report(path),
        report_path=path,
        killed=None if holder else killed_run(archive),
        is_forgotten=desired.is_damaged(outline.state),
        tunnel=tunnel_record.read(outline.state) if TUNNEL in outline.roles else None,
    )


def _services(outline: Outline, wanted: set[str]) -> list[Seen]:
    """A tunnel that somebody else runs is no service of ours."""
    seen = [_seen(outline, name, role, wanted) for name, role in outline.roles.items()]
    return [one for one in seen if one.name != TUNNEL or one.is_wanted or one.is_up or not one.is_readable]


def outline_of(config: Path | None, environment: str | None) -> Outline:
    """The manifest's outline as written; where a variable is needed for it, or something is missing, all is read.

    Raises ConfigInvalid; CommandFailed where what is kept of the stack is another user's and cannot be read.
    """
    outline = _outline_of(config, environment)
    ensure_readable(outline.state, "state")
    ensure_readable(outline.root / "logs", "logs folder")
    return outline


def _outline_of(config: Path | None, environment: str | None) -> Outline:
    path = find_manifest(Path.cwd(), config)
    paths = [path, *([find_overlay(path, environment)] if environment else [])]
    try:
        return _sketch(path.parent, environment, [read_document(one, one.name).data for one in paths])
    except (KeyError, TypeError, AttributeError):
        return _whole(config, environment)


def _sketch(root: Path, environment: str | None, documents: Sequence[Mapping[str, Any]]) -> Outline:
    """KeyError, TypeError or AttributeError where it cannot be told from the text alone."""
    roles: dict[str, str] = {}
    name, url = "", None
    tunnel: dict[str, Any] = {}
    for data in documents:
        name = data.get("name", name)
        url = data.get("database", {}).get("url", url)
        roles |= {service: table["role"] for service, table in data.get("services", {}).items() if "role" in table}
        if set(data.get("services", {})) - set(roles):
            raise KeyError("role")
        tunnel = {"provider": "cloudflared", **tunnel, **data.get("tunnel", {})} if "tunnel" in data else tunnel
    if tunnel.get("provider", "none") != "none":
        roles[TUNNEL] = TUNNEL
    if not name or any("${" in text for text in (name, *roles.values(), str(tunnel.get("provider", "")))):
        raise KeyError("name")
    return Outline(name, root, environment or None, roles, url is not None, url == "embedded")


def _whole(config: Path | None, environment: str | None) -> Outline:
    from flawless.wiring.stack import Stack

    manifest = Stack.load(config, environment).manifest
    settings = manifest.settings
    roles = {name: str(service.role) for name, service in manifest.services.items()}
    embedded = settings.database is not None and settings.database.embedded
    return Outline(settings.name, manifest.root, manifest.environment, roles, settings.database is not None, embedded)


def _seen(outline: Outline, name: str, role: str | None, wanted: set[str]) -> Seen:
    folder = outline.state / "run" / name
    running = KeptService(name, folder, outline.service_logs).recorded()
    is_readable = running is not None or not (folder / FILE).exists()
    return Seen(name, role, running, is_readable, name in wanted)


def _leaving(outline: Outline) -> list[Seen]:
    """Services that still have a process of ours and are no longer in the manifest."""
    names = given_up.services(outline.state)
    seen = [_seen(outline, name, None, set()) for name in names if name not in outline.roles]
    return [one for one in seen if one.is_up]


def _server(outline: Outline) -> ServerStatus:
    from flawless.adapters.postgres import EmbeddedPostgres

    return EmbeddedPostgres(outline.state / "postgres", database=outline.name).status()


def _incidents(state: Path) -> dict[str, int]:
    from flawless.incidents.known import KnownOpen

    return KnownOpen(state / "outbox" / "open").counts()


def _holder(state: Path) -> Holder | None:
    """Who deploys now. Without its note the lock is not tried: a deploy that begins now would find it taken"""
    folder = state / "lock"
    if not (folder / "deploy.json").exists():
        return None
    from flawless.adapters.locks import DeployLock

    return DeployLock(folder).holder()


def _report(path: Path | None) -> Mapping[str, Any] | None:
    """The last report; None where there is none that can be read."""
    if path is None:
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        failure = report["failure"]
        told = [report["result"], report["finished_at"], report["deploy_id"]]
        told += [failure["code"], failure["cause"]] if failure else []
        from_stamp(report["finished_at"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return report if all(isinstance(one, str) for one in told) else None
