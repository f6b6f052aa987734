"""Deploys that must pass: what is well, what is slow, what only looks bad. FAILURES 34, 35."""

from __future__ import annotations

from support.mutants import ASKED_ONCE, failing
from support.stacks import Stack


def test_a_stack_of_two_comes_up_and_both_serve(stack: Stack) -> None:
    """The verdict is success, both services answer, and the report names what runs."""
    stack.backend()
    stack.frontend()
    stack.manifest["base_url"] = f"http://127.0.0.1:{stack.port('frontend')}"

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    report = stack.report()
    assert report["result"] == "success"
    names = ("backend", "frontend")
    assert {one["name"]: one["pid"] for one in report["services"]} == {name: stack.pid(name) for name in names}
    assert stack.ask("backend")["deployId"] == report["deploy_id"]
    assert {phase["name"]: phase["status"] for phase in report["phases"]}["SUCCESS"] == "passed"
    assert report["failure"] is None
    assert report["health"]["live"]["service"] == "backend", "the health of the stack is its backend's"
    assert done.stdout.rstrip().endswith(stack.manifest["base_url"]), "the public address is the last line"


def test_a_slow_boot_inside_its_limit_passes(stack: Stack) -> None:
    """It needs 2.5 s of the 15 s it has: no restart, no failure, and the report says what was waited for."""
    stack.timeouts(backend_ready="15s")
    stack.backend("wait=2.5")

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    gate = next(phase for phase in stack.report()["phases"] if phase["name"] == "BACKEND_READY_GATE")
    assert gate["waited_for"]
    assert gate["duration_ms"] >= 2000
    record = stack.record("backend")
    assert record is not None
    assert record["restarts"] == 0


def test_alarming_words_on_its_output_are_not_a_failure(stack: Stack) -> None:
    """Text is not failure: what works passes, whatever it prints."""
    stack.backend("print=ERROR deprecated: FATAL exception, cannot connect, Traceback", "print-lines=2000")

    assert stack.deploy().exit_code == 0

    assert "FATAL exception" in stack.log("backend")
    assert "line 1999" in stack.log("backend")


def test_a_worker_without_a_port_passes_when_it_stays_alive(stack: Stack) -> None:
    """No port, no probe: alive for the stability window is its readiness."""
    stack.service("worker", "silent", role="worker", port=None, ready=None)

    assert stack.deploy().exit_code == 0

    assert stack.pid("worker")


def test_services_behind_one_another_start_in_order(stack: Stack) -> None:
    """`after`: the second is started only when the first is ready, not when it merely runs."""
    stack.service("second", after=["first"])
    stack.service("first", "wait=0.8")

    assert stack.deploy().exit_code == 0

    first, second = stack.record("first"), stack.record("second")
    assert first is not None
    assert second is not None
    assert second["started_at"] - first["started_at"] >= 0.8


def test_json_and_text_tell_the_same(stack: Stack) -> None:
    """`--json` prints the report itself, as one document, and nothing else on standard output."""
    import json

    stack.service("backend")

    done = stack.deploy("--json")

    assert json.loads(done.stdout) == stack.report()


def test_of_one_environment_nothing_disturbs_another(stack: Stack) -> None:
    """Two environments of one folder run side by side, each with its own state and its own processes."""
    stack.service("backend")
    (stack.folder / "flawless.staging.toml").write_text(f"[services.backend]\nport = {stack.port('staging')}\n")
    assert stack.deploy().exit_code == 0
    before = stack.pid("backend")

    done = stack.deploy("-e", "staging")

    assert done.exit_code == 0, done.output
    assert stack.pid("backend") == before
    assert stack.ask("backend")["pid"] == before
    assert stack.ask("staging")["pid"] != before
    assert stack.run("stop", "--all", "-e", "staging").exit_code == 0
    assert not stack.is_served("staging")
    assert stack.is_served("backend")


def test_a_manifest_without_a_service_is_not_called_live(stack: Stack) -> None:
    """Nothing serves, so nothing is said to be live or healthy, and no address is shown."""
    stack.manifest["base_url"] = "http://127.0.0.1:1"

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert "nothing serves" in done.stdout
    assert "live" not in done.stdout
    assert "127.0.0.1:1" not in done.stdout
    assert stack.run("status").exit_code == 3


def test_without_patience_a_slow_boot_would_fail(stack: Stack) -> None:
    """That alarming words are no failure needs no check, so none can be taken away."""
    with failing(stack, ASKED_ONCE, told="1 == 0"):
        test_a_slow_boot_inside_its_limit_passes(stack)
