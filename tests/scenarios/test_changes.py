"""A second deploy: nothing changed restarts nothing, and a change restarts exactly what it changes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import psutil

from support.stacks import FAULTY, Stack, until

NAMES: Final = ("api", "jobs", "web")


def _three(stack: Stack) -> dict[str, int | None]:
    for name in NAMES:
        (stack.folder / name / "src").mkdir(parents=True)
        (stack.folder / name / "src/main.py").write_text("print('one')\n")
        role = "frontend" if name == "web" else "backend"
        stack.service(name, role=role, sources=["src/**"], env={"RELEASE": "one"})
    done = stack.deploy()
    assert done.exit_code == 0, done.output
    return {name: stack.pid(name) for name in NAMES}


def test_a_second_deploy_with_nothing_changed_restarts_nothing(stack: Stack) -> None:
    """Same pids, exit 0, no incident, and the report says of each that it was left."""
    before = _three(stack)

    done = stack.deploy()

    assert done.exit_code == 0
    assert {name: stack.pid(name) for name in NAMES} == before
    report = stack.report()
    assert {one["name"]: one["restarted"] for one in report["services"]} == dict.fromkeys(NAMES, False)
    assert report["incident_id"] is None
    assert stack.ask("api")["deployId"] != report["deploy_id"], "its own deploy id is the one that started it"


def _code(stack: Stack) -> None:
    (stack.folder / "api/src/main.py").write_text("print('two')\n")


def _environment(stack: Stack) -> None:
    stack.manifest["services"]["api"]["env"] = {"RELEASE": "two"}


def _command(stack: Stack) -> None:
    stack.manifest["services"]["api"]["command"] = [*FAULTY, "print=two"]


def _artefact(stack: Stack) -> None:
    (stack.folder / "api/bundle.js").write_text("two")


def test_a_change_restarts_exactly_the_service_it_changes(stack: Stack) -> None:
    """Code, environment, command, artefact: each time one new process, the others keep theirs, and it is said why."""
    (stack.folder / "api").mkdir()
    (stack.folder / "api/bundle.js").write_text("one")
    stack.manifest["artefacts"] = {"bundle": {"path": "api/bundle.js"}}
    before = _three(stack)

    changes = {"code": _code, "environment": _environment, "command": _command, "artefact": _artefact}
    for why, change in changes.items():
        change(stack)
        done = stack.deploy()

        assert done.exit_code == 0, done.output
        after = {name: stack.pid(name) for name in NAMES}
        assert {name for name in NAMES if after[name] != before[name]} == {"api"}, why
        told = stack.report()["changes_since_last_good"]["services"]
        assert why in told["api"]
        assert "nothing changed" in told["jobs"]
        before = after


def test_how_a_service_is_kept_changes_without_a_restart(stack: Stack) -> None:
    """restart, stop_timeout and [logs] restart nothing, and the keeper goes by the new ones from the verdict on."""
    stack.service("api", restart={"delays": ["60s"]})
    assert stack.deploy().exit_code == 0
    before, keeper = stack.pid("api"), stack.keeper("api")

    stack.service("api", restart={"delays": ["0s"]}, stop_timeout="7s")
    stack.manifest["logs"] = {"max_size": "1MB", "keep": "3d"}
    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert (stack.pid("api"), stack.keeper("api")) == (before, keeper)
    assert "nothing changed" in stack.report()["changes_since_last_good"]["services"]["api"]
    assert not [event for event in stack.journal() if event["event"] in {"action.intended", "action.effected"}]
    record = stack.record("api")
    assert record is not None
    assert (record["stop_timeout"], record["log"]["max_size"], record["log"]["keep_days"]) == (7.0, 1_000_000, 3)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: stack.pid("api") not in {None, before}, "it is started again at once, not after a minute")


def test_how_a_service_is_kept_stays_as_it_was_when_the_deploy_fails(stack: Stack) -> None:
    """Nothing is handed to a keeper before the verdict, so a rollback has nothing of it to put back."""
    stack.service("api", stop_timeout="5s")
    assert stack.deploy().exit_code == 0

    stack.service("api", stop_timeout="7s")
    stack.service("broken", "exit=3")
    assert stack.deploy().exit_code == 1

    record = stack.record("api")
    assert record is not None
    assert record["stop_timeout"] == 5.0


def test_what_is_merely_touched_or_inherited_restarts_nothing(stack: Stack) -> None:
    """A file with the same bytes, another terminal's PATH and LANG, and the deploy's own id are no change."""
    before = _three(stack)
    (stack.folder / "api/src/main.py").touch()
    stack.environment |= {"PATH": f"{stack.clean_environment()['PATH']}:/nowhere", "LANG": "C", "PORT": "1"}

    assert stack.deploy().exit_code == 0

    assert {name: stack.pid(name) for name in NAMES} == before


def test_what_died_since_is_started_again_alone(stack: Stack) -> None:
    """A service that was stopped by a person is started by the next deploy; the others are left."""
    before = _three(stack)
    assert stack.run("stop", "jobs").exit_code == 0

    assert stack.deploy().exit_code == 0

    after = {name: stack.pid(name) for name in NAMES}
    assert {name for name in NAMES if after[name] != before[name]} == {"jobs"}


def test_a_changed_secret_restarts_its_service_and_is_in_no_file(stack: Stack) -> None:
    """Compared as an HMAC: the old and the new value are nowhere on disk."""
    stack.manifest["env"] = {"require": ["SESSION_SECRET"]}
    stack.environment["SESSION_SECRET"] = "first-value-of-the-session"
    stack.service("api")
    assert stack.deploy().exit_code == 0
    before = stack.pid("api")

    stack.environment["SESSION_SECRET"] = "second-value-of-the-session"
    assert stack.deploy().exit_code == 0

    assert stack.pid("api") != before
    assert psutil.Process(stack.pid("api")).environ()["SESSION_SECRET"] == "second-value-of-the-session"
    assert not [path for path in stack.files() if _holds(path, b"-value-of-the-session")]


def test_without_the_fingerprint_a_change_would_go_unnoticed(stack: Stack) -> None:
    """The comparison is what finds a change: a product without it keeps the old code and says yes."""
    before = _three(stack)
    _code(stack)

    done = stack.deploy(mutation="from flawless.adapters import fingerprints\nfingerprints._code = lambda *_: ''")

    assert done.exit_code == 0, done.output
    assert stack.pid("api") == before["api"] or stack.pid("jobs") != before["jobs"]


def _holds(path: Path, value: bytes) -> bool:
    return value in path.read_bytes()
