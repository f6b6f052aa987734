"""Writes requirements.lock from pyproject.toml (needs uv on the PATH), or says whether the two agree.

    python scripts/lock.py              pins what is new, keeps every other version
    python scripts/lock.py --upgrade    takes the newest versions that pyproject.toml allows
    python scripts/lock.py --check      asks the two files alone: no uv, no network

The lock is a requirements file in two sections: what Flawless needs to run, then what working on it needs besides. It
holds versions and hashes and no address, so that it installs from whichever index the reader uses.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT = "# --- development ---\n"
EXTRAS = ("embedded", "stack")
UV = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes")
BARE = ("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check requirements.lock.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    parser.add_argument("--check", action="store_true", help="only say whether the lock satisfies pyproject.toml")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of the two files")
    arguments = parser.parse_args()
    if not arguments.check:
        write(arguments.root, upgrade=arguments.upgrade)
    problems = [*problems_of(arguments.root)]
    for problem in problems:
        sys.stderr.write(f"requirements.lock: {problem}\n")
    if problems:
        sys.stderr.write("Run `python scripts/lock.py` with uv on the PATH, and commit what it writes.\n")
    return 1 if problems else 0


def write(root: Path, *, upgrade: bool) -> None:
    if not shutil.which("uv"):
        sys.exit("uv is needed to write the lock: pip install uv")
    lock = root / "requirements.lock"
    with tempfile.TemporaryDirectory() as folder:
        everything, runtime = Path(folder, "everything.txt"), Path(folder, "runtime.txt")
        if lock.exists() and not upgrade:
            everything.write_text(lock.read_text(encoding="utf-8"), encoding="utf-8")  # uv keeps what it finds here
        resolve(root, everything, "--group=dev")
        resolve(root, runtime, f"--constraints={everything}")
        needed = runtime.read_text(encoding="utf-8")
        additional = [entry for entry in entries_of(everything.read_text(encoding="utf-8")) if entry not in needed]
    lock.write_text(needed + DEVELOPMENT + "".join(additional), encoding="utf-8")


def resolve(root: Path, output: Path, *further: str) -> None:
    extras = [f"--extra={extra}" for extra in EXTRAS]
    subprocess.run([*UV, *BARE, *extras, *further, f"--output-file={output}", "pyproject.toml"], cwd=root, check=True)


def entries_of(lock: str) -> list[str]:
    """Each pinned package with its hashes, as it stands."""
    return re.findall(r"^[A-Za-z0-9].*(?:\n[ ]+.*)*\n", lock, flags=re.MULTILINE)


def problems_of(root: Path) -> Iterator[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    runtime, line, additional = text.partition(DEVELOPMENT)
    if not line:
        yield f"the line `{DEVELOPMENT.strip()}` is missing"
    extras = project["project"]["optional-dependencies"]
    asked = [*project["project"]["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    yield from unsatisfied(asked, pins_of(runtime))
    yield from unsatisfied(project["dependency-groups"]["dev"], pins_of(runtime) | pins_of(additional))
    yield from (f"{name(entry)} has no hash" for entry in entries_of(text) if "--hash=sha256:" not in entry)
    yield from (f"names an address: {line}" for line in text.splitlines() if "://" in line or line.startswith("-"))


def unsatisfied(asked: list[str], pins: Mapping[str, str]) -> Iterator[str]:
    for requirement in map(Requirement, asked):
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{requirement.name} is not pinned"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} is pinned to {version}, pyproject.toml asks for {requirement.specifier}"


def pins_of(lock: str) -> dict[str, str]:
    return {canonicalize_name(name(entry)): entry.split("==", 1)[1].split()[0] for entry in entries_of(lock)}


def name(entry: str) -> str:
    return entry.split("==", 1)[0]


if __name__ == "__main__":
    sys.exit(main())
