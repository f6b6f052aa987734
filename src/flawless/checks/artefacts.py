"""The question about generated files: is each there, and newer than what it is made from?"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.settings import ArtefactSettings

_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class ArtefactFresh:
    """A generated file is there and no source is newer. A folder is as new as its newest file."""

    name: str
    root: Path
    settings: ArtefactSettings
    optional: bool = False

    @property
    def id(self) -> str:
        return f"artefact.fresh:{self.name}"

    @property
    def claim(self) -> str:
        return f"{self.settings.path} is there and newer than its sources"

    async def ask(self, limit: float) -> Outcome:
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(self.look)
        except TimeoutError:
            cause = f"{self.name}: its sources could not be looked through within {limit:g} s"
            step = f"name fewer files in artefacts.{self.name}.sources"
            return Failed(Reason.ARTEFACT_STALE, cause, (f"sources: {', '.join(self.settings.sources)}",), (step,))

    def look(self) -> Outcome:
        """The answer, at once. Raises OSError where a folder may not be read."""
        made = _newest(self.root, self.settings.path)
        if made is None:
            return self._failed(
                Reason.ARTEFACT_MISSING, f"{self.settings.path} is missing", f"nothing is there: {self._place}"
            )
        changed = [found for source in self.settings.sources if (found := _newest(self.root, source))]
        newer = [(path, time) for path, time in changed if time > made[1]]
        if newer:
            path, time = max(newer, key=lambda one: one[1])
            shown = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            return self._failed(
                Reason.ARTEFACT_STALE,
                f"{self.settings.path} is older than {shown}",
                f"{shown} was changed {_span(time - made[1])} after it was made",
            )
        return self._unjudged() or Passed((f"{self.settings.path} is there, and newer than its sources",))

    @property
    def _place(self) -> str:
        return str(self.root / self.settings.path)

    def _unjudged(self) -> Passed | None:
        """A source that does not exist proves nothing about freshness."""
        absent = [source for source in self.settings.sources if _newest(self.root, source) is None]
        if not absent:
            return None
        step = f"mend artefacts.{self.name}.sources in flawless.toml"
        said = f"{self.settings.path} is there; whether it is fresh is not known: no file is {', '.join(absent)}"
        return Passed((said,), Concern(Reason.ARTEFACT_STALE, step))

    def _failed(self, reason: Reason, cause: str, evidence: str) -> Failed:
        if self.settings.build:
            command = f"cd {shlex.quote(str(self.root / self.settings.directory))} && {shlex.join(self.settings.build)}"
            said = f"flawless deploy builds it: {shlex.join(self.settings.build)}"
            return Failed(reason, f"{self.name}: {cause}", (evidence, said), ("flawless deploy", f"by hand: {command}"))
        said = f"it is not built: artefacts.{self.name} has no `build`"
        step = f"make it, or give artefacts.{self.name} a `build` command in flawless.toml"
        return Failed(reason, f"{self.name}: {cause}", (evidence, said), (step,))


def _newest(root: Path, pattern: str) -> tuple[Path, int] | None:
    """The file changed last among those a path or pattern names, with its time in nanoseconds; None for no file."""
    times = []
    for path in _files(root, pattern):
        try:
            times.append((path, path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue  # it was removed while we looked, or is a link to nothing
    return max(times, key=lambda one: one[1], default=None)


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """What a path names, or a pattern matches; of a folder that it names, every file below."""
    if not _MAGIC & set(pattern):
        found = root / pattern
        yield from _below(found) if found.is_dir() else [found]
        return
    # `src/**` means the files too, which pathlib gives from Python 3.13 on only.
    whole = f"{pattern}/*" if pattern.endswith("**") else pattern
    base = Path(Path(whole).anchor) if Path(whole).is_absolute() else root
    relative = whole if base == root else str(Path(whole).relative_to(base))
    yield from (path for path in base.glob(relative) if not path.is_dir())


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _span(nanoseconds: int) -> str:
    seconds = nanoseconds / 1e9
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
