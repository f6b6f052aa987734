"""The report as text: cause first, next steps last, at most 120 columns, harmless whatever stands in it."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawless.deploy.report_text import WIDTH, to_text

HOSTILE = [
    "\x1b[2J\x1b[1;1H",
    "\u202egnp.exe",
    "line\nbreak\r\x00",
    "<script>alert(1)</script>",
    "x" * 500,
    "/a/very/long/path" * 20,
    "数据库连接失败" * 30,
    "🔥" * 200,
    "\u200b\ufeff\U000e0041",
    "\ud800",
    "",
    "   ",
    "\x9b31m",
]


def report(text: str = "told", **fields: Any) -> dict[str, Any]:
    check = {
        "id": f"a.b:{text}", "claim": text, "code": "DB_REFUSED", "latency_ms": 1.0, "evidence": [text, text],
        "next_step": text, "optional": True,
    }  # fmt: skip
    usual: dict[str, Any] = {
        "schema_version": 1, "deploy_id": "20261123T141502Z-3f9c2a", "name": "shop", "environment": "staging",
        "started_at": "2026-11-23T14:15:02.123Z", "finished_at": "2026-11-23T14:16:02.123Z", "duration_ms": 60_000,
        "result": "failure", "exit_code": 1, "embedded_database": True,
        "versions": {"flawless": "1", "python": "3.11", "os": text, "git_commit": "abc", "git_dirty": True},
        "phases": [
            {"name": "DB_VALIDATE", "status": "failed", "duration_ms": None, "waited_for": [text], "because": text,
             "started_at": "x", "checks": [check | {"status": status} for status in ("PASS", "WARN", "SKIP", "FAIL")]},
        ],
        "services": [
            {"name": "api", "role": "backend", "pid": 7, "port": None, "started_at": None, "restarted": True},
            {"name": "w" * 63, "role": "frontend", "pid": 4194304, "port": 65535, "started_at": None, "restarted": 0},
        ],
        "database": {"latency_ms": {"average": 1.0, "samples": [1.0]}, "tables": {"users": None},
                     "migrations": {"applied": [text], "pending": [text]}},
        "health": {"live": {"status": text}, "db": None, "status": [text]},
        "tunnel": {"verdict": text, "observations": {}},
        "external": [check | {"status": "FAIL"}],
        "recovery": {"stats": None, "attempted": True, "result": text},
        "failure": {"phase": "DB_VALIDATE", "code": "DB_REFUSED", "cause": text, "evidence": [text],
                    "next_steps": [text, "flawless deploy"]},
        "rollback": {"status": "failed", "actions": [text], "next_steps": [text]},
        "incident_id": "0193",
        "changes_since_last_good": {"last_good": "before", "services": {"api": text}},
        "log_tail": {"api": [text]},
        "unfinished": [text],
    }  # fmt: skip
    return usual | fields


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def harmless(text: str) -> bool:
    return all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_stands_in_it_it_is_harmless_and_narrow(text: str) -> None:
    """No control byte, no line wider than 120 columns, also of wide characters; no blank line made of blanks alone."""
    shown = to_text(report(text))
    assert harmless(shown)
    assert max(columns(line) for line in shown.splitlines()) <= WIDTH


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_is_shown_within_its_columns(text: str) -> None:
    """The same for everything that can be written."""
    shown = to_text(report(text))
    assert harmless(shown)
    assert max(columns(line) for line in shown.split("\n")) <= WIDTH


def test_the_cause_comes_first_and_the_next_steps_last() -> None:
    """Whoever pastes it to somebody else pastes the answer."""
    lines = to_text(report("the database refuses")).splitlines()
    assert lines[0] == "shop: FAILED"
    assert "DB_REFUSED in DB_VALIDATE: the database refuses" in lines[:7]
    assert lines[-5:] == [
        "next steps",
        "  1. the database refuses",
        "  2. flawless deploy",
        "  3. the database refuses",
        "  4. the whole story: flawless -e staging incidents show 0193",
    ]


def test_nothing_the_json_report_tells_is_missing() -> None:
    """The same facts in words."""
    shown = to_text(report("THE-FACT"))
    for said in (
        "environment: staging", "embedded PostgreSQL", "waited until THE-FACT", "PASS a.b:THE-FACT",
        "WARN a.b:THE-FACT",
        "SKIP a.b:THE-FACT", "FAIL a.b:THE-FACT DB_REFUSED (optional): THE-FACT; THE-FACT", "api: THE-FACT",
        "pid 7", "port 65535", "1.0 ms on average", "applied by this run: THE-FACT", "still pending: THE-FACT",
        'live: {"status": "THE-FACT"}', "tunnel: THE-FACT", "tables that are missing: users", "rollback: failed",
        "| THE-FACT", "commit abc with uncommitted changes", "exit code 1", "60.00 s", "unended", "left as it was",
        "unfinished",
    ):  # fmt: skip
        assert said in shown, said


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        ("success", "shop: LIVE, verified"),
        ("partial", "shop: PARTLY: the release serves, and something that was asked for did not pass"),
        ("failure", "shop: FAILED"),
        ("aborted", "shop: ABORTED: the run was killed before its end"),
    ],
)
def test_the_headline_is_the_result(result: str, headline: str) -> None:
    """Each of the four."""
    assert to_text(report(result=result, exit_code=None)).startswith(headline + "\n")


def test_what_was_not_is_not_told() -> None:
    """No empty blocks: a good deploy has a short report."""
    bare = report(
        result="success", exit_code=0, environment=None, embedded_database=False, services=[], failure=None,
        rollback=None,
        incident_id=None, log_tail={}, unfinished=[], phases=[], external=[],
        database={"latency_ms": None, "tables": {}, "migrations": {"applied": [], "pending": []}},
        health={"live": None, "db": None, "status": None}, tunnel={"verdict": None, "observations": {}},
        recovery={"stats": None, "attempted": False, "result": None}, changes_since_last_good={"last_good": None},
        versions={"flawless": "1", "python": "3.11", "os": "Linux", "git_commit": None, "git_dirty": None},
    )  # fmt: skip
    assert to_text(bare).splitlines() == [
        "shop: PASSED, and nothing serves: the manifest names no service",
        "deploy 20261123T141502Z-3f9c2a, 2026-11-23T14:15:02.123Z, 60.00 s, exit code 0",
        "",
        "phases",
        "",
        "flawless 1, python 3.11, Linux",
    ]
