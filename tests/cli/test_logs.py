"""flawless logs shows what services printed, and follows it across rotation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.conftest import Say
from flawless.adapters.log_files import LogFile

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = """
name = "shop"
[services.web]
role = "backend"
command = ["true"]
[services.worker]
role = "worker"
command = ["true"]
"""


@pytest.fixture(autouse=True)
def services(project: Path) -> Path:
    (project / "flawless.toml").write_text(MANIFEST)
    return project / "logs/services"


def log(folder: Path, name: str, *lines: str, max_size: int = 10_000_000, days_ago: float = 0.0) -> None:
    """Writes lines as a keeper does; `days_ago` is when."""
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    file = LogFile(folder, name, max_size=max_size, clock=moment.timestamp)
    file.write("".join(f"{line}\n" for line in lines).encode())
    file.close()
    if days_ago:
        newest = max(folder.glob(f"{name}-*.log"))
        os.utime(newest, (moment.timestamp(), moment.timestamp()))


@contextmanager
def following(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "LANG": "C.UTF-8"}
    argv = [sys.executable, "-m", "flawless", "logs", *words]
    process = subprocess.Popen(
        argv, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_the_last_lines_of_each_service_are_shown_behind_its_name(flawless: Say, services: Path) -> None:
    """Several services stand under one another, each line says whose it is."""
    log(services, "web", "one", "two", "three")
    log(services, "worker", "four", "five")
    said = flawless("logs", "-n", "2")
    assert said.out.splitlines() == ["web    │ two", "web    │ three", "worker │ four", "worker │ five"]


def test_one_service_is_shown_as_it_printed(flawless: Say, services: Path) -> None:
    """The lines of a single service can be piped on: nothing stands before them."""
    log(services, "web", "one", "two")
    log(services, "worker", "other")
    assert flawless("logs", "web").out == "one\ntwo\n"


def test_what_a_service_prints_cannot_reach_the_terminal(flawless: Say, services: Path) -> None:
    """Control characters are shown by their names."""
    log(services, "web", "\x1b[2Jgone")
    assert flawless("logs", "web").out == "\\x1b[2Jgone\n"


def test_lines_are_shown_across_rotation(flawless: Say, services: Path) -> None:
    """The last lines may lie in several files."""
    for number in range(5):
        log(services, "web", f"line {number}", max_size=10)
    assert len(list(services.glob("web-*.log"))) > 1
    assert flawless("logs", "web", "-n", "4").out.splitlines() == [f"line {number}" for number in range(1, 5)]


def test_a_service_that_the_manifest_no_longer_names_can_be_read(flawless: Say, services: Path) -> None:
    """Its log outlives it, and is shown when it is asked for by name."""
    log(services, "former", "last words")
    assert flawless("logs", "former").out == "last words\n"
    assert flawless("logs").out == ""


def test_an_unknown_service_is_refused_with_a_suggestion(flawless: Say) -> None:
    """Exit code 64, those there are, and the one that was meant."""
    said = flawless("logs", "wob")
    assert (said.exit_code, said.out) == (64, "")
    assert "there are: web, worker" in said.err
    assert "did you mean web?" in said.err


def test_since_leaves_out_the_files_that_were_full_before(flawless: Say, services: Path) -> None:
    """What was printed the day before is not shown; nothing needs to be said when nothing is in doubt."""
    log(services, "web", "yesterday's", days_ago=2)
    log(services, "web", "today's")
    minutes = (datetime.now(UTC) - datetime.now(UTC).replace(hour=0, minute=0, second=0)) + timedelta(minutes=2)
    said = flawless("logs", "web", "--since", f"{int(minutes.total_seconds() / 60)}m")
    assert said.out == "today's\n"
    assert said.err == ""


def test_since_says_when_older_lines_are_shown_too(flawless: Say, services: Path) -> None:
    """A file that was being written at that moment is shown whole, and that is said: lines carry no times."""
    log(services, "web", "some time today")
    soon = datetime.now(UTC).timestamp() + 60
    os.utime(next(services.glob("web-*.log")), (soon, soon))
    said = flawless("logs", "web", "--since", "1ms")
    assert said.out == "some time today\n"
    assert "lines carry no times" in said.err


@pytest.mark.parametrize("since", ["yesterday", "-1h", "nan", "2026-13-01"])
def test_a_moment_that_is_none_is_refused(flawless: Say, since: str) -> None:
    """Exit code 64 and the forms that are understood."""
    said = flawless("logs", f"--since={since}")
    assert said.exit_code == 64
    assert "2026-11-23T14:00" in said.err


def test_json_has_the_lines_by_service(flawless: Say, services: Path) -> None:
    """One document; a service that has printed nothing has no lines."""
    log(services, "web", "one")
    assert flawless("logs", "--json").document["services"] == {"web": ["one"], "worker": []}


def test_following_goes_on_across_rotation_and_for_services_that_start_later(project: Path, services: Path) -> None:
    """Each line comes once, from files that did not exist before too; Ctrl-C ends it with 130."""
    log(services, "web", "before")
    with following(project, "-f", "-n", "1") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "web    │ before\n"
        for number in range(3):
            log(services, "web", f"line {number}", max_size=5)
            assert process.stdout.readline() == f"web    │ line {number}\n"
        log(services, "worker", "here too")
        assert process.stdout.readline() == "worker │ here too\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_reader_that_goes_away_is_no_error(project: Path, services: Path) -> None:
    """`flawless logs | head` ends quietly."""
    log(services, "web", *(f"{number:0100}" for number in range(5000)))
    with following(project, "-n", "5000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(20)
        assert process.stderr.read() == ""


def test_a_reader_that_goes_away_ends_the_following_of_a_quiet_service(project: Path, services: Path) -> None:
    """`flawless logs -f | head -1`, with nothing more to come."""
    log(services, "web", "one")
    with following(project, "-f") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "web    │ one\n"
        process.stdout.close()
        assert process.wait(20) == 1
