"""Many writers, rotation, full disks: every line whole, once, and in order."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flawless.adapters.log_files import Follower, LogFile, NotWritten, files_of

DAY = 86_400
NOON = 20_000 * DAY + DAY / 2  # 2024-10-04

WRITER = """
import sys
from flawless.adapters.log_files import LogFile
log = LogFile(sys.argv[1], "web", max_size=65536)
for number in range(int(sys.argv[3])):
    log.write(b"%s %d %s\\n" % (sys.argv[2].encode(), number, b"x" * 80))
    if number == 500:
        print("writing", flush=True)
"""

LIMITED = """
import errno, resource, sys
from pathlib import Path
from flawless.adapters.log_files import LogFile, NotWritten
log = LogFile(sys.argv[1], "web")
log.write(b"first\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
data = b"".join(b"line %04d\\n" % number for number in range(10))
try:
    log.write(data)
except NotWritten as error:
    assert error.errno == errno.EFBIG, error
    rest = error.rest
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert data.endswith(rest) and len(rest) == 70, rest
log.write(rest)
"""


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def lines_of(folder: Path, stem: str = "web") -> list[bytes]:
    return b"".join([path.read_bytes() for path in files_of(folder, stem)]).splitlines()


def python(code: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def drained(follower: Follower) -> Iterator[bytes]:
    while lines := follower.poll():
        yield from lines


def test_many_writers_lose_tear_and_double_nothing(tmp_path: Path) -> None:
    """Eight processes, small files, one killed in the middle; a reader that follows meanwhile sees every line once."""
    follower = Follower(tmp_path, "web")
    seen: list[bytes] = []
    writers = [python(WRITER, tmp_path, str(name), "5000") for name in range(8)]
    try:
        assert writers[0].stdout
        writers[0].stdout.readline()
        writers[0].send_signal(signal.SIGKILL)
        while any(writer.poll() is None for writer in writers):
            seen += follower.poll()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    seen += drained(follower)
    follower.close()
    lines = lines_of(tmp_path)
    assert seen == lines
    assert all(len(line.split()) == 3 and line.endswith(b"x" * 80) for line in lines)
    by_writer = {name: [int(line.split()[1]) for line in lines if line.startswith(b"%d " % name)] for name in range(8)}
    killed = by_writer.pop(0)
    assert killed == list(range(len(killed)))
    assert len(killed) > 500
    assert all(numbers == list(range(5000)) for numbers in by_writer.values())
    assert len(files_of(tmp_path, "web")) > 40


def test_names_sort_and_modes_are_private(tmp_path: Path) -> None:
    """`<stem>-<day>.<number><suffix>`, folders 0700, files 0600; another log's files are not ours."""
    folder = tmp_path / "logs" / "services"
    clock = Clock()
    log = LogFile(folder, "web", max_size=10, clock=clock)
    for number in range(3):
        log.write(b"line number %d\n" % number)
    LogFile(folder, "web-2", clock=clock).write(b"other\n")
    log.close()
    assert [path.name for path in files_of(folder, "web")] == [f"web-2024-10-04.{n:04d}.log" for n in (1, 2, 3)]
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_an_idle_writer_goes_on_in_the_current_file(tmp_path: Path) -> None:
    """After a rotation by another writer, and after midnight."""
    clock = Clock()
    idle, busy = (LogFile(tmp_path, "web", max_size=20, clock=clock) for _ in range(2))
    idle.write(b"idle 1\n")
    for number in range(6):
        busy.write(b"busy line %d\n" % number)
    idle.write(b"idle 2\n")
    assert files_of(tmp_path, "web")[-1].read_bytes().endswith(b"idle 2\n")
    clock.now += DAY
    busy.write(b"next day\n")
    idle.write(b"idle 3\n")
    last = files_of(tmp_path, "web")[-1]
    assert last.name == "web-2024-10-05.0001.log"
    assert last.read_bytes() == b"next day\nidle 3\n"


def test_old_days_are_deleted_when_a_new_file_begins(tmp_path: Path) -> None:
    """By the date in the name; nothing else in the folder is touched."""
    clock = Clock()
    log = LogFile(tmp_path, "web", keep_days=2, clock=clock)
    (tmp_path / "web-notes.log").write_bytes(b"mine\n")
    for _ in range(5):
        log.write(b"line\n")
        clock.now += DAY
    assert [path.name for path in files_of(tmp_path, "web")] == [f"web-2024-10-{day:02d}.0001.log" for day in (6, 7, 8)]
    assert (tmp_path / "web-notes.log").exists()


def test_a_clock_that_goes_back_does_not_reorder(tmp_path: Path) -> None:
    """The newest file by name stays the one written to."""
    clock = Clock()
    log = LogFile(tmp_path, "web", clock=clock)
    log.write(b"one\n")
    log.close()
    clock.now -= DAY
    log.write(b"two\n")
    assert lines_of(tmp_path) == [b"one", b"two"]
    assert len(files_of(tmp_path, "web")) == 1


def test_what_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    """A line that was never finished does not run into the next one, however long it is."""
    log = LogFile(tmp_path, "web")
    log.write(b"whole\n")
    with files_of(tmp_path, "web")[0].open("ab") as file:
        file.write(b"torn" * 50_000)
    LogFile(tmp_path, "web").write(b"next\n")
    log.write(b"last\n")
    assert lines_of(tmp_path) == [b"whole", b"next", b"last"]


def test_a_deleted_file_is_made_again(tmp_path: Path) -> None:
    """Somebody removed the log while it was written."""
    log = LogFile(tmp_path, "web")
    log.write(b"gone\n")
    files_of(tmp_path, "web")[0].unlink()
    log.write(b"here\n")
    assert lines_of(tmp_path) == [b"here"]


def test_long_and_unfinished_lines_are_whole(tmp_path: Path) -> None:
    """A line longer than a piece, a batch of many pieces, and a batch without its last line end."""
    log = LogFile(tmp_path, "web")
    data = b"a" * 200_000 + b"\n" + b"b" * 79 + b"\n" * 3000
    log.write(data + b"end")
    log.write(b"")
    assert files_of(tmp_path, "web")[0].read_bytes() == data + b"end\n"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """What fits is written in whole lines, the rest is handed back, and the next write works."""
    writer = python(LIMITED, tmp_path)
    writer.communicate(timeout=20)
    assert writer.returncode == 0
    assert lines_of(tmp_path) == [b"first", *[b"line %04d" % number for number in range(10)]]


def test_no_space_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The errno is the system's own: ENOSPC."""
    log = LogFile(tmp_path, "web")
    log.write(b"one\n")
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.write
    monkeypatch.setattr(os, "write", lambda _descriptor, data: real(full, data))
    with pytest.raises(NotWritten) as caught:
        log.write(b"two\n")
    monkeypatch.undo()
    os.close(full)
    assert (caught.value.errno, caught.value.rest) == (errno.ENOSPC, b"two\n")
    log.write(caught.value.rest)
    assert lines_of(tmp_path) == [b"one", b"two"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A file planted as a link elsewhere is refused, and what it points to stays."""
    clock = Clock()
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web-2024-10-04.0001.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(tmp_path / "logs", "web", clock=clock).write(b"x\n")
    assert target.read_bytes() == b"mine"


def test_a_follower_begins_where_it_is_told(tmp_path: Path) -> None:
    """The last lines across files, none, or all; then what is new, never half a line."""
    log = LogFile(tmp_path, "web", max_size=20)
    for number in range(10):
        log.write(b"line %d\n" % number)
    followers = {last: Follower(tmp_path, "web", last=last) for last in (0, 1, 5, 99, None)}
    for last, follower in followers.items():
        count = 10 if last is None else min(last, 10)
        assert list(drained(follower)) == [b"line %d" % number for number in range(10 - count, 10)]
    with files_of(tmp_path, "web")[-1].open("ab") as file:
        file.write(b"half")
        file.flush()
        assert all(follower.poll() == [] for follower in followers.values())
        file.write(b" a line\n")
    log.write(b"after\n")
    for follower in followers.values():
        assert list(drained(follower)) == [b"half a line", b"after"]
        follower.close()


def test_a_follower_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    """Nothing is no error."""
    follower = Follower(tmp_path / "later", "web", last=10)
    assert follower.poll() == []
    LogFile(tmp_path / "later", "web").write(b"one\n" + b"x" * 3_000_000 + b"\n")
    assert Counter(map(len, drained(follower))) == {3: 1, 3_000_000: 1}
    follower.close()


@pytest.mark.parametrize("last", [0, None])
def test_a_follower_goes_on_where_its_file_was_deleted_or_emptied(tmp_path: Path, last: int | None) -> None:
    """A writer makes it anew, under the same name; what it writes then is followed, each line once."""
    log = LogFile(tmp_path, "web")
    log.write(b"old\n")
    follower = Follower(tmp_path, "web", last=last)
    assert list(drained(follower)) == ([] if last == 0 else [b"old"])
    for number in range(3):
        [path] = files_of(tmp_path, "web")
        log.write(b"unread\n")
        path.unlink()
        assert list(drained(follower)) == [b"unread"]
        log.write(b"deleted %d\n" % number)
        assert files_of(tmp_path, "web") == [path]
        assert list(drained(follower)) == [b"deleted %d" % number]
        os.truncate(path, 0)
        assert follower.poll() == []
        log.write(b"emptied\n")
        assert list(drained(follower)) == [b"emptied"]
    follower.close()
