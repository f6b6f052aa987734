"""What counts as changed: the code on disk, the environment, the command, the artefacts, and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from flawless.adapters import git
from flawless.adapters.fingerprints import Parts, ensure_key, fingerprint, read_key

KEY = b"k" * 32


def run(folder: Path, *arguments: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=identity | names, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(params=["git", "no git"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project with a backend, under git and without."""
    (tmp_path / "backend" / "src").mkdir(parents=True)
    (tmp_path / "backend" / "src" / "app.py").write_text("one")
    (tmp_path / "backend" / "storage").mkdir()
    if request.param == "git":
        (tmp_path / ".gitignore").write_text("*.pyc\nignored/\n")
        run(tmp_path, "init", "-q")
        run(tmp_path, "add", ".")
        run(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text("one")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    run(tmp_path, "init", "-q")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def parts(tree: Path) -> Parts:
    excluded = [tree / ".flawless", tree / "logs", tree / "backend" / "storage", tree / "backend" / "logs"]
    return Parts(("node", "server.js"), {"A": "1"}, tree / "backend", [tree / "backend" / "made"], (), excluded)


def code(tree: Path) -> str:
    return fingerprint(parts(tree), KEY)["code"]


def test_a_changed_added_or_removed_file_changes_the_code_and_its_undoing_changes_it_back(tree: Path) -> None:
    """The content counts, not the time of the file."""
    app = tree / "backend" / "src" / "app.py"
    before = code(tree)
    app.write_text("two")
    changed = code(tree)
    app.write_text("one")
    os.utime(app, (1, 1))
    assert code(tree) == before != changed
    (tree / "backend" / "src" / "more.py").write_text("new")
    assert code(tree) != before
    (tree / "backend" / "src" / "more.py").rename(tree / "backend" / "src" / "less.py")
    assert len({code(tree), before, changed}) == 3
    (tree / "backend" / "src" / "less.py").unlink()
    app.unlink()
    assert code(tree) not in {before, changed}


def test_what_a_service_writes_does_not_count(tree: Path) -> None:
    """State, logs and writable paths, tracked or not, and other services' folders."""
    before = code(tree)
    for name in (".flawless/x", "logs/x", "backend/storage/x", "backend/logs/deep/x", "frontend/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("written")
        assert code(tree) == before, name


def test_caches_and_dependencies_do_not_count_without_git(tmp_path: Path) -> None:
    """With git they are ignored by the project itself."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "app.py").write_text("one")
    before = code(tmp_path)
    for name in ("node_modules/x/y.js", "__pycache__/x.pyc", ".venv/bin/python", "deep/__pycache__/x.pyc"):
        (tmp_path / "backend" / name).parent.mkdir(parents=True)
        (tmp_path / "backend" / name).write_text("x")
    assert code(tmp_path) == before


def test_caches_do_not_count_where_git_was_not_told_to_ignore_them(repository: Path) -> None:
    """Python's caches appear with the first start: they must not make the second deploy restart anything."""
    backend = repository / "backend"
    backend.mkdir()
    (backend / "app.py").write_text("one")
    before = code(repository)
    (backend / "__pycache__").mkdir()
    (backend / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"made by the start")
    assert code(repository) == before


def test_data_beside_the_code_does_not_count_without_git(tmp_path: Path) -> None:
    """A service that writes its database or its log into its own folder is not replaced at every deploy."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "app.py").write_text("one")
    before = code(tmp_path)
    for name in ("data.sqlite", "data.sqlite-wal", "app.log", "app.pid"):
        (tmp_path / "backend" / name).write_text("written while it runs")
    assert code(tmp_path) == before


def test_without_git_the_sources_say_what_counts(tmp_path: Path) -> None:
    """`sources` of the manifest."""
    (tmp_path / "backend" / "src").mkdir(parents=True)
    (tmp_path / "backend" / "src" / "a.py").write_text("one")
    wanted = replace(parts(tmp_path), sources=("src/**/*",))
    before = fingerprint(wanted, KEY)["code"]
    (tmp_path / "backend" / "notes.md").write_text("x")
    assert fingerprint(wanted, KEY)["code"] == before
    (tmp_path / "backend" / "src" / "a.py").write_text("two")
    assert fingerprint(wanted, KEY)["code"] != before


def test_committing_a_change_changes_nothing(tmp_path: Path, repository: Path) -> None:
    """It counted when it was made; so do a new commit, a branch and a staged file that say the same."""
    wanted = replace(parts(repository), directory=repository, excluded=())

    def now() -> str:
        return fingerprint(wanted, KEY)["code"]

    (repository / "app.py").write_text("two")
    (repository / "new\n \u00e9.py").write_text("three")
    (repository / "link").symlink_to("app.py")
    uncommitted = now()
    run(repository, "add", ".")
    assert now() == uncommitted
    run(repository, "commit", "-q", "-m", "second")
    assert now() == uncommitted
    run(repository, "checkout", "-q", "-b", "other")
    run(repository, "commit", "-q", "--allow-empty", "-m", "third")
    assert now() == uncommitted


def test_ignored_files_do_not_count(repository: Path) -> None:
    """What the project builds is not its code."""
    wanted = replace(parts(repository), directory=repository, excluded=())
    before = fingerprint(wanted, KEY)
    (repository / "ignored").mkdir()
    (repository / "ignored" / "built.js").write_text("x")
    assert fingerprint(wanted, KEY) == before


def test_a_file_that_the_command_names_counts_although_git_ignores_it(repository: Path) -> None:
    """It is what runs. What the service writes does not count, nor does a word that is no path."""
    built = repository / "ignored" / "server.py"
    built.parent.mkdir()
    built.write_text("one")
    command = ("python3", "ignored/server.py", "ignored/app.log", "x" * 5000, "../elsewhere.py")
    wanted = replace(parts(repository), command=command, directory=repository, excluded=[repository / "writable"])
    before = fingerprint(wanted, KEY)["code"]
    (repository / "ignored" / "app.log").write_text("written while it runs")
    (repository / "ignored" / "other.py").write_text("not named")
    assert fingerprint(wanted, KEY)["code"] == before
    built.write_text("two")
    assert fingerprint(wanted, KEY)["code"] != before


def test_without_git_a_file_that_the_command_names_counts_beside_the_sources(tmp_path: Path) -> None:
    """`sources` need not name what the command names already."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "server.py").write_text("one")
    wanted = replace(parts(tmp_path), command=("python3", "server.py"), sources=("src/**",))
    before = fingerprint(wanted, KEY)["code"]
    (tmp_path / "backend" / "server.py").write_text("two")
    assert fingerprint(wanted, KEY)["code"] != before


def test_what_stands_behind_a_link_counts(tree: Path) -> None:
    """A file elsewhere that is a part of the code by a link; that it is a link, and where it leads, counts too."""
    (tree / "shared").mkdir()
    (tree / "shared" / "common.py").write_text("one")
    (tree / "shared" / "same.py").write_text("one")
    link = tree / "backend" / "src" / "common.py"
    link.symlink_to("../../shared/common.py")
    before = code(tree)
    (tree / "shared" / "common.py").write_text("two")
    edited = code(tree)
    (tree / "shared" / "common.py").write_text("one")
    assert code(tree) == before != edited
    link.unlink()
    link.symlink_to("../../shared/same.py")
    assert code(tree) != before


def test_a_link_to_what_is_written_or_cannot_be_read_is_no_change(tree: Path) -> None:
    """A log, a database, a writable path, a folder of all, itself, nothing: none of it, however it changes."""
    (tree / "data").mkdir()
    targets = ("../data/app.log", "../data/x.sqlite", "storage/x.json", "..", "itself", "nowhere")
    for number, target in enumerate(targets):
        name = target if target == "itself" else f"link{number}"
        (tree / "backend" / name).symlink_to(target)
    before = code(tree)
    for name in ("data/app.log", "data/x.sqlite", "backend/storage/x.json", "data/other"):
        (tree / name).write_text("written")
    assert code(tree) == before


def test_a_folder_behind_a_link_counts_as_far_as_git_knows_it(repository: Path) -> None:
    """Its files that git does not ignore."""
    (repository / "backend").mkdir()
    (repository / "shared" / "ignored").mkdir(parents=True)
    (repository / "shared" / "a.py").write_text("one")
    (repository / "backend" / "shared").symlink_to("../shared")
    before = code(repository)
    (repository / "shared" / "ignored" / "x").write_text("built")
    assert code(repository) == before
    (repository / "shared" / "a.py").write_text("two")
    assert code(repository) != before


def test_an_artefact_that_is_a_link_counts_by_what_stands_behind_it(tmp_path: Path) -> None:
    """Built into another folder, and linked."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "out").write_text("one")
    (tmp_path / "backend" / "made").symlink_to("../out")
    before = fingerprint(parts(tmp_path), KEY)["artefacts"]
    (tmp_path / "out").write_text("two")
    assert fingerprint(parts(tmp_path), KEY)["artefacts"] != before


def test_the_command_and_its_folder_count_word_by_word(tmp_path: Path) -> None:
    """`a b` is not `ab`, and two words are not one."""
    usual = parts(tmp_path)
    digests = {
        fingerprint(replace(usual, command=command), KEY)["command"]
        for command in (("a", "b"), ("ab",), ("a b",), ("b", "a"))
    }
    digests.add(fingerprint(replace(usual, command=("a", "b"), directory=tmp_path), KEY)["command"])
    assert len(digests) == 5


def test_an_artefact_counts_by_its_content_and_its_presence(tmp_path: Path) -> None:
    """Built anew from the same, it is the same."""
    (tmp_path / "backend").mkdir()
    made = tmp_path / "backend" / "made"
    absent = fingerprint(parts(tmp_path), KEY)["artefacts"]
    made.write_text("one")
    one = fingerprint(parts(tmp_path), KEY)["artefacts"]
    made.unlink()
    made.write_text("one")
    assert fingerprint(parts(tmp_path), KEY)["artefacts"] == one != absent


def test_a_secret_that_changes_changes_the_environment_and_is_not_in_the_digest(tmp_path: Path) -> None:
    """Keyed: without the key nobody can try short secrets against it."""

    def digest(key: bytes = KEY, **environment: str) -> str:
        return fingerprint(replace(parts(tmp_path), environment=environment), key)["environment"]

    assert digest(PASSWORD="hunter2") != digest(PASSWORD="hunter3")
    assert digest(PASSWORD="hunter2") == digest(PASSWORD="hunter2")
    assert digest(PASSWORD="hunter2") != digest(b"other" * 8, PASSWORD="hunter2")
    assert digest(AB="C") != digest(A="BC")
    plain = hashlib.sha256(b"PASSWORDhunter2").hexdigest()
    assert digest(PASSWORD="hunter2") != plain


def test_our_own_variables_and_their_order_do_not_count(tmp_path: Path) -> None:
    """FLAWLESS_DEPLOY_ID is another one every time."""

    def digest(environment: dict[str, str]) -> str:
        return fingerprint(replace(parts(tmp_path), environment=environment), KEY)["environment"]

    assert digest({"A": "1", "B": "2", "FLAWLESS_DEPLOY_ID": "x"}) == digest(
        {"B": "2", "A": "1", "FLAWLESS_TIMEOUT": "y"}
    )
    assert digest({"A": "1"}) != digest({"A": "1", "B": ""})


def test_one_key_is_made_and_all_find_the_same(tmp_path: Path) -> None:
    """32 bytes, 0600, whoever comes first."""
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(ensure_key(tmp_path / "state"))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert (tmp_path / "state" / "key").stat().st_mode & 0o777 == 0o600
    assert ensure_key(tmp_path / "other") != keys[0]


def test_a_name_that_is_no_text_counts_as_well(tmp_path: Path) -> None:
    """File names are bytes."""
    (tmp_path / "backend").mkdir()
    before = code(tmp_path)
    with open(os.fsencode(tmp_path / "backend") + b"/\xff.py", "wb"):  # noqa: PTH123 - a path that is no text
        pass
    assert code(tmp_path) != before
    assert git.contents(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"short"])
def test_a_damaged_key_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """A key cut short by a power cut would let a short secret be guessed from its fingerprint."""
    (tmp_path / "key").write_bytes(damage)
    assert read_key(tmp_path) is None
    made = ensure_key(tmp_path)
    assert (len(made), ensure_key(tmp_path), read_key(tmp_path)) == (32, made, made)
