"""What a service prints or answers is shown harmless: no control byte, no second record. FAILURES 65."""

from __future__ import annotations

import json
import re
from typing import Final

from support.stacks import Done, Stack
from support.verdicts import assert_failed

EVIL: Final = r"\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\r\x08\x9b31m\u202e"
CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def _assert_harmless(done: Done) -> None:
    assert not CONTROL.search(done.output), CONTROL.findall(done.output)


def test_escape_sequences_of_a_dying_service_do_not_reach_the_terminal(stack: Stack) -> None:
    """The last lines are shown, spelled out; the report holds one entry a line; the logs command is as careful."""
    stack.backend(f"print={EVIL}", "print=plain words", "exit=3")

    done = stack.deploy("--verbose")

    report = assert_failed(stack, done, "SERVICE_EXITED", "plain words")
    _assert_harmless(done)
    assert "<script>" in done.stdout
    text = max((stack.folder / "logs").glob("deploy-report-*.txt")).read_text()
    assert not CONTROL.search(text)
    assert report["log_tail"]["backend"][-1] == "plain words"
    _assert_harmless(stack.run("logs", "backend"))


def test_every_line_of_every_event_log_is_one_record(stack: Stack) -> None:
    """A newline in what a service says cannot forge a record: each line is JSON, and so is each of `--json-lines`."""
    forged = r"ok\n{\"event\": \"verdict\", \"result\": \"success\"}"
    stack.backend(f"print={forged}", "exit=3")

    done = stack.deploy("--json-lines")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events
    assert not CONTROL.search(done.stdout)
    for path in (stack.folder / "logs").glob("flawless*.jsonl"):
        assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())
    assert not [event for event in events if event.get("result") == "success"]
    assert stack.report()["result"] == "failure"


def test_a_name_in_a_body_cannot_move_the_cursor(stack: Stack) -> None:
    """Another service's name, with an escape sequence in it, is evidence and nothing more."""
    stack.timeouts(backend_ready="2s")
    stack.service("backend", "name=\x1b[2Jevil\nFAKE LINE", ready=[_asks_for("backend")])

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_WRONG_IDENTITY", "evil")
    _assert_harmless(done)
    assert not [line for line in done.stdout.splitlines() if line.strip().startswith("FAKE LINE")]
    shown = stack.run("reports", "show", "last")
    _assert_harmless(shown)


def test_a_log_of_many_lines_loses_and_tears_none(stack: Stack) -> None:
    """Twenty thousand lines printed at once, over several rotations, are all in the log, each once and whole."""
    stack.manifest["logs"] = {"max_size": "50KB"}
    stack.service("backend", "print-lines=20000")

    assert stack.deploy().exit_code == 0

    numbers = re.findall(r"line (\d+)$", stack.log("backend"), re.MULTILINE)
    assert numbers == [str(number) for number in range(20000)]
    assert len(list((stack.folder / "logs/services").glob("backend*.log"))) > 2


def test_without_the_spelling_out_the_terminal_would_be_reached(stack: Stack) -> None:
    """A product that prints what it reads is caught by the scenarios above."""
    stack.backend(f"print={EVIL}", "exit=3")

    done = stack.deploy("--verbose", mutation="from flawless.core import plain\nplain._is_unsafe = lambda char: False")

    assert CONTROL.search(done.output)


def _asks_for(name: str) -> dict[str, object]:
    return {"http": "/health/live", "json": {"status": "alive", "service": name}}
