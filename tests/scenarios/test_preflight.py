"""What is looked at before anything is started: `flawless check` and whole deploys (FAILURES 1 to 10, 14 to 16)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.mutants import NOT_ASKED, failing
from support.stacks import Done, Stack

GOOD: dict[str, str] = {
    "DATABASE_KEY": "k3y-of-the-database-71",
    "STRIPE_SECRET_KEY": "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "STRIPE_WEBHOOK_SECRET": "whsec_" + "t1Zdp7dc4eC39HqLyjWDarjt0aBcDeFg",
    "BASE_URL": "http://127.0.0.1:8080",
    "ADMIN_PASSWORD": "correct-horse-battery",
}


def set_to(name: str, value: str) -> Callable[[Stack], None]:
    def change(stack: Stack) -> None:
        write_env(stack, GOOD | {name: value})

    return change


def without(name: str) -> Callable[[Stack], None]:
    def change(stack: Stack) -> None:
        write_env(stack, {key: value for key, value in GOOD.items() if key != name})

    return change


def weak_password(stack: Stack) -> None:
    stack.manifest["admin"] = {"password": "${ADMIN_PASSWORD}"}
    write_env(stack, GOOD | {"ADMIN_PASSWORD": "short"})


def live_key_here(stack: Stack) -> None:
    """A live key with an address on this machine."""
    write_env(stack, GOOD | {"BASE_URL": "https://shop.example.org"})
    stack.manifest["base_url"] = "https://shop.example.org"


def missing_tool(stack: Stack) -> None:
    stack.service("backend", command=["no-such-program-71", "serve"])


def missing_artefact(stack: Stack) -> None:
    stack.manifest["artefacts"] = {"client": {"path": "client.js"}}


def stale_artefact(stack: Stack) -> None:
    (stack.folder / "client.js").write_text("old")
    (stack.folder / "schema.txt").write_text("new")
    then = time.time() - 3600
    os.utime(stack.folder / "client.js", (then, then))
    stack.manifest["artefacts"] = {"client": {"path": "client.js", "sources": ["schema.txt"]}}


def unwritable(stack: Stack) -> None:
    """A file stands where the folder should be: no right helps."""
    (stack.folder / "uploads").write_text("not a folder")
    stack.manifest["paths"] = {"writable": ["uploads"]}


WORLDS: dict[str, tuple[Callable[[Stack], None], str, str]] = {
    "missing": (without("STRIPE_SECRET_KEY"), "ENV_MISSING", "STRIPE_SECRET_KEY"),
    "blank": (set_to("STRIPE_SECRET_KEY", "  "), "ENV_BLANK", "STRIPE_SECRET_KEY"),
    "placeholder": (set_to("DATABASE_KEY", "changeme"), "ENV_PLACEHOLDER", "DATABASE_KEY"),
    "swapped": (set_to("STRIPE_SECRET_KEY", GOOD["STRIPE_WEBHOOK_SECRET"]), "ENV_MALFORMED", "STRIPE_SECRET_KEY"),
    "weak": (weak_password, "ENV_WEAK", "ADMIN_PASSWORD"),
    "mode": (live_key_here, "API_KEY_MODE", "STRIPE_SECRET_KEY"),
    "tool": (missing_tool, "TOOL_MISSING", "no-such-program-71"),
    "artefact": (missing_artefact, "ARTEFACT_MISSING", "client.js"),
    "stale artefact": (stale_artefact, "ARTEFACT_STALE", "schema.txt"),
    "folder": (unwritable, "DISK_NOT_WRITABLE", "uploads"),
}


@pytest.mark.parametrize("world", list(WORLDS))
def test_it_is_found_before_anything_is_started(stack: Stack, world: str) -> None:
    """`check` and `deploy` say the same: the code, the thing by name, exit 1. Nothing runs, and no secret is shown."""
    prepare, code, named = WORLDS[world]
    declare(stack)
    prepare(stack)
    checked, deployed = stack.run("check"), stack.deploy()
    assert (checked.exit_code, deployed.exit_code) == (1, 1), checked.output + deployed.output
    failure = stack.failure()
    assert (failure["code"], failure["phase"]) == (code, "PRECHECK")
    assert any(named in line for line in [failure["cause"], *failure["evidence"]]), failure
    for done in (checked, deployed):
        assert code in done.output
        assert "Traceback" not in done.output
        assert_no_secret(done)
    assert stack.record("backend") is None
    assert stack.report()["rollback"]["status"] == "not needed"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_port_that_a_stranger_holds_is_reported_with_the_stranger(stack: Stack, host: str) -> None:
    """PORT_HELD_FOREIGN with pid, command, user and since when, and the line to paste; the stranger lives on."""
    declare(stack)
    stranger = stack.stranger(f"host={host}", port=stack.port("backend"))
    checked, deployed = stack.run("check"), stack.deploy()
    assert (checked.exit_code, deployed.exit_code) == (1, 1)
    failure = stack.failure()
    assert failure["code"] == "PORT_HELD_FOREIGN"
    said = " ".join([failure["cause"], *failure["evidence"]])
    assert str(stranger.pid) in said
    assert "faulty_service.py" in said
    assert str(stack.port("backend")) in said
    assert any(str(stranger.pid) in step for step in failure["next_steps"])
    assert stranger.is_running()


def test_several_failures_are_all_told_and_the_first_in_catalog_order_is_the_cause(stack: Stack) -> None:
    """One list, not one failure a deploy: variables, a port, a folder and a program at once."""
    declare(stack)
    missing_tool(stack)
    unwritable(stack)
    write_env(stack, {"BASE_URL": GOOD["BASE_URL"], "DATABASE_KEY": "changeme"})
    stack.stranger(port=stack.port("backend"))
    done = stack.deploy()
    assert done.exit_code == 1
    report = stack.report()
    failed = [check["code"] for check in report["phases"][0]["checks"] if check["status"] == "FAIL"]
    assert {"ENV_MISSING", "ENV_PLACEHOLDER", "PORT_HELD_FOREIGN", "DISK_NOT_WRITABLE", "TOOL_MISSING"} <= set(failed)
    assert report["failure"]["code"] == failed[0] == "ENV_MISSING"
    said = " ".join([report["failure"]["cause"], *report["failure"]["evidence"]])
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "ADMIN_PASSWORD", ".env"):
        assert name in said
    for code in failed:
        assert code in said + done.stdout
    listed = json.loads(stack.run("check", "--json").stdout)
    assert [one["code"] for one in listed["checks"] if one["status"] == "FAIL"] == failed


def test_a_file_that_overrides_the_one_that_was_edited_is_in_the_report(stack: Stack) -> None:
    """The process's own environment wins over .env; the report says which did."""
    declare(stack)
    stack.environment["DATABASE_KEY"] = "another-key-of-the-database"
    assert stack.deploy().exit_code == 0
    checks = stack.report()["phases"][0]["checks"]
    assert any("DATABASE_KEY" in " ".join(check["evidence"]) and check["id"] == "env.overridden" for check in checks)
    shown = stack.run("config", "show", "--origin")
    assert shown.exit_code == 0
    assert "another-key-of-the-database" not in shown.output


def test_an_artefact_with_a_build_command_is_built(stack: Stack) -> None:
    """Missing is no failure where the manifest says how it is made; and it is made once."""
    declare(stack)
    build = [sys.executable, "-c", "import pathlib; pathlib.Path('client.js').write_text('built')"]
    stack.manifest["artefacts"] = {"client": {"path": "client.js", "build": build}}
    assert stack.deploy().exit_code == 0
    assert (stack.folder / "client.js").read_text() == "built"
    assert ("build", "client") in actions(stack)
    assert stack.deploy().exit_code == 0
    assert ("build", "client") not in actions(stack)


def test_an_artefact_that_cannot_be_built_shows_the_builder_s_own_words(stack: Stack) -> None:
    declare(stack)
    build = [sys.executable, "-c", "raise SystemExit('schema.txt: line 3: unknown type Strng')"]
    stack.manifest["artefacts"] = {"client": {"path": "client.js", "build": build}}
    assert stack.deploy().exit_code == 1
    failure = stack.failure()
    assert failure["code"] == "ARTEFACT_BUILD_FAILED"
    assert any("unknown type Strng" in line for line in failure["evidence"])
    assert stack.record("backend") is None


# --- a manifest that is wrong ---


def test_an_invalid_manifest_is_refused_with_every_problem(stack: Stack) -> None:
    """Exit 78 from every verb, each problem with its path, no report and no traceback."""
    declare(stack)
    stack.service("frontend", role="frontend", port=stack.port("backend"), after=["backend", "nobody"])
    stack.manifest["services"]["backend"]["after"] = ["frontend"]
    stack.manifest["services"]["backend"]["comand"] = ["x"]
    stack.timeouts(backend_ready="5 parsecs", stable="-1")
    for words in (["deploy"], ["check"], ["config", "validate"], ["start"]):
        done = stack.run(*words)
        assert done.exit_code == 78, (words, done.output)
        assert "CONFIG_INVALID" in done.output
        assert "Traceback" not in done.output
        for path in ("services.backend.comand", "timeouts.backend_ready", "timeouts.stable"):
            assert path in done.output, (path, done.output)
        assert "services.frontend.port" in done.output, "two services with one port"
        assert "backend -> frontend -> backend" in done.output, "a cycle"
        assert "5 parsecs" in done.output
        assert "command" in done.output
    assert not (stack.folder / "logs").exists()
    assert not (stack.folder / ".flawless/journal").exists()


@pytest.mark.parametrize("value", ["0", "-1", "nan", "5 parsecs", "1e999"])
def test_a_timeout_variable_that_makes_no_sense_is_refused(stack: Stack, value: str) -> None:
    """Never repaired silently: exit 78 with the variable's name, its value and what is allowed."""
    declare(stack)
    stack.environment["FLAWLESS_TIMEOUT_BACKEND_READY"] = value
    done = stack.deploy()
    assert done.exit_code == 78
    assert "FLAWLESS_TIMEOUT_BACKEND_READY" in done.output
    assert value in done.output
    assert "Traceback" not in done.output


def huge(text: str) -> str:
    return text + "\n# " + "x" * 300_000


def deep(text: str) -> str:
    return text + "\n[deep]\nx = " + "[" * 1000 + "]" * 1000 + "\n"


def no_toml(text: str) -> str:
    return text + "\n[services\n"


def no_text(text: str) -> str:
    return text + "\n\x00\ufffe"


@pytest.mark.parametrize("spoil", [huge, deep, no_toml, no_text])
def test_a_file_that_is_no_manifest_is_refused_without_a_traceback(
    stack: Stack, spoil: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too big, too deep, broken, or no text at all: exit 78."""
    declare(stack)
    stack.write()
    path = stack.folder / "flawless.toml"
    spoiled = spoil(path.read_text())
    monkeypatch.setattr(stack, "write", lambda: path.write_text(spoiled))
    for words in (["deploy"], ["check"]):
        done = stack.run(*words)
        assert done.exit_code == 78, done.output
        assert "Traceback" not in done.output
        assert "flawless.toml" in done.output
    monkeypatch.undo()


# --- without the check ---

ASKED_BY: dict[str, tuple[str, str]] = {
    "missing": ("environment", "VariablesPresent"),
    "blank": ("environment", "VariablesFilled"),
    "placeholder": ("environment", "VariablesReal"),
    "swapped": ("environment", "VariablesFormed"),
    "weak": ("environment", "PasswordStrong"),
    "mode": ("environment", "KeyModeRight"),
    "tool": ("tools", "ToolInstalled"),
    "artefact": ("artefacts", "ArtefactFresh"),
    "stale artefact": ("artefacts", "ArtefactFresh"),
    "folder": ("disk", "FolderWritable"),
}


@pytest.mark.parametrize("world", list(WORLDS))
def test_without_its_check_the_world_would_be_found_good(stack: Stack, world: str) -> None:
    """Each of the worlds above is found by the one check that is meant for it."""
    with failing(stack, NOT_ASKED.format(*ASKED_BY[world]), told=r"assert \(0, [01]\) == \(1, 1\)"):
        test_it_is_found_before_anything_is_started(stack, world)


NO_RULES = "from flawless.manifest import loader\nloader.find_breaches = lambda *given: ()"
NO_TYPES = "from flawless.manifest import loader\nloader.to_problems = lambda *given: []"
NO_TIMEOUTS = "from flawless.manifest import loader\nloader._apply_timeouts = lambda *given: None"
NO_LIMITS = "from flawless.manifest import document\ndocument.SIZE_LIMIT = document.DEPTH_LIMIT = 10**9"


@pytest.mark.parametrize(
    ("mutation", "told"), [(NO_RULES, "two services with one port"), (NO_TYPES, "services.backend.comand")]
)
def test_without_its_rules_a_manifest_would_be_read_as_it_is(stack: Stack, mutation: str, told: str) -> None:
    with failing(stack, mutation, told=told):
        test_an_invalid_manifest_is_refused_with_every_problem(stack)


def test_without_the_validation_a_timeout_that_makes_no_sense_would_be_passed_over(stack: Stack) -> None:
    with failing(stack, NO_TIMEOUTS, told="0 == 78"):
        test_a_timeout_variable_that_makes_no_sense_is_refused(stack, "-1")


@pytest.mark.parametrize(("spoil", "told"), [(huge, "0 == 78"), (deep, "1 == 78")])
def test_without_the_limits_a_file_of_any_size_and_depth_would_be_read(
    stack: Stack, spoil: Callable[[str], str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(stack, NO_LIMITS, told=told):
        test_a_file_that_is_no_manifest_is_refused_without_a_traceback(stack, spoil, monkeypatch)


def test_without_the_question_an_overridden_variable_would_not_be_told(stack: Stack) -> None:
    with failing(stack, NOT_ASKED.format("environment", "OverridesSaid"), told="assert False"):
        test_a_file_that_overrides_the_one_that_was_edited_is_in_the_report(stack)


# --- how it is made ---


def declare(stack: Stack) -> None:
    """A backend with variables it needs, all of them good."""
    stack.backend()
    stack.manifest["base_url"] = "${BASE_URL}"
    stack.manifest["env"] = {"files": [".env"], "require": list(GOOD)}
    write_env(stack, GOOD)


def write_env(stack: Stack, values: dict[str, str]) -> None:
    (stack.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def actions(stack: Stack) -> list[tuple[Any, Any]]:
    return [(event["action"], event["subject"]) for event in stack.journal() if event["event"] == "action.effected"]


def assert_no_secret(done: Done) -> None:
    for name in ("DATABASE_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "ADMIN_PASSWORD"):
        assert GOOD[name] not in done.output, name
