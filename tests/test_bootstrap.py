"""The script that stands between a fresh clone and a running program.

Each test has a checkout of its own with a lock that asks for nothing, so that nothing is downloaded. What installing
needs (pip, uv) is a program on the PATH which the test wrote.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BOOTSTRAP = Path(__file__).parent.parent / "bootstrap.py"
LOCK = "# nothing to run\n# --- development ---\n# nothing to develop with\n"
PROGRAM = """
import os, sys
print(sys.prefix, os.getcwd(), *sys.argv[1:], sep="|")
sys.exit(int(os.environ.get("EXIT", "0")))
"""
# It is `uv` as far as the bootstrap uses it, and counts how often it was asked to install.
UV = """#!/bin/sh
if [ "$1" = venv ]; then
    for folder; do :; done
    exec {python} -m venv --clear --without-pip "$folder"
fi
echo install >> "{calls}"
{then}
"""

WITHOUT_ENSUREPIP = "import importlib.util; importlib.util.find_spec = lambda *_: None"
WITH_OLD_PYTHON = "import sys; sys.version_info = (3, 9, 2); sys.executable = '/usr/bin/python3.9'"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs on the PATH are shell scripts")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    package = root / "src" / "flawless"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    (root / "requirements.lock").write_text(LOCK, encoding="utf-8")
    (root / "scripts").mkdir()
    (root / "scripts" / "lint.py").write_text(PROGRAM, encoding="utf-8")
    shutil.copy(BOOTSTRAP, root)
    write_uv(root)
    return root


def write_uv(root: Path, then: str = "") -> None:
    programs = root.parent / "programs"
    programs.mkdir(exist_ok=True)
    uv = programs / "uv"
    uv.write_text(UV.format(python=sys.executable, calls=root.parent / "calls", then=then), encoding="utf-8")
    uv.chmod(0o755)


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(root / "bootstrap.py"), *arguments]


def environment(root: Path, **further: str) -> dict[str, str]:
    return {"PATH": f"{root.parent / 'programs'}{os.pathsep}{os.defpath}", **further}


def bootstrap(root: Path, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, *arguments),
        cwd=cwd or root,
        env=environment(root, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_inside(root: Path, before: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The same on a machine that is different in one respect."""
    program = [sys.executable, "-c", f"{before}; import bootstrap; bootstrap.main('deploy')"]
    return subprocess.run(program, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False)


def installs(root: Path) -> int:
    calls = root.parent / "calls"
    return len(calls.read_text(encoding="utf-8").splitlines()) if calls.exists() else 0


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.glob(".venv.made-by-*")]


def test_a_fresh_checkout_runs_the_program_in_an_environment_of_its_own(checkout: Path, tmp_path: Path) -> None:
    """The first run makes .venv, says so on standard error, and hands the words on from the caller's folder."""
    result = bootstrap(checkout, "deploy", "--json", cwd=tmp_path)

    assert result.stdout == f"{checkout / '.venv'}|{tmp_path}|deploy|--json\n"
    assert result.stderr == "Making .venv from requirements.lock with uv, once ...\n"
    assert leftovers(checkout) == []


def test_the_second_run_installs_nothing(checkout: Path) -> None:
    """An environment made from this lock is used as it is, in silence."""
    bootstrap(checkout, "deploy")
    result = bootstrap(checkout, "deploy")

    assert (result.returncode, result.stderr, installs(checkout)) == (0, "", 1)


def test_no_word_at_all_is_handed_on(checkout: Path) -> None:
    """Plain `bootstrap.py` is plain `flawless`."""
    assert bootstrap(checkout).stdout == f"{checkout / '.venv'}|{checkout}\n"


def test_an_exit_code_is_passed_on(checkout: Path) -> None:
    """What `flawless` says to its caller, the bootstrap says too."""
    assert bootstrap(checkout, "deploy", EXIT="78").returncode == 78


def test_a_changed_lock_makes_the_environment_anew(checkout: Path) -> None:
    """The environment is replaced as a whole: nothing of the old one stays."""
    bootstrap(checkout, "deploy")
    (checkout / ".venv" / "old").touch()
    (checkout / "requirements.lock").write_text("# another\n" + LOCK, encoding="utf-8")

    assert bootstrap(checkout, "deploy").returncode == 0
    assert installs(checkout) == 2
    assert not (checkout / ".venv" / "old").exists()


def test_development_packages_are_installed_when_asked_for_and_serve_both(checkout: Path) -> None:
    """`lint` and `test` need more than `deploy`; an environment that has it all is good for every word."""
    bootstrap(checkout, "deploy")
    assert bootstrap(checkout, "lint", "x").stdout == f"{checkout / '.venv'}|{checkout}|x\n"
    bootstrap(checkout, "deploy")

    assert installs(checkout) == 2


def test_another_python_makes_the_environment_anew(checkout: Path) -> None:
    """Packages are compiled for one Python; the environment says which."""
    bootstrap(checkout, "deploy")
    made_from = checkout / ".venv" / "made-from.txt"
    made_from.write_text(made_from.read_text(encoding="utf-8").replace(sys.version.split()[0], "3.11.0rc1"))
    bootstrap(checkout, "deploy")

    assert installs(checkout) == 2


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Path) -> None:
    """A Python removed by the system's upgrade leaves a link to nowhere."""
    bootstrap(checkout, "deploy")
    for link in (checkout / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")

    assert bootstrap(checkout, "deploy").returncode == 0


def test_the_environment_survives_a_move_of_the_checkout(checkout: Path) -> None:
    """The sources are found by a relative path."""
    bootstrap(checkout, "deploy")
    moved = checkout.rename(checkout.with_name("moved"))

    assert bootstrap(moved, "deploy").stdout.startswith(f"{moved / '.venv'}|")
    assert installs(checkout) == 1


def test_the_environment_has_the_program_that_next_steps_name(checkout: Path, tmp_path: Path) -> None:
    """`flawless`, by its path, by a link to it, and after a move of the checkout; exit code and words are handed on."""
    bootstrap(checkout, "deploy")
    moved = checkout.rename(checkout.with_name("moved to"))
    program = moved / ".venv" / "bin" / "flawless"
    (link := tmp_path / "flawless").symlink_to(program)
    for one in (program, link):
        argv, environment = [str(one), "status", "a b"], {"PATH": os.defpath, "EXIT": "3"}
        done = subprocess.run(argv, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (3, f"{moved / '.venv'}|{tmp_path}|status|a b\n"), done.stderr


def test_the_sources_are_compiled_even_where_python_is_told_not_to(checkout: Path) -> None:
    """PYTHONDONTWRITEBYTECODE=1, common in containers, would cost every start a second or two."""
    bootstrap(checkout, "deploy", PYTHONDONTWRITEBYTECODE="1")

    assert list((checkout / "src" / "flawless").glob("__pycache__/__main__.*.pyc"))


@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent"}], ids=["unset", "missing"])
def test_a_home_is_not_needed(checkout: Path, home: dict[str, Any]) -> None:
    """A cache for downloads is switched off where there is nowhere to keep it."""
    write_uv(checkout, then='test "$UV_NO_CACHE" = 1' if home else "")

    assert bootstrap(checkout, "deploy", **home).returncode == 0


def test_a_failed_download_is_one_clear_message(checkout: Path) -> None:
    """Each way's last lines, what to do, exit code 1, and nothing half-made; the next run starts afresh."""
    write_uv(checkout, then="echo first; echo no route to the index; exit 2")
    (checkout / "requirements.lock").write_text("no-such-package==1 --hash=sha256:00\n" + LOCK, encoding="utf-8")
    result = bootstrap(checkout, "deploy", PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)

    assert result.returncode == 1
    assert "no route to the index" in result.stderr
    assert "No matching distribution" in result.stderr
    assert "run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (checkout / ".venv").exists()
    assert leftovers(checkout) == []


def test_a_failed_replacement_leaves_the_environment_that_was_there(checkout: Path) -> None:
    """The old environment goes only when the new one stands."""
    bootstrap(checkout, "deploy")
    write_uv(checkout, then="exit 2")
    lock = (checkout / "requirements.lock").read_text(encoding="utf-8")
    (checkout / "requirements.lock").write_text("no-such-package==1 --hash=sha256:00\n" + LOCK, encoding="utf-8")
    result = run_inside(
        checkout, WITHOUT_ENSUREPIP, environment(checkout, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    )
    assert result.returncode == 1
    (checkout / "requirements.lock").write_text(lock, encoding="utf-8")

    assert bootstrap(checkout, "deploy").returncode == 0
    assert installs(checkout) == 2  # the first and the one that failed


def test_where_there_is_no_pip_the_package_to_install_is_named(checkout: Path) -> None:
    """Debian's Python has neither ensurepip nor pip until python3-venv is there."""
    result = run_inside(checkout, WITHOUT_ENSUREPIP, {"PATH": "/nowhere"})

    assert result.returncode == 1
    assert "There is no pip" in result.stderr
    assert "apt install python3-venv" in result.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_build_is_repaired_by_the_next(checkout: Path, sent: signal.Signals, code: int) -> None:
    """Ctrl-C ends without a traceback; after that, as after a kill, the next run makes the environment whole."""
    gate = checkout.parent / "gate"
    os.mkfifo(gate)
    write_uv(checkout, then=f'exec sleep 60 > "{gate}"')
    process = subprocess.Popen(
        command(checkout, "deploy"),
        env=environment(checkout),
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        with gate.open():  # opened by the installer, which now is at work
            os.kill(process.pid, sent)
            stderr = process.communicate(timeout=30)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):  # after Ctrl-C nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    write_uv(checkout)

    assert process.returncode == code
    assert "Traceback" not in stderr
    assert not (checkout / ".venv").exists()
    assert bootstrap(checkout, "deploy").returncode == 0
    assert leftovers(checkout) == []


def test_two_at_once_make_one_environment(checkout: Path) -> None:
    """The second waits for the first and uses what it made."""
    both = [
        subprocess.Popen(
            command(checkout, "deploy"), env=environment(checkout), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        process.communicate(timeout=60)

    assert [process.returncode for process in both] == [0, 0]
    assert installs(checkout) == 1


def test_where_no_embedded_database_can_be_installed_the_rest_is(checkout: Path) -> None:
    """There is no wheel for musl, and no marker of a lock file can say so."""
    lock = "alembic==1 \\\n    --hash=sha256:00\nembedded-postgres==18.6.3 \\\n    --hash=sha256:01\nrich==15\n"
    (checkout / "requirements.lock").write_text(lock, encoding="utf-8")
    seen = checkout.parent / "seen"
    write_uv(checkout, then=f'for lock; do :; done; cp "$lock" "{seen}"')
    musl = "import sysconfig; sysconfig.get_config_var = lambda _: 'cpython-311-x86_64-linux-musl'"
    run_inside(checkout, musl, environment(checkout))

    assert "alembic==1 \\\n    --hash=sha256:00\nrich==15\n" in seen.read_text(encoding="utf-8")


def test_an_older_python_can_read_the_script() -> None:
    """Python 3.6 parses it: no syntax, and no `from __future__`, that came later."""
    tree = ast.parse(BOOTSTRAP.read_text(encoding="utf-8"), feature_version=(3, 6))

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert not [name for name in annotations_evaluated(tree) if not isinstance(name, ast.Constant | ast.Name)]


def annotations_evaluated(tree: ast.AST) -> list[ast.expr]:
    """`list[str]` outside quotes is evaluated at the definition, which fails before 3.9."""
    arguments = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation]
    returns = [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns]
    return arguments + returns


def test_an_older_python_says_which_is_needed(checkout: Path) -> None:
    """Without a newer one on the PATH: what is needed, what this is, how to get it, and exit code 1."""
    result = run_inside(checkout, WITH_OLD_PYTHON, {"PATH": "/nowhere"})

    assert result.returncode == 1
    assert result.stderr.startswith("Python 3.11 or newer is needed; this is 3.9 (/usr/bin/python3.9).")
    assert "apt install python3.11" in result.stderr


def test_an_older_python_looks_for_a_newer_one(checkout: Path) -> None:
    """A shim with nothing behind it is passed over."""
    programs = checkout.parent / "programs"
    (programs / "python3.11").write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    (programs / "python3.12").write_text('#!/bin/sh\n[ "$1" = -c ] || echo "newer: $@"\n', encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    result = run_inside(checkout, WITH_OLD_PYTHON, {"PATH": str(programs)})

    assert result.stdout == f"newer: {checkout / 'bootstrap.py'} deploy\n"
