"""What the repository promises a reader who has just cloned it."""

from __future__ import annotations

import ast
import configparser
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flawless

ROOT = Path(__file__).parent.parent
SOURCES = ("bootstrap.py", "src", "tests", "stack", "scripts")
# Where the package of a distribution has another name.
PACKAGES = {"dnspython": "dns", "python-dotenv": "dotenv", "pyyaml": "yaml"}


def python_files() -> Iterator[Path]:
    for source in SOURCES:
        path = ROOT / source
        yield from [path] if path.is_file() else path.rglob("*.py")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def runtime_requirements() -> list[str]:
    metadata = project()["project"]
    extras = [line for lines in metadata["optional-dependencies"].values() for line in lines]
    return names_in(metadata["dependencies"] + extras)


def names_in(requirements: list[str]) -> list[str]:
    return [str(canonicalize_name(Requirement(line).name)) for line in requirements]


def tracked_files() -> list[Path]:
    """Every text of the repository; without git, as in a source archive, every text that is not generated."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file()]
    generated = {".venv", "__pycache__", ".flawless", "logs", ".git"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not generated & set(path.parts)]


def comments(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


IGNORE = re.compile(r"#\s*(?:noqa\b(?::\s*[A-Z0-9, ]*[A-Z0-9])?|type:\s*ignore(?:\[[a-z, -]+\])?)")


def bare_ignores(path: Path) -> list[str]:
    """The ignores with no reason: nothing but ignores stands in their comment."""
    found = [(line, text) for line, text in comments(path) if IGNORE.search(text)]
    return [f"{path.name}:{line}: {text}" for line, text in found if len(IGNORE.sub("", text).strip(" #-:.,;")) < 8]


def test_every_ignore_has_its_reason_on_the_line() -> None:
    """A rule is switched off for a reason, and the reader sees it there."""
    assert [line for path in python_files() for line in bare_ignores(path)] == []


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa", True),
        ("# noqa: S606", True),
        ("# type: ignore[arg-type]", True),
        ("# type: ignore[arg-type]  # noqa: S606", True),
        ("# noqa: S606 - argv and no shell is what is wanted", False),
        ("# type: ignore[arg-type]  # the library's annotation is wrong", False),
    ],
)
def test_a_bare_ignore_is_found(tmp_path: Path, comment: str, bare: bool) -> None:  # noqa: FBT001 - a column of a table
    """The search above would find one."""
    path = tmp_path / "module.py"
    path.write_text(f"x = 1  {comment}\n", encoding="utf-8")

    assert bool(bare_ignores(path)) is bare


def test_every_dependency_is_explained() -> None:
    """docs/dependencies.md has a row, with its reason, for each package that pyproject.toml asks for."""
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    development = names_in(project()["dependency-groups"]["dev"])
    explained = re.findall(r"^\| `([a-z0-9-]+)`", page, flags=re.MULTILINE)

    assert sorted(explained) == sorted(runtime_requirements() + development)


def test_the_lock_satisfies_the_project() -> None:
    """Every requirement is pinned in its section, inside its range, with a hash and without an address."""
    result = lock_check(ROOT)

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (r"^click==\S+", "click==7.0", "click is pinned to 7.0, pyproject.toml asks for <9,>=8.5"),
        (r"^alembic==.*\n(?:    .*\n)*", "", "alembic is not pinned"),
        (r"^rich==(\S+).*\n(?:    .*\n)*", r"rich==\1\n", "rich has no hash"),
        (r"\A", "--index-url=https://index.example\n", "names an address: --index-url=https://index.example"),
        (r"^# --- development ---\n", "", "the line `# --- development ---` is missing"),
    ],
)
def test_a_lock_that_does_not_satisfy_the_project_is_refused(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    """The check asks the two files alone, so it holds without uv and without a network."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(re.sub(old, new, lock, count=1, flags=re.MULTILINE), encoding="utf-8")
    result = lock_check(tmp_path)

    assert result.returncode == 1
    assert complaint in result.stderr


def lock_check(root: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "scripts" / "lock.py"), "--check", f"--root={root}"]
    return subprocess.run(program, env={"PATH": ""}, capture_output=True, text=True, check=False)


def test_the_layers_hold() -> None:
    """Imports go downwards, and only the wiring knows the adapters."""
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("core/bad.py", "import flawless.adapters", "Imports go downwards"),
        ("checks/bad.py", "import flawless.deploy", "Imports go downwards"),
        ("deploy/bad.py", "import flawless.adapters.files", "Only wiring knows the adapters"),
        ("adapters/keeper/bad.py", "import rich", "What a keeper loads is the standard library alone"),
        ("adapters/keeper/bad.py", "import flawless.manifest", "Imports go downwards"),
    ],
)
def test_a_broken_layer_is_refused(tmp_path: Path, module: str, statement: str, contract: str) -> None:
    """One wrong import in a copy of the tree, and the check fails, naming the contract."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    bad = tmp_path / "src" / "flawless" / module
    bad.parent.mkdir(exist_ok=True)
    (bad.parent / "__init__.py").touch()
    bad.write_text(f"{statement}\n", encoding="utf-8")
    result = lint_imports(tmp_path)

    assert result.returncode == 1
    assert re.search(rf"^{contract} BROKEN", result.stdout, flags=re.MULTILINE), result.stdout


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    start = "from importlinter.cli import lint_imports_command as lint_imports; lint_imports()"
    return subprocess.run(
        [sys.executable, "-c", start, "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_keepers_contract_names_every_dependency() -> None:
    """A new dependency is forbidden to a keeper from its first day."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    forbidden = contracts["importlinter:contract:stdlib"]["forbidden_modules"].split()
    packages = {PACKAGES.get(name, name.replace("-", "_")) for name in runtime_requirements()}

    assert packages - set(forbidden) == set()


MACHINE_PATHS = re.compile(
    r"/home/(?!you\b|flawless\b|app\b|deploy\b|user\b)\w+/|/Users/\w+/|/root/\w|/work/\w|C:\\Users\\\w"
)


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    """What is written here holds on every machine."""
    this = Path(__file__)
    texts = [(path, path.read_text(encoding="utf-8", errors="replace")) for path in tracked_files() if path != this]

    assert [
        (str(path.relative_to(ROOT)), found.group()) for path, text in texts if (found := MACHINE_PATHS.search(text))
    ] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has wrappers of its own, which nobody can run here")
def test_the_wrapper_deploys_the_checkout_it_belongs_to(tmp_path: Path) -> None:
    """Called in any folder, it passes its arguments through unharmed, and the exit code back."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "deploy.sh", tmp_path / "scripts")
    (tmp_path / "bootstrap.py").write_text(
        "import os, sys; print(os.getcwd(), sys.argv); sys.exit(75)", encoding="utf-8"
    )
    wrapper = [str(tmp_path / "scripts" / "deploy.sh"), "--environment", "a b", "*", ""]
    result = subprocess.run(wrapper, cwd="/", capture_output=True, text=True, check=False)

    assert result.stdout == f"{tmp_path} ['bootstrap.py', 'deploy', '--environment', 'a b', '*', '']\n"
    assert result.returncode == 75


@pytest.mark.parametrize("name", ["scripts/deploy.sh", ".ci/run"])
def test_what_is_called_by_its_name_is_executable(name: str) -> None:
    """No `sh` in front is needed."""
    assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize(("name", "arguments"), [("deploy.ps1", "@args"), ("deploy.cmd", "%*")])
def test_the_windows_wrappers_pass_every_argument_on(name: str, arguments: str) -> None:
    """Read, not run: there is no Windows here."""
    text = (ROOT / "scripts" / name).read_text(encoding="utf-8")
    calls = [line for line in text.splitlines() if "bootstrap.py" in line]

    assert calls
    assert all(f"bootstrap.py deploy {arguments}" in line for line in calls)


def test_the_version_has_an_entry_in_the_changelog() -> None:
    """A user who has this version can read what it changed for them."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.search(rf"^## {re.escape(flawless.__version__)}\b", changelog, flags=re.MULTILINE)


def test_the_bootstrap_stays_small_and_within_the_standard_library() -> None:
    """At most 160 lines, and nothing that a fresh machine has not."""
    source = (ROOT / "bootstrap.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0]
        for node in imports
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert len(source.splitlines()) <= 160
    assert names <= sys.stdlib_module_names


def test_ci_says_the_words_of_the_readers() -> None:
    """CI calls the two commands of CONTRIBUTING.md, and nothing besides."""
    said = re.findall(r"^say (.*)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

    assert said == ["python3 bootstrap.py test", "python3 bootstrap.py lint"]
    assert all(f"\n{command}" in contributing for command in said)
