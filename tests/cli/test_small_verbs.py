"""version, lock and db, and how a command line that is wrong is refused."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

import flawless as product
from cli.conftest import Say
from flawless.adapters.locks import DeployLock
from flawless.adapters.postgres import EmbeddedPostgres
from flawless.cli.main import VERBS
from support.postgres import need_wheel

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = 'name = "shop"\n[database]\nurl = "embedded"\n'


@pytest.fixture
def manifest(project: Path) -> Path:
    path = project / "flawless.toml"
    path.write_text('name = "shop"\n')
    return path


def test_version_names_what_it_runs_on(flawless: Say) -> None:
    """Flawless, Python, the system and the libraries; outside of a project too."""
    assert flawless("version", "--json").document["flawless"] == product.__version__
    assert f"flawless           {product.__version__}" in flawless("version").out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(flawless: Say, verb: str) -> None:
    """Each says what it does and takes the common flags."""
    said = flawless(verb, "--help")
    assert said.exit_code == 0
    assert all(flag in said.out for flag in ("--config", "--environment", "--json", "--quiet", "--no-color", "--yes"))


def test_an_unknown_verb_is_refused_with_a_suggestion(flawless: Say) -> None:
    """Exit code 64, never 2, and the verb that was meant."""
    said = flawless("statsu")
    assert (said.exit_code, said.out) == (64, "")
    assert "Did you mean 'status'?" in said.err
    assert "flawless --help" in flawless("xyzzy").err


def test_one_document_and_a_line_for_each_event_are_not_both_printed(flawless: Say, manifest: Path) -> None:
    """Refused as wrong use before anything is done: no stream of lines is one document."""
    said = flawless("deploy", "--json", "--json-lines")
    assert said.exit_code == 64
    assert said.document["error"]["cause"].endswith("one of the two")
    assert not (manifest.parent / ".flawless").exists()


@pytest.mark.parametrize("words", [("incidents", "list", "--all"), ("incidents", "note", "0192", "a word or two")])
def test_what_nobody_foresaw_names_the_command_that_was_run(
    flawless: Say, manifest: Path, words: tuple[str, ...]
) -> None:
    """Try again is said of this command, whichever it was, and never of a deploy that nobody asked for."""
    (manifest.parent / ".flawless/outbox/0.jsonl").mkdir(parents=True)
    said = flawless(*words)
    assert (said.exit_code, said.out) == (1, "")
    assert f"next: try again: {shlex.join(['flawless', *words])}\n" in said.err
    assert "flawless deploy" not in said.err


# --- lock ---


def test_a_free_lock_is_said_to_be_free(flawless: Say, manifest: Path) -> None:
    """Bare `lock` is `lock status`."""
    assert flawless("lock").out.startswith("free")
    assert flawless("lock", "status", "--json").document == {
        "schema_version": 1,
        "held": False,
        "holder": None,
        "stale_note": None,
    }


def test_a_living_holder_is_named_and_never_robbed(flawless: Say, manifest: Path) -> None:
    """Status names it with its id; release refuses with 75 and says how to end it in good order."""
    with DeployLock(manifest.parent / ".flawless/lock").held("flawless deploy", datetime.now(UTC)) as holder:
        document = flawless("lock", "--json").document
        said = flawless("lock", "release", "--id", holder.nonce)
        assert DeployLock(manifest.parent / ".flawless/lock").holder() == holder
    assert document["holder"]["pid"] == os.getpid()
    assert said.exit_code == 75
    assert f"kill -INT {os.getpid()}" in said.err


def test_what_a_dead_holder_left_is_removed_by_its_id(flawless: Say, manifest: Path) -> None:
    """The lock died with its holder; only the note is left, and only its own id removes it."""
    folder = manifest.parent / ".flawless/lock"
    folder.mkdir(parents=True)
    note = {"pid": 999999, "user": "ann", "since": "2026-11-23T14:02:00.000Z", "command": "deploy", "nonce": "aabbccdd"}
    (folder / "deploy.json").write_text(json.dumps(note))
    assert "aabbccdd" in flawless("lock").out
    assert flawless("lock", "release", "--id", "other").exit_code == 64
    assert "removed what pid 999999 left behind" in flawless("lock", "release", "--id", "aabbccdd").out
    assert not (folder / "deploy.json").exists()
    assert "nothing to release" in flawless("lock", "release", "--id", "aabbccdd").out


# --- db ---


@pytest.mark.parametrize("words", [("url",), ("psql",), ("start",), ("stop",), ("status",)])
def test_a_stack_without_an_embedded_database_is_told_so(flawless: Say, manifest: Path, words: tuple[str, ...]) -> None:
    """Exit code 64, and the line that would choose one."""
    said = flawless("db", *words)
    assert (said.exit_code, said.out) == (64, "")
    assert 'url = "embedded"' in said.err


def test_a_database_that_does_not_run_is_told_so(flawless: Say, manifest: Path) -> None:
    """Its address would lead nowhere; the next step starts it."""
    manifest.write_text(EMBEDDED)
    assert flawless("db").exit_code == 3
    for words in (("url",), ("psql",)):
        said = flawless("db", *words)
        assert said.exit_code == 1
        assert "flawless db start" in said.err


@contextmanager
def removed_afterwards(project: Path) -> Iterator[None]:
    """Root's lies outside of the project, where nobody else would remove it."""
    postgres = EmbeddedPostgres(project / ".flawless/postgres", database="shop")
    try:
        yield
    finally:
        asyncio.run(postgres.stop())
        asyncio.run(postgres.remove())
        assert postgres.homes() == []


def test_the_embedded_database_is_started_asked_and_stopped(flawless: Say, manifest: Path) -> None:
    """To start is safe to repeat, url leads to it, psql talks to it without a password in its argv, stop ends it."""
    need_wheel()
    manifest.write_text(EMBEDDED)
    with removed_afterwards(manifest.parent):
        assert flawless("db", "start").exit_code == 0
        pid = flawless("db", "start", "--json").document["pid"]
        assert flawless("db", "status", "--json").document["pid"] == pid
        assert flawless("db", "url").out.startswith("postgresql://postgres:")
        assert psql(manifest.parent, "-XAt", "-c", "select 6 * 7") == "42\n"
        assert flawless("db", "stop").out == "stopped\n"
        assert flawless("db", "stop").out == "it was not running\n"


def test_the_embedded_database_is_removed_after_a_yes_and_never_while_it_runs(flawless: Say, manifest: Path) -> None:
    """What runs is named; without a yes nothing happens; with one the data is gone, and the next start is a first."""
    need_wheel()
    assert "nothing to remove" in flawless("db", "remove").out
    assert not (manifest.parent / ".flawless").exists()
    manifest.write_text(EMBEDDED)
    with removed_afterwards(manifest.parent):
        assert flawless("db", "start").exit_code == 0
        status = flawless("db", "status", "--json").document
        data = Path(status["data_directory"])
        psql(manifest.parent, "-XAt", "-c", "create table kept ()")

        refused = flawless("db", "remove", "-y")
        assert refused.exit_code == 1
        assert f"shop still runs: the embedded database (pid {status['pid']})" in refused.err
        assert "flawless stop --all" in refused.err

        flawless("db", "stop")
        unasked = flawless("db", "remove")
        assert unasked.exit_code == 64
        assert str(data.parent) in unasked.err
        assert "flawless db remove -y" in unasked.err
        assert asked(manifest.parent, "n") == (1, "nothing was removed")
        assert data.is_dir()
        # Whoever now has a server of their own may still remove what they had.
        manifest.write_text('name = "shop"\n')
        assert asked(manifest.parent, "y") == (0, f"removed {data.parent}")
        assert not data.exists()
        left = {path.name for path in (manifest.parent / ".flawless/postgres").iterdir()}
        assert left <= {"lock", "lock.holder"}

        manifest.write_text(EMBEDDED)
        assert flawless("db").out.startswith("stopped (it was never started)")
        assert flawless("db", "start").exit_code == 0
        assert psql(manifest.parent, "-XAt", "-c", "select to_regclass('kept') is null") == "t\n"
        flawless("db", "stop")
        assert flawless("db", "remove", "-y", "--json").document["removed"] == [{"folder": str(data.parent)}]


def asked(project: Path, answer: str) -> tuple[int, str]:
    """`flawless db remove` at a terminal: its exit code, and its last line."""
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "flawless", "db", "remove"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "HOME": str(project)}
    with subprocess.Popen(
        argv, cwd=project, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as asking:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        output, _ = asking.communicate(timeout=60)
    os.close(ours)
    assert "for good? [y/N]" in output
    return asking.returncode, output.splitlines()[-1].rpartition("]: ")[2]


def psql(project: Path, *arguments: str) -> str:
    argv = [sys.executable, "-m", "flawless", "db", "psql", *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "HOME": str(project)}
    done = subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_every_flag_is_also_a_variable() -> None:
    """Of the verbs, and of the verbs below them: FLAWLESS_<FLAG>, in the words of the flag itself."""
    from flawless.cli.main import VERBS, Verbs

    verbs = Verbs("flawless")
    commands = [verbs.get_command(click.Context(verbs), name) for name in VERBS]
    below = [one for command in commands if isinstance(command, click.Group) for one in command.commands.values()]
    options = [
        one for command in (*commands, *below) if command for one in command.params if isinstance(one, click.Option)
    ]
    assert len(options) > 50
    for option in options:
        words = {f"FLAWLESS_{one.lstrip('-').replace('-', '_').upper()}" for one in option.opts}
        assert option.envvar in words, option.opts


@pytest.mark.parametrize("words", [("bogus",), ("deploy", "--bogus"), ("status", "--json", "surplus")])
def test_a_wrong_command_line_is_one_document_for_a_program(flawless: Say, words: tuple[str, ...]) -> None:
    """What a person is told on standard error, as JSON on standard output, with the same exit code."""
    said = flawless("--json", *words)
    assert (said.exit_code, said.err) == (64, "")
    error = said.document["error"]
    assert (error["exit_code"], error["code"]) == (64, "CONFIG_USAGE")
    assert words[-1].strip("-") in error["cause"]
    assert error["next_steps"]
