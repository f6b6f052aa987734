"""Where runs are kept: one report a run, each with a name of its own, for as long as was promised."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import stat
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flawless.adapters import archive as archives
from flawless.adapters.archive import Archive
from flawless.adapters.files import write_atomically

NOW = datetime(2026, 11, 23, 14, 15, 2, 123000, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / ".flawless", tmp_path / "logs", "shop")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_report_is_written_in_both_forms_under_its_time(archive: Archive, tmp_path: Path) -> None:
    """deploy-report-<timestamp>.json and .txt, private."""
    path = archive.write_report({"deploy_id": "x", "said": "\udc80 é"}, "text\n", NOW)
    assert path == tmp_path / "logs" / "deploy-report-20261123T141502123Z.json"
    assert json.loads(path.read_bytes())["deploy_id"] == "x"
    assert path.read_bytes().isascii()
    assert path.with_suffix(".txt").read_text() == "text\n"
    assert (mode(path), mode(path.with_suffix(".txt"))) == (0o600, 0o600)
    assert archive.reports() == [path]


def test_two_reports_of_one_millisecond_have_two_names(archive: Archive) -> None:
    """Created exclusively: of twenty writers at once each has its own."""
    paths: list[Path] = []

    def write(number: int) -> None:
        paths.append(archive.write_report({"deploy_id": str(number)}, f"{number}\n", NOW))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 20
    assert archive.reports() == sorted(paths)
    assert {path.with_suffix(".txt").read_text().strip() for path in paths} == {str(number) for number in range(20)}
    assert all(
        json.loads(path.read_bytes())["deploy_id"] == path.with_suffix(".txt").read_text().strip() for path in paths
    )


class Disk:
    """Refuses writes as a full disk does, until the reserve is given up or for ever."""

    def __init__(self, reserve: Path, fails: str) -> None:
        self.reserve = reserve
        self.fails = fails
        self.refused = 0

    def write(self, path: Path, data: bytes, *, exclusively: bool = False, mode: int = 0o600) -> None:
        below_logs = path.parent.name == "logs"
        full = below_logs and (self.fails == "always" or self.reserve.exists())
        if full and (self.fails != "text" or path.suffix == ".txt"):
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data, exclusively=exclusively, mode=mode)


@pytest.mark.parametrize("fails", ["both", "text"])
def test_on_a_full_disk_the_reserve_is_given_up_for_the_report(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """One report, in both forms, where it belongs, whichever of the two did not fit first."""
    (tmp_path / ".flawless").mkdir()
    archive.reserve.ensure()
    disk = Disk(tmp_path / ".flawless" / "reserve", fails)
    monkeypatch.setattr(archives, "write_atomically", disk.write)
    path = archive.write_report({"deploy_id": "x"}, "text\n", NOW)
    assert disk.refused == 1
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "deploy-report-20261123T141502123Z.json",
        "deploy-report-20261123T141502123Z.txt",
    ]
    assert path.parent == tmp_path / "logs"


@pytest.mark.parametrize("obstacle", ["full", "file"])
def test_where_nothing_helps_the_report_goes_to_the_systems_temporary_folder(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """A report in every case, and a folder nobody else can read."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    if obstacle == "file":
        (tmp_path / "logs").write_bytes(b"a file stands where the folder should")
    else:
        monkeypatch.setattr(archives, "write_atomically", Disk(tmp_path / "nowhere", "always").write)
    path = archive.write_report({"deploy_id": "x"}, "text\n", NOW)
    assert re.fullmatch(r"flawless-shop-.+", path.parent.name)
    assert mode(path.parent) == 0o700
    assert json.loads(path.read_bytes())["deploy_id"] == "x"
    assert path.with_suffix(".txt").read_text() == "text\n"


def test_without_a_descriptor_the_error_says_so(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that the system's temporary folder cannot be used, which is looked for then."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    archive.write_report({}, "", NOW)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as raised:
            archive.write_report({}, "", NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert raised.value.errno == errno.EMFILE


def aged(path: Path, days: float) -> Path:
    then = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))
    return path


def test_reports_and_journals_are_kept_30_days_and_the_last_five_always(archive: Archive, tmp_path: Path) -> None:
    """Both forms of a report go together; what is not ours stays."""
    for day in range(40, 32, -1):
        path = archive.write_report({}, "text\n", NOW - timedelta(days=day))
        aged(path, day)
        archive.open_journal(f"202611{day:02d}T141502Z-3f9c2a").close()
    for number, path in enumerate(archive.journals()):
        aged(path, 40 - number)
    stranger = aged_file(tmp_path / "logs" / "flawless.jsonl")
    archive.prune(NOW)
    assert len(archive.reports()) == 5
    assert len(archive.journals()) == 5
    assert len(list((tmp_path / "logs").glob("*.txt"))) == 5
    assert stranger.exists()


def aged_file(path: Path) -> Path:
    path.write_bytes(b"")
    return aged(path, 100)


def test_what_is_younger_than_30_days_is_kept_however_many(archive: Archive) -> None:
    """And one day more than that is not."""
    paths = [
        aged(archive.write_report({}, "text\n", NOW - timedelta(days=30 - n / 10)), 29.9 if n else 31) for n in range(9)
    ]
    archive.prune(NOW)
    assert archive.reports() == sorted(paths[1:])


def test_an_empty_archive_has_nothing_and_prunes_nothing(archive: Archive) -> None:
    """Before the first run."""
    archive.prune(NOW)
    assert (archive.reports(), archive.journals()) == ([], [])


def test_journals_are_private_and_sorted_by_time(archive: Archive, tmp_path: Path) -> None:
    """0700 and 0600."""
    for name in ("20261124T000000Z-000000", "20261123T000000Z-ffffff"):
        archive.open_journal(name).close()
    assert [path.stem for path in archive.journals()] == ["20261123T000000Z-ffffff", "20261124T000000Z-000000"]
    assert (mode(archive.journals()[0]), mode(tmp_path / ".flawless" / "journal")) == (0o600, 0o700)


def test_each_environment_has_its_own_reports_in_the_one_folder(archive: Archive, tmp_path: Path) -> None:
    """Listed, the last one, and removed when they are old: each its own; one that cannot be read is the default's."""
    staging = Archive(tmp_path / "staging", tmp_path / "logs", "shop", "staging")
    ours = [archive.write_report({"deploy_id": "a", "environment": None}, "a", NOW)]
    theirs = [
        staging.write_report({"deploy_id": "b", "environment": "staging"}, "b", NOW + timedelta(seconds=at))
        for at in range(6)
    ]
    torn = tmp_path / "logs" / "deploy-report-20261123T150000000Z.json"
    torn.write_text("{")
    assert (archive.reports(), staging.reports()) == ([*ours, torn], theirs)
    assert (archive.last_report(), staging.last_report()) == (torn, theirs[-1])
    for path in (tmp_path / "logs").iterdir():
        os.utime(path, (0, 0))
    staging.prune(NOW)
    assert (archive.reports(), staging.reports()) == ([*ours, torn], theirs[1:])


def test_a_report_that_another_environment_is_writing_is_left_alone(archive: Archive, tmp_path: Path) -> None:
    """Half-written files of the shared folder are removed a minute later; those of our own state at once."""
    fresh, old = (tmp_path / "logs" / f".deploy-report-{name}.json.0a1b2c3d.tmp" for name in ("1", "2"))
    own = tmp_path / ".flawless" / ".desired.json.0a1b2c3d.tmp"
    for path in (fresh, old, own):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    os.utime(old, (0, 0))
    archive.sweep()
    assert [path.exists() for path in (fresh, old, own)] == [True, False, False]
