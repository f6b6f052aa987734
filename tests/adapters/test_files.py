"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flawless.adapters.files import (
    AppendFile,
    Reserve,
    ensure_private_folder,
    is_full,
    sweep_temporary,
    sync_folder,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_is_whole_private_and_alone(tmp_path: Path) -> None:
    """0600, nothing temporary left, an older one replaced."""
    path = tmp_path / "x"
    path.write_bytes(b"old and longer")
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"new", 0o600, ["x"])


def test_exclusively_means_never_over_another(tmp_path: Path) -> None:
    """Of many writers one wins, and its content stays."""
    path = tmp_path / "x"
    won: list[int] = []

    def write(number: int) -> None:
        try:
            write_atomically(path, b"%d" % number, exclusively=True)
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == b"%d" % won[0]
    assert names(tmp_path) == ["x"]


def full(descriptor: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_old_file_stays_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the data, or nothing."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space") as error:
        write_atomically(path, b"new")
    assert is_full(error.value)
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["x"])


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    """And nothing else; a folder that is not there has nothing."""
    (tmp_path / ".x.0a1b2c3d.tmp").write_bytes(b"half")
    (tmp_path / "x.tmp").write_bytes(b"a user's")
    (tmp_path / ".folder.tmp").mkdir()
    assert sweep_temporary(tmp_path) == [tmp_path / ".x.0a1b2c3d.tmp"]
    assert names(tmp_path) == [".folder.tmp", "x.tmp"]
    assert sweep_temporary(tmp_path / "nowhere") == []


def test_folders_are_private_as_far_as_they_are_made_here(tmp_path: Path) -> None:
    """0700 each, whatever the umask; those that were there stay as they are."""
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        made = ensure_private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert (mode(made), mode(made.parent), mode(tmp_path)) == (0o700, 0o700, 0o755)
    assert ensure_private_folder(made) == made
    sync_folder(made)


def test_lines_are_appended_private_and_read_back(tmp_path: Path) -> None:
    """Across two openings; a child does not inherit the file."""
    for line in (b"one\n", b"two\n"):
        file = AppendFile(tmp_path / "j")
        file.append(line, sync=True)
        file.append(line, sync=False)
        assert not os.get_inheritable(file._descriptor)
        file.close()
    assert (tmp_path / "j").read_bytes() == b"one\none\ntwo\ntwo\n"
    assert mode(tmp_path / "j") == 0o600


@pytest.mark.parametrize(
    ("before", "after"), [(b"one\ntorn", b"one\n"), (b"torn", b""), (b"one\n", b"one\n"), (b"", b"")]
)
def test_a_torn_tail_is_dropped_when_the_file_is_opened(tmp_path: Path, before: bytes, after: bytes) -> None:
    """Nothing may join it."""
    path = tmp_path / "j"
    path.write_bytes(before)
    file = AppendFile(path)
    file.append(b"next\n", sync=True)
    file.close()
    assert path.read_bytes() == after + b"next\n"


def test_a_line_that_did_not_fit_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is room again the next line stands alone."""
    path = tmp_path / "j"
    file = AppendFile(path)
    file.append(b"one\n", sync=True)
    write, calls = os.write, []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        file.append(b"torn\n", sync=True)
    monkeypatch.undo()
    file.append(b"two\n", sync=True)
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Who can make a link in our folder does not choose what we write to."""
    target = tmp_path / "target"
    target.write_bytes(b"theirs\n")
    (tmp_path / "j").symlink_to(target)
    with pytest.raises(OSError, match=r".+"):
        AppendFile(tmp_path / "j")
    write_atomically(tmp_path / "j", b"ours")
    assert target.read_bytes() == b"theirs\n"


def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """At whatever moment it is killed."""
    path = tmp_path / "x"
    write_atomically(path, b"0" * 100_000)
    code = (
        "import sys; from pathlib import Path; from flawless.adapters.files import write_atomically\n"
        "print('up', flush=True)\n"
        "for n in range(10**9): write_atomically(Path(sys.argv[1]), b'%d' % (n % 10) * 100_000)"
    )
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            seen = {path.read_bytes() for _ in range(50)}
            writer.kill()
        seen.add(path.read_bytes())
        assert all(len(content) == 100_000 and len(set(content)) == 1 for content in seen)
    sweep_temporary(tmp_path)
    assert names(tmp_path) == ["x"]


def test_a_reserve_takes_blocks_and_gives_them_back(tmp_path: Path) -> None:
    """Filled once, filled again when it was given up, and never left half."""
    reserve = Reserve(tmp_path / "reserve", 100_000)
    reserve.ensure()
    first = (tmp_path / "reserve").stat()
    assert (first.st_size, first.st_blocks * 512 >= 100_000, mode(tmp_path / "reserve")) == (100_000, True, 0o600)
    reserve.ensure()
    assert (tmp_path / "reserve").stat().st_mtime_ns == first.st_mtime_ns
    reserve.release()
    reserve.release()
    assert names(tmp_path) == []


def test_a_reserve_that_does_not_fit_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half reserve would only make the disk fuller."""
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        Reserve(tmp_path / "reserve").ensure()
    assert names(tmp_path) == []


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False)])
def test_full_is_no_blocks_or_no_quota(number: int, *, says: bool) -> None:
    """A disk that may not be written is another matter."""
    assert is_full(OSError(number, "x")) is says
