"""A full disk, a folder that cannot be written, no descriptors, nobody who listens (FAILURES 14, 60)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from support.mutants import NOT_ASKED, failing
from support.stacks import Stack, check_report, stacks

FILL = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for size in (1 << 20, 4096, 1):
        try:
            while True:
                file.write(b"x" * size)
        except OSError:
            pass
"""
SIZE = 16
"""MB of the small disk: more than the preflight check wants to see free."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a small disk")
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_before_the_deploy_is_named_and_the_report_is_elsewhere(
    small_disk: Path, tmp_path: Path
) -> None:
    """DISK_FULL, exit 1; nothing fits on that disk, so the terminal names the folder in which the report is."""
    with stacks(small_disk) as stack:
        stack.environment["TMPDIR"] = str(tmp_path)
        stack.backend()
        stack.write()
        with filled(stack):
            done = stack.deploy()
        assert done.exit_code == 1, done.output
        assert "Traceback" not in done.output
        assert "DISK_FULL" in done.stdout
        [report] = tmp_path.glob("flawless-shop-*/deploy-report-*.json")
        assert str(report.with_suffix(".txt")) in done.stdout.replace("\n", "").replace(" ", "")
        check_report(read(report))
        assert read(report)["failure"]["code"] == "DISK_FULL"
        assert stack.pid("backend") is None
        stack.deploy("-q")
        assert stack.is_served("backend")


def test_a_disk_that_fills_up_while_it_deploys_ends_the_deploy_in_order(small_disk: Path) -> None:
    """The journal takes no more, so nothing more is done; the reserve makes room for the report."""
    with stacks(small_disk) as stack:
        fill_up_while_it_deploys(stack)
        (stack.folder / "client.js").write_text("built")
        del stack.manifest["artefacts"]["client"]["build"]
        again = stack.deploy("-q")
        assert again.exit_code == 0, again.output
        assert [one["result"] for one in all_reports(stack)] == ["failure", "success"]


def test_a_file_that_may_grow_no_further_ends_the_deploy_in_order(stack: Stack) -> None:
    """Where not even a report may be so long (RLIMIT_FSIZE) the terminal says so; nothing is left half-written, and
    the next command writes the report.
    """
    stack.backend()
    stack.deploy("-q")
    done = stack.run("deploy", mutation=limited("FSIZE", 4096))
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert "DISK_" in done.output
    assert stack.is_served("backend")
    assert stack.deploy("-q").exit_code == 0
    assert [one["result"] for one in all_reports(stack)] == ["success", "aborted", "success"]


@pytest.mark.parametrize("count", [13, 14, 15, 18])
def test_without_descriptors_it_says_so_or_works(stack: Stack, count: int) -> None:
    """HOST_LIMITS or success, never a traceback, and never that a service or a database is down."""
    stack.backend()
    done = stack.run("deploy", mutation=limited("NOFILE", count))
    assert "Traceback" not in done.output
    if done.exit_code == 0:
        assert stack.is_served("backend")
        return
    assert done.exit_code == 1
    assert "HOST_LIMITS" in done.output, done.output
    if list((stack.folder / ".flawless/journal").glob("*.jsonl")) and stack.journal():
        assert stack.failure()["code"] == "HOST_LIMITS"
    assert stack.deploy("-q").exit_code == 0


def test_a_logs_folder_that_cannot_be_written_does_not_keep_the_report_back(stack: Stack) -> None:
    """A user without the right to write there: DISK_NOT_WRITABLE, nothing started, the report in a folder it names."""
    logs = stack.folder / "logs"
    logs.mkdir(mode=0o555)
    stack.backend()
    done = stack.run("deploy", mutation=WITHOUT_RIGHTS)
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    [report] = (stack.folder / "tmp").glob("flawless-shop-*/deploy-report-*.json")
    assert report.parent.name in done.stdout
    failure = read(report)["failure"]
    assert failure["code"] == "DISK_NOT_WRITABLE"
    assert any("logs" in line for line in [failure["cause"], *failure["evidence"]])
    assert stack.pid("backend") is None
    shutil.rmtree(report.parent)


def test_a_state_folder_that_cannot_be_written_is_named(stack: Stack) -> None:
    """Without a lock nothing may be done; who it belongs to is the question, and no traceback the answer."""
    (stack.folder / ".flawless").mkdir(mode=0o555)
    stack.backend()
    done = stack.run("deploy", mutation=WITHOUT_RIGHTS)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "DISK_NOT_WRITABLE" in done.output
    assert str(stack.folder / ".flawless") in done.stderr


CLOSED = {
    "no standard output": ">&-",
    "no standard error": "2>&-",
    "no standard streams at all": "<&- >&- 2>&-",
    "a reader that has gone": "2>&1 | true",
    "a full device": ">/dev/full 2>&1",
}


@pytest.mark.parametrize(
    ("words", "streams"),
    [
        *(("deploy", one) for one in CLOSED),
        ("deploy --json", "a reader that has gone"),
        ("deploy --json-lines", "a full device"),
    ],
)
def test_nobody_has_to_listen(stack: Stack, words: str, streams: str) -> None:
    """A deploy goes on to its end whatever becomes of its streams, and its exit code tells how it went."""
    stack.backend()
    stack.write()
    assert shell(stack, f"{words} {CLOSED[streams]}") == int(streams == "a full device"), "a lost result is no success"
    assert stack.report()["result"] == "success"
    stack.backend("exit=3")
    stack.write()
    assert shell(stack, f"{words} {CLOSED[streams]}") == 1
    assert stack.failure()["code"] == "SERVICE_EXITED"


@pytest.mark.parametrize("order", ["stop", "start", "restart"])
def test_nobody_has_to_listen_to_an_order(stack: Stack, order: str) -> None:
    """The same for a person's orders."""
    stack.backend()
    assert stack.deploy("-q").exit_code == 0
    assert shell(stack, f"{order} >&- 2>&-") == 0
    assert shell(stack, f"{order} 2>&1 | true") == 0
    assert stack.is_served("backend") == (order != "stop")


# --- without what looks, and what is kept back ---

NOT_LOOKED = NOT_ASKED.format("disk", "FolderWritable")
NO_CAUSES = """
from flawless.core import fault
fault._FULL = fault._RIGHTS = fault._LIMITS = frozenset()
"""
CARELESS = """
from flawless.deploy.journal import Journal
told = Journal.__call__
def tell(self, stamped):
    self._is_strict = False
    told(self, stamped)
Journal.__call__ = tell
"""
NO_RESERVE = "from flawless.adapters.files import Reserve\nReserve.ensure = lambda self: None"
NOWHERE_ELSE = """
from flawless.adapters import archive
def mkdtemp(prefix): raise OSError("no other place is tried")
archive.tempfile.mkdtemp = mkdtemp
"""
ANYBODYS = """
from flawless.adapters import locks
def unusable(folder, error): return error
locks._unusable = unusable
"""


@pytest.mark.parametrize(
    ("mutation", "told"),
    [(NOT_LOOKED, "0 == 1"), (NOWHERE_ELSE, "expected 1, got 0")],
    ids=["look", "elsewhere"],
)
def test_without_it_a_folder_that_cannot_be_written_would_be_found_late_or_keep_the_report(
    stack: Stack, mutation: str, told: str
) -> None:
    with failing(stack, mutation, told=told):
        test_a_logs_folder_that_cannot_be_written_does_not_keep_the_report_back(stack)
    for report in (stack.folder / "tmp").glob("flawless-shop-*"):
        shutil.rmtree(report)


def test_without_its_own_words_an_unusable_state_would_be_a_mistake_of_ours(stack: Stack) -> None:
    with failing(stack, ANYBODYS + NO_CAUSES, told="'DISK_NOT_WRITABLE' in"):
        test_a_state_folder_that_cannot_be_written_is_named(stack)


@pytest.mark.parametrize(
    ("mutation", "told"),
    [(CARELESS + NO_CAUSES, "== 'DISK_FULL'"), (NO_RESERVE, "empty|not enough")],
    ids=["journal", "reserve"],
)
def test_without_it_a_disk_that_fills_up_would_go_unnoticed_or_take_the_report(
    small_disk: Path, tmp_path: Path, mutation: str, told: str
) -> None:
    with stacks(small_disk) as stack, failing(stack, mutation, told=told):
        stack.environment["TMPDIR"] = str(tmp_path)  # where a report goes for which there is no room
        fill_up_while_it_deploys(stack)


def test_without_the_cause_a_file_that_may_not_grow_would_be_a_mistake_of_ours(stack: Stack) -> None:
    with failing(stack, NO_CAUSES, told="'DISK_' in"):
        test_a_file_that_may_grow_no_further_ends_the_deploy_in_order(stack)


UNGUARDED = "from flawless.cli import main as line\nline.ensure_open = lambda: None"
UNTOLD = "from flawless.cli import streams\nstreams.ensure_told = lambda *given: None"


@pytest.mark.parametrize("streams", list(CLOSED))
def test_without_care_for_its_streams_a_deploy_would_end_with_them(stack: Stack, streams: str) -> None:
    with failing(stack, UNGUARDED + "\n" + UNTOLD, told="== "):
        test_nobody_has_to_listen(stack, "deploy", streams)


def test_without_looking_back_a_lost_result_would_be_a_success(stack: Stack) -> None:
    with failing(stack, UNTOLD, told="0 == 1"):
        test_a_result_that_cannot_be_written_is_an_error(stack)


# --- how it is made ---


WITHOUT_RIGHTS = """
import ctypes, os
if os.geteuid() == 0:  # root gives up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: capset(2)
    header, caps = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(header, caps) == 0
    caps[0] &= ~0b110
    caps[1] &= ~0b110
    assert ctypes.CDLL(None).capset(header, caps) == 0
"""
"""As any other user: what is not writable cannot be written."""


def limited(name: str, value: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_{name}, ({value}, {value}))"


def fill_up_while_it_deploys(stack: Stack) -> None:
    """The build of an artefact takes all that is free."""
    fill = [sys.executable, "-I", "-S", "-c", FILL, "client.js"]
    stack.backend()
    stack.manifest["artefacts"] = {"client": {"path": "client.js", "build": fill}}
    done = stack.deploy()
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert stack.failure()["code"] == "DISK_FULL"
    assert stack.pid("backend") is None


@contextmanager
def filled(stack: Stack) -> Iterator[None]:
    """Every block of the disk is taken, and every file of it small."""
    ballast = stack.folder / "ballast"
    subprocess.run([sys.executable, "-I", "-S", "-c", FILL, str(ballast)], check=True)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            ballast.unlink()


def shell(stack: Stack, words: str) -> int:
    """The exit code of the command itself, whatever it is piped into."""
    script = f"set -o pipefail; {shlex.join(stack.argv())} {words}"
    return subprocess.run(
        ["bash", "-c", script], cwd=stack.folder, env=stack.clean_environment(), check=False, timeout=60
    ).returncode


def read(report: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(report.read_bytes())
    return content


def all_reports(stack: Stack) -> list[dict[str, Any]]:
    return [read(path) for path in sorted((stack.folder / "logs").glob("deploy-report-*.json"))]


def test_a_result_that_cannot_be_written_is_an_error(stack: Stack) -> None:
    """Exit code 1 and one sentence on standard error, never a traceback; what was done stands."""
    stack.backend()
    stack.write()
    for words, said in {
        "deploy --json": "the deploy succeeded, but its result could not be written: No space left on device",
        "deploy": "the deploy succeeded, but its result could not be written: No space left on device",
        "restart": "the restart succeeded, but its result could not be written: No space left on device",
        **dict.fromkeys(("status", "status --json", "version", "reports", "--help"), "result could not be written"),
    }.items():
        assert shell(stack, f"{words} >/dev/full 2>told") == 1, words
        told = (stack.folder / "told").read_text()
        assert said in told, words
        assert "Traceback" not in told
        assert "Exception ignored" not in told
    assert shell(stack, "status 2>told | true") in {0, 1}
    assert (stack.folder / "told").read_text() == ""
    assert stack.is_served("backend")
