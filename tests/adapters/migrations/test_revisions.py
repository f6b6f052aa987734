"""Alembic's files read without running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flawless.adapters.migrations.revisions import Unreadable, read_revisions

from .conftest import AlembicProject


def test_order_heads_and_what_is_behind_a_version(project: AlembicProject) -> None:
    """Parents come before children, merges join branches, and a version stands for all it was built on."""
    project.add("a", None)
    project.add("b", "a")
    project.add("c", "a")
    merge = project.add("d", None)
    merge.write_text("revision = 'd'\ndown_revision = ('b', 'c')\n")
    revisions = read_revisions(project.directory)
    assert [revision.id for revision in revisions.all] == ["a", "b", "c", "d"]
    assert revisions.heads == ("d",)
    assert revisions.applied(["b"]) == ("a", "b")
    assert revisions.pending(["b"]) == ("c", "d")
    assert revisions.pending(["d"]) == ()
    assert revisions.pending([]) == ("a", "b", "c", "d")
    assert revisions.unknown(["b", "zzz"]) == ("zzz",)


def test_a_dependency_counts_as_applied_and_does_not_hide_a_head(project: AlembicProject) -> None:
    """`depends_on` orders, but only `down_revision` continues a branch."""
    project.add("a", None)
    file = project.add("b", None)
    file.write_text("revision = 'b'\ndown_revision = None\ndepends_on = ['a']\n")
    revisions = read_revisions(project.directory)
    assert revisions.heads == ("a", "b")
    assert revisions.applied(["b"]) == ("a", "b")


def test_no_user_code_is_run(project: AlembicProject, tmp_path: Path) -> None:
    """A file that would do something when imported does nothing."""
    file = project.add("a", None)
    file.write_text(f"revision = 'a'\ndown_revision = None\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    assert read_revisions(project.directory).heads == ("a",)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("separator", ["os", "space", "newline"])
def test_several_version_locations(project: AlembicProject, separator: str) -> None:
    """All folders of `version_locations` are read, whichever way they are parted."""
    other = project.directory / "other"
    other.mkdir()
    project.add("a", None)
    (other / "b.py").write_text("revision = 'b'\ndown_revision = 'a'\n")
    between = {"os": ":", "space": " ", "newline": "\n    "}[separator]
    ini = project.directory / "alembic.ini"
    locations = between.join(("%(here)s/migrations/versions", "%(here)s/other"))
    ini.write_text(ini.read_text() + f"path_separator = {separator}\nversion_locations = {locations}\n")
    assert read_revisions(project.directory).heads == ("b",)


@pytest.mark.parametrize(
    "body",
    [
        "revision = make()\ndown_revision = None\n",
        "revision = 'a'\ndown_revision = 'missing'\n",
        "revision = 'a'\ndown_revision = 3\n",
        "revision = 'twice'\ndown_revision = None\n",
        "revision = = 'a'\n",
    ],
)
def test_what_cannot_be_read_for_certain_is_not_guessed(project: AlembicProject, body: str) -> None:
    """Then the tool is asked instead."""
    project.add("twice", None)
    project.add("a", None).write_text(body)
    with pytest.raises(Unreadable):
        read_revisions(project.directory)


@pytest.mark.parametrize(
    "ini",
    ["", "[alembic]\n", "[alembic]\nscript_location = package:migrations\n", "[alembic]\nscript_location = nowhere\n"],
)
def test_a_place_that_is_no_folder_is_unreadable(project: AlembicProject, ini: str) -> None:
    """No script_location, a package's, or one that is not there."""
    (project.directory / "alembic.ini").write_text(ini)
    with pytest.raises(Unreadable):
        read_revisions(project.directory)
