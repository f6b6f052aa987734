"""How a run is shown while it goes and when it has ended: on a terminal, in a pipe, in any width and encoding."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from flawless.cli.board import Board
from flawless.cli.options import Common
from flawless.cli.page import Page, Span, fitting, table, wrapped
from flawless.cli.terminal import JsonLines, Terminal, show_verdict
from flawless.cli.verdict import to_lines
from flawless.core.event import Event, Failure, PhaseStarted, WaitingFor
from support.histories import FAILING, GOOD, PARTIAL, report_of, stamped

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:3000"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HISTORIES = {"good": GOOD, "partial": PARTIAL, "failing": FAILING}


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def told(events: Sequence[Event], capsys: pytest.CaptureFixture[str], flags: Common | None = None) -> str:
    """What a run says on standard error; nothing may stand on standard output."""
    with Terminal(flags or Common(), "board") as terminal:
        for one in stamped(events):
            terminal(one)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def verdict(events: Sequence[Event], capsys: pytest.CaptureFixture[str], flags: Common | None = None) -> str:
    show_verdict(report_of(events), "/x/logs/deploy-report-1.json", ADDRESS, flags or Common())
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_in_a_pipe_each_phase_and_each_wait_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a line tells the end of each phase and each wait, with claim, time gone and time left."""
    said = told(GOOD, capsys)
    lines = said.splitlines()
    assert any("PRECHECK" in line and "0.24 s" in line and "12 passed, 1 warned" in line for line in lines)
    assert any("EXTERNAL_VERIFY" in line and "skipped: not declared" in line for line in lines)
    assert "     waiting until backend answers /health/db as it should (5 s, 55 s left)" in lines
    assert "     backend started, pid 4242, port 3001" in lines
    assert "embedded PostgreSQL" in lines[0]


def test_in_a_pipe_no_cursor_is_moved_and_nothing_is_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    """A log of a run holds no escape sequence, not even one a service brought along."""
    assert "\x1b" not in told(FAILING, capsys)


def test_what_a_service_says_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters from outside are shown by their names."""
    said = told(FAILING, capsys) + verdict(FAILING, capsys)
    assert r"\x1b[2Jcleared\u202e" in said
    assert not set(said) & {"\x1b", "\u202e"}


def test_quiet_says_nothing_until_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """With -q there is no progress at all."""
    assert told(GOOD, capsys, Common(quiet=True)) == ""
    assert ADDRESS in verdict(GOOD, capsys, Common(quiet=True))


def test_passes_are_counted_and_shown_only_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """What passed is a number; with -v it is a line each. What warned is always a line."""
    brief, whole = told(GOOD, capsys), told(GOOD, capsys, Common(verbose=True))
    assert ("port.free:7" in brief, "port.free:7" in whole) == (False, True)
    assert "! env.strong ENV_WEAK: ADMIN_PASSWORD has 8 characters of 12" in brief


def test_colours_are_asked_for_and_refused_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR colours a pipe; NO_COLOR and --no-color win over it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32m" in told(GOOD, capsys)
    assert "\x1b[32m" in verdict(GOOD, capsys)
    assert "\x1b" not in told(GOOD, capsys, Common(no_color=True)) + verdict(GOOD, capsys, Common(no_color=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in told(GOOD, capsys) + verdict(GOOD, capsys)


def test_the_public_address_is_the_last_line_of_a_good_deploy(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads the last line knows what to open; a failed deploy names no address."""
    assert verdict(GOOD, capsys).splitlines()[-1] == ADDRESS
    assert verdict(PARTIAL, capsys).splitlines()[-1] == ADDRESS
    assert ADDRESS not in verdict(FAILING, capsys)


def test_a_partial_deploy_says_what_did_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 is explained: the check, its code, and what to do."""
    said = verdict(PARTIAL, capsys)
    assert "FAIL external.stripe API_TIMEOUT: no answer in 10 s" in said
    assert "do this" in said
    assert "exit code 2" in said


def test_the_failure_block_says_everything_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Code, cause, evidence, next steps, last log lines, rollback, incident, report."""
    said = verdict(FAILING, capsys)
    parts = [
        "SERVICE_EXITED in BACKEND_READY_GATE",
        "backend exited with status 1",
        "exit status 1 after 3.1 s",
        "1. see what it printed: flawless logs backend",
        "last lines of backend",
        "Traceback:",
        "rollback: done",
        "backend is stopped, as before this deploy",
        "flawless incidents show 0193-ab",
        "deploy-report-1.txt",
    ]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("history", HISTORIES)
def test_an_embedded_database_is_said_in_every_verdict(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can take the embedded database for a server of their own."""
    assert "embedded PostgreSQL" in verdict(HISTORIES[history], capsys)


def test_the_json_verdict_is_the_report_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one document, the report's."""
    assert json.loads(verdict(GOOD, capsys, Common(json=True))) == report_of(GOOD)


def test_json_lines_are_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a JSON line on standard output, as it is in the journal."""
    for one in stamped(FAILING):
        JsonLines()(one)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == [event.name for event in FAILING]


@pytest.mark.parametrize("width", [60, 79, 119])
@pytest.mark.parametrize("history", HISTORIES)
def test_no_line_is_wider_than_the_window(history: str, width: int) -> None:
    """Whatever the window, a line is folded before the terminal folds it."""
    board = Board("board", width, True, False)
    lines = []
    for number, event in enumerate(HISTORIES[history]):
        lines += board.read(event, float(number))
        present = board.present(float(number), 20)
        assert len(present) <= 20
        lines += present
    lines += to_lines(report_of(HISTORIES[history]), "/x/r.json", "", width)
    assert [one for one in lines if sum(len(span.text) for span in one) > width] == []


def test_what_goes_on_is_cut_to_the_window_from_above() -> None:
    """In a low window the phase at hand and what it waits for stay; what is to come goes first."""
    board = Board("board", 79, False, False)
    for number, event in enumerate(GOOD[:-7]):
        board.read(event, float(number))
    shown = ["".join(span.text for span in one) for one in board.present(30.0, 3)]
    assert "BACKEND_READY_GATE" in shown[0]
    assert "waiting until backend answers" in shown[1]
    assert len(shown) == 3


def test_a_wait_counts_on_between_two_events() -> None:
    """Time gone and time left go on by the clock, not only when the gate says something."""
    board = Board("board", 119, False, False)
    board.read(PhaseStarted("DB_VALIDATE"), 0.0)
    board.read(WaitingFor("DB_VALIDATE", "database.reachable", "the database answers", 5.0, 15.0, None), 5.0)
    shown = ["".join(span.text for span in one) for one in board.present(8.0, 20)]
    assert "     waiting until the database answers (8 s, 12 s left)" in shown


def test_an_interruption_is_answered_at_once() -> None:
    """After Ctrl-C a person reads that things are put back, and what a second one does."""
    board = Board("board", 119, False, False)
    board.read(PhaseStarted("BACKEND_READY_GATE"), 0.0)
    board.read(Failure("BACKEND_READY_GATE", "DEPLOY_INTERRUPTED", "interrupted by SIGINT", ("x",), ("y",)), 1.0)
    shown = ["".join(span.text for span in one) for one in board.present(2.0, 20)]
    assert any("putting things back" in line for line in shown)


def test_a_terminal_that_is_not_utf8_gets_ascii() -> None:
    """Our own signs have a form in ASCII, and so has everything else."""
    stream = io.StringIO()
    page = Page(stream, 80, colors=False, is_ascii=True)
    page.write(*to_lines(report_of(FAILING), "/x/r.json", "", 80))
    assert stream.getvalue().isascii()


def test_a_table_is_as_wide_as_its_cells() -> None:
    """Columns stand under one another, the last is left as it is."""
    rows = [(Span("a"), Span("bb"), Span("c")), (Span("aaa"), Span("b"), Span("ccc"))]
    assert ["".join(span.text for span in one) for one in table(rows, indent="")] == ["a    bb  c", "aaa  b   ccc"]


def test_a_long_word_is_broken_and_not_lost() -> None:
    """A path wider than the window is all there."""
    word = "/x" * 100
    lines = list(wrapped(word, 60))
    assert (len(lines), "".join(span.text for one in lines for span in one)) == (4, word)


def test_in_a_narrow_window_a_path_runs_over_and_can_be_pasted() -> None:
    """Below 60 columns a path, an id or a command is never broken."""
    path = "logs/deploy-report-20261123T141502123Z.txt"
    lines = list(wrapped(f"the report is {path}", 40, (Span("   report    "),)))
    assert path in [span.text for one in lines for span in one]


def test_in_a_narrow_window_a_phase_says_how_it_went_below_itself() -> None:
    """At 40 columns there is no room beside the phase's name and its time."""
    board = Board("board", 40, False, False)
    lines = [one for number, event in enumerate(GOOD) for one in board.read(event, float(number))]
    texts = ["".join(span.text for span in one).rstrip() for one in lines]
    [row] = [number for number, text in enumerate(texts) if "PRECHECK" in text]
    assert texts[row].endswith(" s")
    assert texts[row + 1].startswith("     ")
    assert max(len(text) for text in texts) <= 40


# --- a real terminal ---


class Pty:
    """A program on a pseudo-terminal of 24 rows and 80 columns."""

    def __init__(self, *argv: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=base | environment, start_new_session=True
        )
        os.close(slave)
        self.output = ""

    def read_until(self, text: str, limit: float = 20.0) -> None:
        deadline = time.monotonic() + limit
        while text not in self.output and time.monotonic() < deadline and self._read():
            pass
        assert text in self.output

    def read_all(self) -> str:
        while self._read():
            pass
        self.process.wait(20)
        return self.output

    def _read(self) -> bool:
        """False at the end: Linux answers EIO when nobody holds the other side any more."""
        try:
            ready, _, _ = select.select([self._master], [], [], 20.0)
            data = os.read(self._master, 65536) if ready else b""
        except OSError:
            return False
        self.output += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        os.close(self._master)


def shows_cursor(output: str) -> bool:
    """The last word on the cursor is that it is shown."""
    return output.rfind("\x1b[?25h") > output.rfind("\x1b[?25l") >= 0


def test_on_a_terminal_the_run_is_redrawn_and_the_cursor_comes_back() -> None:
    """What ended stays, what goes on is redrawn in place, and afterwards the terminal is as it was."""
    terminal = Pty(sys.executable, "-m", "support.histories", "0.5")
    try:
        output = terminal.read_all()
    finally:
        terminal.close()
    assert terminal.process.returncode == 0
    assert shows_cursor(output)
    assert "\x1b[2K" in output
    assert "\x1b[2Jcleared" not in output
    assert "waiting until backend answers" in output
    assert "a long line of evidence" in output
    assert [line for line in ESCAPE.sub("", output).splitlines() if len(line) > 80] == []


def test_ctrl_c_leaves_the_terminal_sane() -> None:
    """A run that is cut short gives the cursor back."""
    terminal = Pty(sys.executable, "-m", "support.histories", "30")
    try:
        terminal.read_until("waiting until")
        terminal.process.send_signal(signal.SIGINT)
        output = terminal.read_all()
    finally:
        terminal.close()
    assert terminal.process.returncode != 0
    assert shows_cursor(output)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_dumb_terminal_and_ci_get_plain_lines(environment: dict[str, str]) -> None:
    """Where a cursor cannot be moved, or the terminal is a log, nothing is redrawn."""
    terminal = Pty(sys.executable, "-m", "support.histories", "0", **environment)
    try:
        output = terminal.read_all()
    finally:
        terminal.close()
    assert "\x1b" not in output
    assert "BACKEND_READY_GATE" in output


def test_a_cell_that_does_not_fit_stands_below_its_row() -> None:
    """The other rows keep their columns, and a long word in one of them does not push theirs out of the window."""
    rows = [
        (Span("PASS"), Span("tunnel.metrics"), Span("pid 7 answers")),
        (Span("PASS"), Span("public.reachable:https://app.example.org"), Span("20 of 20")),
        (Span("FAIL"), Span("tunnel.process"), Span("word " * 20)),
    ]
    shown = ["".join(span.text for span in one).rstrip() for one in fitting(rows, 50, indent="")]
    assert shown == [
        "PASS  tunnel.metrics  pid 7 answers",
        "PASS  public.reachable:https://app.example.org",
        "  20 of 20",
        "FAIL  tunnel.process",
        f"  {'word ' * 9}".rstrip(),
        f"  {'word ' * 9}".rstrip(),
        "  word word",
    ]
    wide = list(fitting(rows, 200, indent=""))
    assert wide == list(table(rows, indent=""))
