"""FAILURE 16 on real files: a program that cannot be run is named, with where it was looked for and who wants it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flawless.adapters.commands import Command, find_program
from flawless.checks.tools import ToolInstalled, Wanted, interpreter_of
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.reason import Reason

pytestmark = pytest.mark.anyio


def find(program: str, directory: Path, path: str) -> Path:
    return find_program(Command((program,), directory, {"PATH": path}))


def tool(program: str, folder: Path, *, because: Callable[[], str | None] = lambda: None) -> ToolInstalled:
    wanted = Wanted(program, folder, f"{folder}/bin{os.pathsep}/usr/bin:/bin", "services.backend.command", because)
    return ToolInstalled(program, (wanted,), find)


def script(folder: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


async def failed(check: ToolInstalled) -> Failed:
    outcome = await check.ask(1)
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is Reason.TOOL_MISSING
    assert outcome.evidence[0] == "wanted by services.backend.command"
    return outcome


async def test_not_installed(tmp_path: Path) -> None:
    """A program that is nowhere is TOOL_MISSING with every folder it was looked for in."""
    failure = await failed(tool("no-such-program", tmp_path))
    assert f"looked for in: {tmp_path}/bin, /usr/bin, /bin" in failure.evidence
    assert "no-such-program" in failure.next_steps[0]


async def test_on_the_childs_own_path(tmp_path: Path) -> None:
    """A program is looked for on the PATH of the child that wants it, or by its path from its directory."""
    path = script(tmp_path, "serve", "#!/bin/sh\n")
    assert await tool("serve", tmp_path).ask(1) == Passed((str(path),))
    assert await tool("bin/serve", tmp_path).ask(1) == Passed((str(path),))
    await failed(tool("./serve", tmp_path))


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """A service's directory that does not exist is said to be what is missing."""
    failure = await failed(tool("sh", tmp_path / "backend"))
    assert failure.cause.startswith(f"{tmp_path}/backend is not a directory")


async def test_not_executable(tmp_path: Path) -> None:
    """A program without the right to be executed is there; chmod is the next step."""
    path = script(tmp_path, "serve", "#!/bin/sh\n", 0o644)
    for name in ("serve", "bin/serve"):
        failure = await failed(tool(name, tmp_path))
        assert failure.evidence[1] == "mode 0644"
        assert failure.next_steps == (f"chmod +x {path}",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("#!/opt/no/such/python3", "/opt/no/such/python3"),
        ("#! /usr/bin/env no-such-node", "no-such-node on the PATH"),
        ("#!/usr/bin/env -S no-such-node --flag", "no-such-node on the PATH"),
        ("#!/bin/sh\r", "/bin/sh\\r"),
    ],
)
async def test_an_interpreter_that_is_missing(tmp_path: Path, line: str, said: str) -> None:
    """A script whose interpreter is not there cannot run, although the script is."""
    script(tmp_path, "serve", f"{line}\necho\n")
    failure = await failed(tool("serve", tmp_path))
    assert said in failure.evidence[1]
    assert "\r" not in " ".join((failure.cause, *failure.evidence, *failure.next_steps))


@pytest.mark.parametrize("line", ["#!/bin/sh -e", "#!/usr/bin/env sh", "#!/usr/bin/env -S LANG=C sh -e", "\x7fELF", ""])
async def test_what_can_be_run(tmp_path: Path, line: str) -> None:
    """An interpreter that is there passes, and so does what is no script."""
    script(tmp_path, "serve", line)
    assert isinstance(await tool("serve", tmp_path).ask(1), Passed)


def test_the_interpreter_of_what_cannot_be_read(tmp_path: Path) -> None:
    """What may not be read, or is not there, has no interpreter that could be missed."""
    assert interpreter_of(tmp_path) is None
    assert interpreter_of(tmp_path / "gone") is None


async def test_not_needed(tmp_path: Path) -> None:
    """The program of a build that is not due is not missed, and that is no pass."""
    outcome = await tool("no-such-program", tmp_path, because=lambda: "client is fresh, so it is not built").ask(1)
    assert outcome == Skipped("client is fresh, so it is not built")
