"""What a run that was killed could not write, and what a keeper gave up, told by the next command of any kind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flawless.adapters import given_up
from flawless.adapters.archive import Archive
from flawless.core.errors import FlawlessError
from flawless.manifest.location import find_manifest, state_of

if TYPE_CHECKING:
    from flawless.core.event import Stream
    from flawless.wiring.stack import Stack


def settle_when_free(config: Path | None, environment: str | None, *, looks_at_services: bool = True) -> None:
    """Writes the report and the incident of the last run, when it was killed and nobody holds the deploy lock; and the
    incidents of services that were given up, unless the command only reads (`looks_at_services`).

    Reads the end of one file, and the services' records, when there is nothing to do. What keeps it from being done (a
    manifest that is being edited, a full disk) is not the business of the command that only wants to read; the next one
    tries again.
    """
    with suppress(FlawlessError, OSError):
        root = find_manifest(Path.cwd(), config).parent
        state = state_of(root, environment)
        if killed_run(Archive(state, root / "logs", "")) or (looks_at_services and given_up.untold(state)):
            _settle(config, environment)


def settle(stack: Stack) -> list[Path]:
    """Writes what nobody could: of runs that were killed the reports and incidents, of services that were given up the
    incidents. The caller holds the deploy lock.
    """
    from flawless.deploy.journal import Journal, is_ended

    stack.archive.sweep()
    if found := given_up.untold(stack.state):
        from flawless.wiring.given_up import tell

        tell(stack, found)
    if all(is_ended(path.read_bytes()) for path in stack.archive.journals()):
        return []
    from flawless.deploy.deployment import settle_killed  # only now: most often there is nothing to settle

    def stream_for(path: Path) -> Stream:
        return stack.stream(Journal(stack.archive.open_journal(path.stem)))

    return settle_killed(stack.archive, stack.incidents, stream_for)


def killed_run(archive: Archive) -> str | None:
    """The deploy id of the last run, when its journal has no end: it was killed, or it still goes on."""
    newest = max(archive.journals(), key=lambda path: path.stat().st_mtime_ns, default=None)
    data = newest.read_bytes() if newest else b""
    whole = data[: data.rfind(b"\n") + 1].splitlines()
    if newest is None or not whole or b'"event":"run.ended"' in whole[-1]:
        return None
    return newest.stem


def _settle(config: Path | None, environment: str | None) -> None:
    from flawless.wiring.stack import Stack

    stack = Stack.load(config, environment)
    with stack.lock.tried() as is_ours:
        if is_ours:
            settle(stack)
