"""The one list of which questions there are, and when each is asked. Its order decides which failure is named first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from flawless.checks.artefacts import ArtefactFresh
from flawless.checks.disk import FolderWritable
from flawless.checks.environment import (
    KeyModeRight,
    OverridesSaid,
    PasswordStrong,
    VariablesFilled,
    VariablesFormed,
    VariablesPresent,
    VariablesReal,
)
from flawless.checks.ports import PortFree, PortTable, World
from flawless.checks.public.certificate import AuthoritiesReadable
from flawless.checks.tools import FindProgram, ToolInstalled, Wanted
from flawless.checks.tunnel.config import Tunnel, TunnelConfigured, declared, may_carry
from flawless.core.check import Check, Failed
from flawless.core.connector import Connector
from flawless.core.settings import ExecProbe, ServiceSettings
from flawless.manifest import Manifest, child_environment
from flawless.manifest.environment import tool_environment


class Occasion(StrEnum):
    """When a check is asked."""

    PREFLIGHT = "preflight"
    GATE = "gate"
    MEANWHILE = "meanwhile"


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind of check. Its checks have the id itself, or the id with `:` and what it is asked of."""

    id: str
    claim: str
    occasions: tuple[Occasion, ...]
    doc: str


_PREFLIGHT: Final = (Occasion.PREFLIGHT,)
_GATE: Final = (Occasion.GATE,)
_MEANWHILE: Final = (Occasion.MEANWHILE,)

CATALOG: Final = (
    Entry(
        "env.required",
        "every required variable is set",
        _PREFLIGHT,
        "The names in env.require, and those the manifest refers to without a default.",
    ),
    Entry("env.filled", "no required variable is blank", _PREFLIGHT, "`KEY=` is there and says nothing; so do spaces."),
    Entry(
        "env.real",
        "no variable holds a placeholder",
        _PREFLIGHT,
        "changeme, sk_test_xxx, your-key-here, <password>, TODO and the like, in what is required, secret or used.",
    ),
    Entry(
        "env.formed",
        "values whose form is known have it",
        _PREFLIGHT,
        "Database and web addresses, Stripe and OpenAI keys; a key in another one's place.",
    ),
    Entry(
        "env.strong",
        "the admin password has at least 12 characters",
        _PREFLIGHT,
        "With a shorter one the ops routes stay closed.",
    ),
    Entry(
        "env.mode",
        "test keys and live keys are where they belong",
        _PREFLIGHT,
        "A Stripe test key with an https base_url under a public name, or a live key with one of this machine alone.",
    ),
    Entry(
        "env.overridden",
        "no variable is given twice with different values",
        _PREFLIGHT,
        "A warning: which place wins over which.",
    ),
    Entry(
        "port.free",
        "the port of a service is free, or its own",
        _PREFLIGHT,
        "On its host, 127.0.0.1, ::1 and the wildcards; who holds it, and who would start that process again.",
    ),
    Entry(
        "disk.writable",
        "a folder is writable and its disk has room",
        _PREFLIGHT,
        "A nameless file is written in paths.writable, in logs and in the state folder; nothing stays behind.",
    ),
    Entry(
        "tool.installed",
        "a program of the manifest can be run",
        _PREFLIGHT,
        "On the PATH of the child that wants it; a script's interpreter too.",
    ),
    Entry(
        "tunnel.configured",
        "cloudflared has what it needs to carry the public name",
        _PREFLIGHT,
        "A token, or a file with credentials, rules that cloudflared takes, and among them one for the name.",
    ),
    Entry(
        "public.authorities",
        "the further certificate authorities can be read",
        _PREFLIGHT,
        "The file in public.ca_file, PEM; a certificate in it can be used.",
    ),
    Entry(
        "artefact.fresh",
        "a generated file is there and newer than its sources",
        _PREFLIGHT,
        "A deploy builds it when it has a build command.",
    ),
    Entry(
        "database.reachable",
        "the database answers and takes writes",
        _GATE,
        "Connects, logs in, asks for the server's version and our rights.",
    ),
    Entry(
        "database.latency",
        "the database answers within its latency warning",
        _GATE,
        "Three pings; slower than database.latency_warning is a warning.",
    ),
    Entry(
        "migrations.applied",
        "every migration is applied",
        _GATE,
        "Those of the application, by its own tool, then ours; applied under a lock where they are not.",
    ),
    Entry("database.tables", "the required tables exist", _GATE, "The names in database.tables, after the migrations."),
    Entry(
        "service.listening",
        "a service listens on its port",
        _GATE,
        "The socket belongs to a process of ours and accepts a connection.",
    ),
    Entry(
        "service.ready",
        "a service says that it is ready",
        _GATE,
        "Its probes in the manifest's order; an answer counts only from a process of ours, of this deploy.",
    ),
    Entry("service.alive", "a service without a port stays alive", _GATE, "Some process of its tree is there."),
    Entry(
        "service.stable",
        "what became ready stays so",
        _GATE,
        "Every readiness probe, again and again for timeouts.stable; a second fall is flapping.",
    ),
    Entry("tunnel.process", "cloudflared runs", _GATE, "Which process carries the tunnel, who started it, since when."),
    Entry(
        "tunnel.metrics",
        "cloudflared's metrics port answers",
        _GATE,
        "At the address of that very process; one that accepts and never answers is frozen.",
    ),
    Entry(
        "tunnel.identity",
        "cloudflared carries the tunnel that the manifest means",
        _GATE,
        "The id in /diag/tunnel against that of the token, of the file or of external.cloudflare.tunnel.",
    ),
    Entry(
        "tunnel.connected",
        "cloudflared is connected to the edge",
        _GATE,
        "/ready; registrations that the edge has refused are told apart from a way that is closed.",
    ),
    Entry(
        "tunnel.current",
        "cloudflared runs with its configuration as it is on disk",
        _GATE,
        "The file's time against the start of the process: it is read once.",
    ),
    Entry(
        "tunnel.route",
        "the live rule for the public name leads to this stack",
        _GATE,
        "/config: the first rule that matches names an address at which a service of the manifest listens.",
    ),
    Entry("tunnel.origin", "the address that the rule names answers", _GATE, "Asked at that very address."),
    Entry(
        "public.resolves",
        "the public name is found in DNS",
        _GATE,
        "By this machine, or pinned by public.resolve; else public.resolvers are asked whether others find it.",
    ),
    Entry(
        "public.reachable",
        "a public address is answered by this release, and by nobody else",
        _GATE,
        "public.requests to each host, never from a cache: whose each answer is, its status and JSON, the certificate, "
        "the page's own scripts and styles.",
    ),
    Entry(
        "tunnel.routing",
        "the public name leads to this release",
        _GATE,
        "All observations of the tunnel and of the public name, taken together to one verdict (docs/tunnel.md).",
    ),
    Entry(
        "public.routing",
        "the public name leads to this release",
        _GATE,
        "The same without a tunnel: what the public name shows.",
    ),
    Entry(
        "external.stripe",
        "Stripe accepts the key",
        _MEANWHILE,
        "Reads the account, or the balance where a restricted key may not see that; its mode against base_url.",
    ),
    Entry(
        "external.webhook",
        "Stripe sends its events to this stack",
        _MEANWHILE,
        "With a webhook_secret and a public address: an enabled endpoint leads there. A warning when none does; "
        "skipped for a key that may not see endpoints.",
    ),
    Entry(
        "external.openai",
        "OpenAI accepts the key",
        _MEANWHILE,
        "Reads the list of models, for the organization and the project of the manifest. No model is asked.",
    ),
    Entry(
        "external.cloudflare",
        "Cloudflare accepts the token",
        _MEANWHILE,
        "The token is active, a user's or the account's; one that ends within 14 days is a warning.",
    ),
    Entry(
        "external.tunnel",
        "Cloudflare sees the tunnel connected",
        _MEANWHILE,
        "With external.cloudflare.account and tunnel: the API's own view. Asked again at the end where the tunnel was "
        "not connected yet.",
    ),
    Entry(
        "external.dns",
        "the public name leads to the tunnel",
        _MEANWHILE,
        "With external.cloudflare.tunnel: the record of tunnel.hostname is a proxied CNAME to it.",
    ),
)
"""Every kind of check, in the order in which a deploy asks."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the preflight questions need beside the manifest. `folders`: those Flawless itself writes in.

    `connectors`: the cloudflared processes of this machine that are not ours.
    """

    world: World
    find_program: FindProgram
    folders: tuple[Path, ...]
    connectors: Callable[[], Sequence[Connector]] = tuple


def preflight(manifest: Manifest, surroundings: Surroundings) -> list[Check]:
    """The preflight checks of a stack in catalog order, artefacts aside: a deploy asks for those once it may build."""
    return [
        *_of_environment(manifest),
        *_of_ports(manifest, surroundings.world),
        *_of_disk(manifest, surroundings.folders),
        *_of_tools(manifest, surroundings),
        *_of_tunnel(manifest),
        *_of_public(manifest),
    ]


def artefacts(manifest: Manifest) -> dict[str, ArtefactFresh]:
    """The checks of generated files, by name: last in catalog order."""
    return {name: ArtefactFresh(name, manifest.root, one) for name, one in manifest.settings.artefacts.items()}


def _of_environment(manifest: Manifest) -> list[Check]:
    return [
        VariablesPresent(manifest),
        VariablesFilled(manifest),
        VariablesReal(manifest),
        VariablesFormed(manifest),
        PasswordStrong(manifest),
        KeyModeRight(manifest),
        OverridesSaid(manifest),
    ]


def _of_ports(manifest: Manifest, world: World) -> list[Check]:
    ports = {name: (one.host, one.port) for name, one in manifest.settings.services.items() if one.port is not None}
    table = PortTable(world, frozenset(port for _, port in ports.values()), frozenset(manifest.settings.services))
    return [PortFree(name, host, port, table) for name, (host, port) in ports.items()]


def _of_disk(manifest: Manifest, folders: tuple[Path, ...]) -> list[Check]:
    """Each folder once, however it is written."""
    named = {manifest.root / name: name for name in manifest.settings.paths.writable}
    for folder in folders:
        named.setdefault(folder, os.path.relpath(folder, manifest.root))
    return [FolderWritable(manifest.root, name) for name in named.values()]


def _of_tunnel(manifest: Manifest) -> list[Check]:
    tunnel = declared(manifest)
    return [] if tunnel is None else [TunnelConfigured(tunnel)]


def _of_tools(manifest: Manifest, surroundings: Surroundings) -> list[Check]:
    """A check a program, however many want it."""
    wanted: dict[str, list[Wanted]] = {}
    for one in _wanted(manifest, surroundings.connectors):
        wanted.setdefault(Path(one.program).name, []).append(one)
    return [ToolInstalled(name, tuple(all_), surroundings.find_program) for name, all_ in wanted.items()]


def _of_public(manifest: Manifest) -> list[Check]:
    public = manifest.settings.public
    return [AuthoritiesReadable(manifest.root, public.ca_file)] if public is not None and public.ca_file else []


def _wanted(manifest: Manifest, connectors: Callable[[], Sequence[Connector]]) -> Iterator[Wanted]:
    for name, service in manifest.settings.services.items():
        yield from _of_service(manifest, name, service)
    path = _path(tool_environment(manifest))
    database = manifest.settings.database
    if database is not None and database.migrate is not None:
        migrate = database.migrate
        for key, argv in (("apply", migrate.apply), ("pending", migrate.pending)):
            if argv:
                yield Wanted(argv[0], manifest.root / migrate.directory, path, f"database.migrate.{key}")
    settings, tunnel = manifest.settings.tunnel, declared(manifest)
    if settings is not None and tunnel is not None:
        yield Wanted(settings.command[0], manifest.root, path, "tunnel.command", _runs_already(tunnel, connectors))
    for name, artefact in manifest.settings.artefacts.items():
        if artefact.build:
            by = f"artefacts.{name}.build"
            directory = manifest.root / artefact.directory
            yield Wanted(
                artefact.build[0], directory, path, by, _needless(ArtefactFresh(name, manifest.root, artefact))
            )


def _of_service(manifest: Manifest, name: str, service: ServiceSettings) -> Iterator[Wanted]:
    path = _path(child_environment(manifest, name, "", None))
    directory = manifest.root / service.directory
    yield Wanted(service.command[0], directory, path, f"services.{name}.command")
    for probe in (*service.ready, service.live):
        if isinstance(probe, ExecProbe):
            yield Wanted(probe.exec[0], directory, path, f"a probe of services.{name}")


def _runs_already(tunnel: Tunnel, connectors: Callable[[], Sequence[Connector]]) -> Callable[[], str | None]:
    """A cloudflared that somebody else runs for this tunnel, perhaps in a container, is verified and not started."""

    def said() -> str | None:
        running = (one for one in connectors() if may_carry(one, tunnel))
        return next((f"a cloudflared runs already: {one}" for one in running), None)

    return said


def _needless(check: ArtefactFresh) -> Callable[[], str | None]:
    """What is fresh is not built, so nobody misses the program that would build it."""
    return lambda: None if isinstance(check.look(), Failed) else f"{check.name} is fresh, so it is not built"


def _path(environment: Mapping[str, str]) -> str:
    return environment.get("PATH", os.defpath)
