"""flawless db remove: the end of an embedded database, after a yes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli import document
from flawless.cli.options import Common
from flawless.cli.page import progress, result
from flawless.core.errors import CommandFailed, UsageError

if TYPE_CHECKING:
    from flawless.wiring.database import Outside
    from flawless.wiring.stack import Stack

DECLINED: Final = 1
"""Exit code when the answer was no: what was asked for was not done."""

_NEVER: Final = "there is no embedded database here"
_MOVED: Final = "a project that was moved, and not deployed since, looks gone as well: flawless db start there first"


def remove_own(stack: Stack, flags: Common) -> int:
    """That of the stack we stand in. The lock is held while the question is open: nothing may be started meanwhile."""
    from flawless.wiring.database import ours, remove

    if not stack.state.is_dir() and not ours(stack).homes():
        _tell(flags, [], [], _NEVER)
        return 0
    question = f"Remove the database of {stack.name} for good?"
    with stack.lock.held("flawless db remove", stack.clock.now()):
        _ensure_still(stack)
        homes = ours(stack).homes()
        if homes and not _agreed(flags, [_described(home) for home in homes], question, "flawless db remove -y"):
            return DECLINED
        asyncio.run(remove(stack))
    _tell(flags, [{"folder": str(home)} for home in homes], [], _NEVER)
    return 0


def remove_orphans(flags: Common) -> int:
    """Those whose project is gone."""
    from flawless.wiring.database import abandoned, remove_abandoned

    found = {one: one.obstacle() for one in abandoned()}
    free = [one for one, obstacle in found.items() if obstacle is None]
    shown = [*(f"{_described(one.home)}, of {one.project}, which is gone" for one in free), _MOVED]
    if free and not _agreed(flags, shown, f"Remove {len(free)} for good?", "flawless db remove --orphans -y"):
        return DECLINED
    removed = [one for one in free if remove_abandoned(one)]
    kept = [_told(one) | {"because": why} for one, why in found.items() if why is not None]
    _tell(flags, [_told(one) for one in removed], kept, "no database has lost its project")
    return 0


def _ensure_still(stack: Stack) -> None:
    from flawless.wiring.database import what_runs

    running = asyncio.run(what_runs(stack))
    if running:
        raise CommandFailed(
            f"{stack.name} still runs: {', '.join(running)}",
            evidence=["nothing was removed"],
            next_steps=["stop all of it: flawless stop --all", "then: flawless db remove"],
        )


def _agreed(flags: Common, shown: Sequence[str], question: str, command: str) -> bool:
    """Whether a person says yes. Raises UsageError where nobody can be asked."""
    if flags.yes:
        return True
    if flags.json or not sys.stdin.isatty():
        raise UsageError(
            "nothing is removed without a yes, and nobody is here to say it",
            evidence=shown,
            next_steps=[f"to remove it for good: {command}"],
        )
    page = progress(flags)
    for one in shown:
        page.say(one)
    agreed = click.confirm(question, err=True)
    if not agreed:
        page.say("nothing was removed")
    return agreed


def _described(home: Path) -> str:
    from flawless.wiring.database import last_used, size_of

    used = last_used(home)
    return f"{home}: {size_of(home) / 1e6:.0f} MB" + (f", last used {used:%Y-%m-%d %H:%M} UTC" if used else "")


def _told(one: Outside) -> dict[str, Any]:
    return {"folder": str(one.home), "project": str(one.project) if one.project else None}


def _tell(flags: Common, removed: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]], nothing: str) -> None:
    if flags.json:
        document.write({"removed": list(removed), "kept": list(kept)})
        return
    page = result(flags)
    for one in removed:
        page.say(f"removed {one['folder']}")
    for one in kept:
        page.say(f"left {one['folder']}: {one['because']}")
    if not removed and not kept:
        page.say(f"nothing to remove: {nothing}")
