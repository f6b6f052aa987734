"""flawless check: every problem at once, with what to do; the exit code; nothing is changed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flawless.checks.catalog import CATALOG
from flawless.cli.main import run
from support.manifests import manifest_in
from support.postgres import free_port
from support.stacks import Stack, stack
from support.strangers import stranger

__all__ = ["stack"]

Command = Callable[..., int]

STACK = """
[env]
require = ["OPENAI_API_KEY", "SESSION_SECRET"]
[artefacts.client]
path = "out.js"
build = ["no-such-generator"]
[services.backend]
role = "backend"
command = ["no-such-server"]
port = {port}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLAWLESS_") or name == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)
    return tmp_path


def everything_in(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_all_problems_in_one_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong is told at once in catalog order, each with a next step; the folder stays as it was."""
    port = free_port()
    manifest_in(folder, STACK.format(port=port), env="SESSION_SECRET=changeme\n")
    before = everything_in(folder)
    with stranger("127.0.0.1", port) as pid:
        assert run(["check", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    failed = {one["id"]: one for one in told["checks"] if one["status"] == "FAIL"}
    assert [(name, one["code"]) for name, one in failed.items()] == [
        ("env.required", "ENV_MISSING"),
        ("env.real", "ENV_PLACEHOLDER"),
        ("port.free:backend", "PORT_HELD_FOREIGN"),
        ("tool.installed:no-such-server", "TOOL_MISSING"),
        ("tool.installed:no-such-generator", "TOOL_MISSING"),
        ("artefact.fresh:client", "ARTEFACT_MISSING"),
    ]
    assert told["schema_version"] == 1
    assert told["exit_code"] == 1
    assert f"kill {pid}" in failed["port.free:backend"]["next_step"]
    assert all(one["evidence"] and one["next_steps"] for one in failed.values())
    assert everything_in(folder) == before


def test_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person reads the same: each check a line, then each problem with its evidence and what to do."""
    manifest_in(folder, STACK.format(port=free_port()), env="SESSION_SECRET=not-a-placeholder-9f3k\n")
    assert run(["check"]) == 1
    shown = capsys.readouterr().out
    assert "ENV_MISSING  env.required\n  1 required variable is not set: OPENAI_API_KEY\n" in shown
    assert "next: set it in .env: OPENAI_API_KEY=..." in shown
    assert shown.endswith(" checks: 4 failed\n")
    assert "not-a-placeholder" not in shown


def test_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing wrong is exit code 0."""
    manifest_in(folder, '[services.worker]\nrole = "worker"\ncommand = ["sh"]\n')
    assert run(["check"]) == 0
    assert capsys.readouterr().out.endswith(" checks: all passed\n")


def test_some_checks_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole id asks one check, its kind all of that kind; what else is wrong does not matter then."""
    manifest_in(folder, STACK.format(port=free_port()))
    assert run(["check", "--json", "port.free:backend", "disk.writable"]) == 0
    ids = [one["id"] for one in json.loads(capsys.readouterr().out)["checks"]]
    assert ids == ["port.free:backend", "disk.writable:logs", "disk.writable:.flawless"]


def test_an_unknown_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that does not exist is wrong use, with the one that was meant; nothing is asked."""
    manifest_in(folder, STACK.format(port=free_port()))
    assert run(["check", "port.fre:backend"]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean port.free:backend?" in err


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check is listed with its id, claim and occasions; no manifest is needed."""
    assert run(["check", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["checks"]
    assert [one["id"] for one in listed] == [entry.id for entry in CATALOG]
    assert all(one["claim"] and one["asked"] and one["about"] for one in listed)
    assert run(["check", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(entry.id in shown and entry.claim in shown for entry in CATALOG)


def test_no_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a manifest there is nothing to ask: 78."""
    assert run(["check"]) == 78


def test_before_and_after_a_deploy(stack: Stack) -> None:
    """What a deploy builds is no longer missing, what it runs holds its own port."""
    stack.service("api")
    build = [sys.executable, "-c", "open('out.txt', 'w').close()"]
    stack.manifest["artefacts"] = {"client": {"path": "out.txt", "sources": ["in.txt"], "build": build}}
    (stack.folder / "in.txt").write_text("")
    assert "ARTEFACT_MISSING" in stack.run("check").stdout
    assert not (stack.folder / ".flawless").exists()
    assert not (stack.folder / "logs").exists()

    deployed = stack.deploy()
    assert deployed.exit_code == 0, deployed.output
    after = stack.run("check")
    assert after.exit_code == 0, after.output
    assert f"held by our own api (pid {stack.pid('api')}" in after.stdout
    assert "out.txt is there, and newer than its sources" in after.stdout


def test_an_artefact_that_cannot_be_built_ends_the_deploy(stack: Stack) -> None:
    """A failing build is ARTEFACT_BUILD_FAILED with the tool's last lines, and nothing is started."""
    stack.service("api")
    build = [sys.executable, "-c", "raise SystemExit('schema.prisma: line 3')"]
    stack.manifest["artefacts"] = {"client": {"path": "out.txt", "build": build}}
    assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert failure["code"] == "ARTEFACT_BUILD_FAILED"
    assert "| schema.prisma: line 3" in failure["evidence"]
    assert stack.pid("api") is None
