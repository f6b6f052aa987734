"""What every failed deploy owes its reader, asserted in one place."""

from __future__ import annotations

import re
from typing import Any

from support.stacks import Done, Stack


def assert_failed(stack: Stack, done: Done, code: str, *named: str, rollback: str = "done") -> dict[str, Any]:
    """The deploy failed with this code, named these things, says what to do, and put back what it had changed.

    Answers with the report.
    """
    assert done.exit_code == 1, done.output
    report = stack.report()
    failure = report["failure"]
    assert failure["code"] == code, failure
    told = "\n".join([failure["cause"], *failure["evidence"]])
    missing = [one for one in named if one not in told]
    assert not missing, f"{missing} not named in:\n{told}"
    assert any(_is_usable(step) for step in failure["next_steps"]), failure["next_steps"]
    assert report["rollback"]["status"] == rollback, report["rollback"]
    assert report["incident_id"]
    assert code in done.stdout
    assert "Traceback" not in done.output
    return report


def assert_gone(stack: Stack, service: str) -> None:
    """Neither the service nor its keeper runs, and its port is free."""
    assert not stack.pids(service)
    assert not stack.is_served(service)
    ours = [one for one in stack.processes() if f"/run/{service}" in " ".join(one.cmdline())]
    assert not ours, ours


def assert_never_started(stack: Stack, service: str) -> None:
    assert stack.record(service) is None
    assert not stack.log(service)


def _is_usable(step: str) -> bool:
    """A line that can be pasted, or a place to edit, at Cloudflare's too."""
    return bool(re.search(r"flawless [a-z]|kill \d+|sudo |ulimit |\.(toml|ya?ml)\b|dashboard|cd /", step))
