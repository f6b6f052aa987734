"""The question about programs: is each one that the manifest names here, and can it be run?"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.core.check import Failed, Outcome, Passed, Skipped
from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason

FindProgram = Callable[[str, Path, str], Path]
"""Where a program is: from its name, the directory it is run in and the PATH it is looked for on. Or CommandFailed."""

_ENV: Final = re.compile(r"(?:\S*/)?env(?:\s+-S)?(?:\s+\w+=\S+)*\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One place of the manifest that runs a program. `because`: why it need not run now; None when it must."""

    program: str
    directory: Path
    path: str
    by: str
    because: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True)
class ToolInstalled:
    """A program is found where each that wants it will look, may be executed, and so may its interpreter."""

    name: str
    wanted: tuple[Wanted, ...]
    find: FindProgram
    optional: bool = False

    @property
    def id(self) -> str:
        return f"tool.installed:{self.name}"

    @property
    def claim(self) -> str:
        return f"{self.name} is installed"

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - a few looks into folders
        reasons = [one.because() for one in self.wanted]
        needed = [one for one, reason in zip(self.wanted, reasons, strict=True) if reason is None]
        if not needed:
            return Skipped("; ".join(dict.fromkeys(reason for reason in reasons if reason)))
        answers = [self._find(one) for one in needed]
        failed = next((one for one in answers if isinstance(one, Failed)), None)
        return failed or Passed(tuple(dict.fromkeys(str(one) for one in answers)))

    def _find(self, wanted: Wanted) -> Path | Failed:
        try:
            found = self.find(wanted.program, wanted.directory, wanted.path)
        except CommandFailed as error:
            return self._missing(wanted, error)
        return self._uninterpreted(wanted, found) or found

    def _missing(self, wanted: Wanted, error: CommandFailed) -> Failed:
        inert = _not_executable(wanted)
        if inert is not None:
            return Failed(
                Reason.TOOL_MISSING,
                f"{inert} is there and may not be executed",
                (f"wanted by {wanted.by}", f"mode {inert.stat().st_mode & 0o7777:04o}"),
                (f"chmod +x {shlex.quote(str(inert))}",),
            )
        return Failed(Reason.TOOL_MISSING, error.cause, (f"wanted by {wanted.by}", *error.evidence), error.next_steps)

    def _uninterpreted(self, wanted: Wanted, found: Path) -> Failed | None:
        interpreter = interpreter_of(found)
        if interpreter is None or shutil.which(interpreter, path=wanted.path):
            return None
        shown = interpreter.encode("unicode_escape").decode()
        ending = ": its lines end as Windows writes them" if interpreter.endswith("\r") else ""
        step = f"sed -i 's/\\r$//' {shlex.quote(str(found))}" if ending else f"install {shown}"
        where = interpreter if os.sep in interpreter else f"{shown} on the PATH {wanted.path}"
        return Failed(
            Reason.TOOL_MISSING,
            f"{found} is a script for {shown}, which was not found{ending}",
            (f"wanted by {wanted.by}", f"looked for: {where.encode('unicode_escape').decode()}"),
            (step,),
        )


def interpreter_of(script: Path) -> str | None:
    """What the kernel, or env(1), would start for a script; None for what is none, or cannot be read."""
    try:
        with script.open("rb") as file:
            head = file.read(256)
    except OSError:
        return None
    if not head.startswith(b"#!"):
        return None
    line = head[2:].partition(b"\n")[0].decode(errors="replace").strip(" \t")
    through_env = _ENV.match(line)
    return through_env[1] if through_env else re.split(r"[ \t]", line)[0] or None


def _not_executable(wanted: Wanted) -> Path | None:
    """A file of that name which lacks the right to be executed."""
    if os.sep in wanted.program:
        places = [wanted.directory / wanted.program]
    else:
        places = [Path(folder) / wanted.program for folder in wanted.path.split(os.pathsep) if folder]
    return next((place for place in places if place.is_file() and not os.access(place, os.X_OK)), None)
