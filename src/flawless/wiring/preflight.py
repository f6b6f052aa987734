"""The preflight checks of one stack: the questions, and what they ask the world with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flawless.adapters import supervision
from flawless.adapters.artefacts import BuildableArtefact
from flawless.adapters.cloudflared import connectors
from flawless.adapters.commands import Command, find_program
from flawless.adapters.services import KeptService
from flawless.adapters.sockets import is_free
from flawless.checks import catalog
from flawless.checks.catalog import Surroundings
from flawless.checks.ports import Neighbour, World
from flawless.core.check import Check, Finding
from flawless.core.errors import CommandFailed
from flawless.core.pasting import flags_of
from flawless.core.service import TUNNEL
from flawless.deploy.steps.precheck import Artefact
from flawless.manifest.environment import tool_environment
from flawless.manifest.location import find_overlay, state_of
from flawless.wiring.logs import service_logs_of

if TYPE_CHECKING:
    from flawless.core.connector import Connector
    from flawless.manifest import Manifest
    from flawless.wiring.stack import Stack


def checks(stack: Stack) -> list[Check]:
    """Every preflight check in catalog order, artefacts aside."""
    return catalog.preflight(stack.manifest, _surroundings(stack))


def artefacts(stack: Stack) -> list[Artefact]:
    """The generated files, each with its check and what makes it."""
    settings = stack.manifest.settings
    environment = tool_environment(stack.manifest)
    asked = catalog.artefacts(stack.manifest)
    return [
        BuildableArtefact(
            name,
            asked[name],
            Command(one.build, stack.manifest.root / one.directory, environment) if one.build else None,
            settings.timeouts.build,
            stack.redactor,
        )
        for name, one in settings.artefacts.items()
    ]


def everything(stack: Stack) -> list[Check]:
    """Both: all that a person may ask before a deploy."""
    return [*checks(stack), *(artefact.check for artefact in artefacts(stack))]


async def tell_keepers(stack: Stack, findings: Sequence[Finding]) -> None:
    """A service that runs, and whose port was found to be another's, is not called ready any more."""
    for finding in findings:
        kind, _, name = finding.id.partition(":")
        failed = finding.failure
        if kind == "port.free" and failed is not None and await _is_ousted(stack, name):
            with suppress(CommandFailed):  # it has ended meanwhile: then nobody calls it ready
                await stack.keepers[name].mark(ready=False, reason=f"{failed.reason}: {failed.cause}")


async def _is_ousted(stack: Stack, name: str) -> bool:
    """Whether it runs and does not listen on its port itself."""
    port, pids = stack.manifest.services[name].port, await stack.keepers[name].pids()
    running = await stack.keepers[name].look()
    if running is None or not running.is_alive or port is None or running.port != port:
        return False
    return not any(one.pids & pids for one in stack.sockets.listeners(port, pids))


async def _neighbour_of(stack: Stack, pid: int) -> Neighbour | None:
    """The service of another environment of this project that the process belongs to."""
    for environment, run_folder in _run_folders(stack):
        keeper = KeptService(run_folder.name, run_folder, service_logs_of(stack.manifest.root, environment))
        if pid in await keeper.pids():
            return _neighbour(stack, environment, keeper.name)
    return None


def _neighbour(stack: Stack, environment: str | None, name: str) -> Neighbour:
    """Its command names the manifest even where that is the usual one, lest it be given the flags of this stack."""
    flags = flags_of(os.path.relpath(stack.manifest.path), environment)
    return Neighbour(name, environment, f"flawless {flags} stop {name}")


def _run_folders(stack: Stack) -> Iterator[tuple[str | None, Path]]:
    """Those of all services of all other environments, as far as they are there."""
    state = state_of(stack.manifest.root, None)
    states = {None: state} | {path.name: path for path in sorted((state / "environments").glob("*"))}
    for environment, folder in states.items():
        if folder != stack.state:
            yield from ((environment, path) for path in sorted((folder / "run").glob("*")))


def _top_file(manifest: Manifest) -> str:
    """The file whose word on a port is the last."""
    return find_overlay(manifest.path, manifest.environment).name if manifest.environment else manifest.path.name


def _surroundings(stack: Stack) -> Surroundings:
    async def own() -> Mapping[str, frozenset[int]]:
        keepers = {**stack.keepers, **stack.leaving()}
        pids = await asyncio.gather(*(keeper.pids() for keeper in keepers.values()))
        return dict(zip(keepers, pids, strict=True))

    def stack_of(pid: int) -> str | None:
        """What this very stack has lost sight of has no other stack to stop it in."""
        folder = supervision.stack_of(pid)
        return None if folder is None or Path(folder).is_relative_to(stack.manifest.root) else folder

    neighbour_of = partial(_neighbour_of, stack)
    world = World(
        stack.sockets, is_free, own, supervision.supervision_of, stack_of, neighbour_of, _top_file(stack.manifest)
    )

    def others() -> Sequence[Connector]:
        """Our own is started anew when something of it has changed, so its program is needed."""
        known = stack.keepers[TUNNEL].recorded() if TUNNEL in stack.keepers else None
        return [one for one in connectors() if known is None or not known.is_alive or one.pid != known.pid]

    return Surroundings(world, _find, (stack.logs, stack.state), others)


def _find(program: str, directory: Path, path: str) -> Path:
    return find_program(Command((program,), directory, {"PATH": path}))
