"""flawless plan tells what a deploy would do, and does none of it."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from cli.conftest import Say
from support.postgres import free_port
from support.strangers import stranger

MANIFEST = """
name = "shop"
[database]
url = "postgresql://shop:a-long-password@127.0.0.1:{database}/shop"
[database.migrate]
tool = "command"
apply = ["true"]
pending = ["echo", "0002_orders"]
[services.backend]
role = "backend"
command = ["{python}", "-c", "pass"]
port = {port}
"""


@pytest.fixture
def port(project: Path) -> int:
    port = free_port()
    text = MANIFEST.format(python=sys.executable, port=port, database=free_port())
    (project / "flawless.toml").write_text(text)
    return port


def test_what_would_be_done_is_told_with_its_reason(flawless: Say, port: int) -> None:
    """Each service with action and why; exit code 0 although something stands in the way."""
    said = flawless("plan")
    assert said.exit_code == 0
    assert "backend  start  it does not run" in said.out
    services = flawless("plan", "--json").document["services"]
    assert services == [{"name": "backend", "action": "start", "why": ["it does not run"]}]


def test_nothing_is_started_and_nothing_migrated(flawless: Say, project: Path, port: int) -> None:
    """No process, no journal, no report is there afterwards that was not there before."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    flawless("plan")
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert not (project / ".flawless/run").exists()
    assert not (project / ".flawless/journal").exists()
    assert list((project / "logs").glob("deploy-report-*")) == []


def test_a_database_that_does_not_answer_is_said_to_be_unknown(flawless: Say, port: int) -> None:
    """What cannot be told is not passed off as nothing pending."""
    migrations = flawless("plan", "--json").document["database"]["migrations"]
    assert migrations["pending"] == []
    assert migrations["unknown"]
    assert "cannot be told" in flawless("plan").out


def test_what_stands_in_the_way_is_counted_and_shown(flawless: Say, port: int) -> None:
    """A port that somebody else holds is in the plan before any deploy meets it."""
    with stranger("127.0.0.1", port):
        said = flawless("plan")
        document = flawless("plan", "--json").document
    assert document["preflight"]["problems"] == 1
    assert f"PORT_HELD_FOREIGN port {port}" in said.out


def test_no_secret_is_in_the_plan(flawless: Say, port: int) -> None:
    """Neither as text nor as JSON."""
    assert "a-long-password" not in flawless("plan").out + flawless("plan", "--json").out
