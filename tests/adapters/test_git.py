"""What git knows of a checkout; and that nothing depends on git being there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flawless.adapters.git import Checkout, blob_name, checkout, contents


def run(folder: Path, *arguments: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=identity | names, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    run(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("one")
    (tmp_path / ".gitignore").write_text("ignored\n")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(repository: Path) -> None:
    """And a change, staged or not, or a new file, makes it dirty; an ignored file does not."""
    commit = run(repository, "rev-parse", "HEAD")
    assert checkout(repository) == Checkout(commit, dirty=False)
    (repository / "ignored").write_text("x")
    assert checkout(repository) == Checkout(commit, dirty=False)
    (repository / "new").write_text("x")
    assert checkout(repository) == Checkout(commit, dirty=True)
    run(repository, "add", "new")
    assert checkout(repository) == Checkout(commit, dirty=True)


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    """`git init`, and nothing yet."""
    run(tmp_path, "init", "-q")
    assert checkout(tmp_path) == Checkout(None, dirty=False)
    assert contents(tmp_path) == {}


def test_where_there_is_no_repository_there_is_no_answer(tmp_path: Path) -> None:
    """None, not an error."""
    assert checkout(tmp_path) is None
    assert contents(tmp_path) is None


def test_without_git_installed_there_is_no_answer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency."""
    monkeypatch.setenv("PATH", str(repository))
    assert checkout(repository) is None
    assert contents(repository) is None


def test_the_contents_are_those_of_the_working_tree(repository: Path) -> None:
    """Tracked, changed, deleted and new files, by git's own names; ignored ones not."""
    (repository / "folder").mkdir()
    (repository / "folder" / "b").write_text("two")
    (repository / "ignored").write_text("x")
    (repository / "a").write_text("changed")
    found = contents(repository)
    assert found is not None
    assert set(found) == {"a", ".gitignore", "folder/b"}
    assert found["a"] == run(repository, "hash-object", "a")
    (repository / "a").unlink()
    assert set(contents(repository) or ()) == {".gitignore", "folder/b"}


def test_a_folder_below_knows_its_own_files_alone(repository: Path) -> None:
    """By their paths from there."""
    (repository / "folder").mkdir()
    (repository / "folder" / "b").write_text("two")
    run(repository, "add", ".")
    assert set(contents(repository / "folder") or ()) == {"b"}


def test_a_files_name_is_gits(repository: Path) -> None:
    """A link counts by its target, a folder and what is not there have none."""
    assert blob_name(repository / "a") == run(repository, "hash-object", "a")
    (repository / "link").symlink_to("nowhere")
    assert (
        blob_name(repository / "link")
        == subprocess.run(["git", "hash-object", "--stdin"], input=b"nowhere", capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    assert blob_name(repository / "none") is None
    assert blob_name(repository) is None


def test_asking_changes_nothing_in_the_repository(repository: Path) -> None:
    """No lock, no refreshed index: a person may be committing at this moment."""
    before = (repository / ".git" / "index").stat().st_mtime_ns
    os.utime(repository / "a", (1, 1))
    checkout(repository)
    contents(repository)
    assert (repository / ".git" / "index").stat().st_mtime_ns == before
