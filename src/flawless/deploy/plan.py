"""What a deploy would do with each service, and why. Pure: from what runs and what is wanted to a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flawless.core.service import Change, ChangeAction, Running, ServiceState

_PARTS: Final = {
    "command": "its command changed",
    "environment": "its environment changed",
    "artefacts": "an artefact of it changed",
    "code": "its code changed",
}


def change(name: str, running: Running | None, wanted: Mapping[str, str]) -> Change:
    """Keeps what runs from the same command, environment, artefacts and code; starts or replaces the rest."""
    if running is None or not running.is_alive:
        return Change(name, ChangeAction.START, (_absence(running),))
    why = tuple(said for part, said in _PARTS.items() if running.fingerprint.get(part) != wanted.get(part))
    return Change(name, ChangeAction.REPLACE, why) if why else Change(name, ChangeAction.KEEP, ("nothing changed",))


def _absence(running: Running | None) -> str:
    if running is None or running.state is ServiceState.STOPPED:
        return "it does not run"
    ended = f", it {running.last_exit.sentence}" if running.last_exit else ""
    return f"it is {running.state}{ended}"


def ordered(names: Sequence[str], after: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each stands behind what it comes after. The manifest has no cycle."""
    done: list[str] = []

    def visit(name: str) -> None:
        for other in after.get(name, ()):
            if other in names and other not in done:
                visit(other)
        if name not in done:
            done.append(name)

    for name in names:
        visit(name)
    return done


def late(names: Sequence[str], after: Mapping[str, Sequence[str]], frontends: Sequence[str]) -> list[str]:
    """Which services come up with the frontends: those of that role, and whatever waits for one of them."""
    chosen: list[str] = []
    for name in ordered(names, after):
        if name in frontends or any(other in chosen for other in after.get(name, ())):
            chosen.append(name)
    return chosen
