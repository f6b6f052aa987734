"""State left behind: pids that others have now, a machine that rebooted, keepers that were killed. FAILURES 63, 66."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from support.mutants import failing
from support.stacks import Stack, lives, until
from support.verdicts import assert_failed, assert_gone


@pytest.mark.parametrize("field", ["start_time", "boot_id"])
def test_a_record_whose_pid_is_somebody_elses_signals_nobody(stack: Stack, field: str) -> None:
    """The pid was reused, or the machine rebooted: the stranger goes on, and the deploy converges."""
    stranger = stack.stranger(port=stack.port("elsewhere"))
    _forge(stack, stranger.pid, field)

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stranger.is_running()
    assert stack.pid("backend") != stranger.pid
    assert stack.ask("backend")["pid"] == stack.pid("backend")


def test_no_verb_touches_the_stranger(stack: Stack) -> None:
    """status, stop and restart know as well as deploy does whose process it is."""
    stranger = stack.stranger(port=stack.port("elsewhere"))
    _forge(stack, stranger.pid, "start_time")

    for verb in (("status",), ("stop",), ("stop", "--all"), ("restart",)):
        done = stack.run(*verb)

        assert stranger.is_running(), verb
        assert "Traceback" not in done.output
        if verb[0] == "stop":
            assert "backend" not in done.stdout, "nothing of ours ran"


@pytest.mark.parametrize("field", ["start_time", "boot_id"])
def test_without_the_start_time_the_stranger_would_be_taken_for_ours(stack: Stack, field: str) -> None:
    """A product that goes by the pid alone keeps the stranger and calls the service live, or ends it."""
    stranger = stack.stranger(port=stack.port("elsewhere"))
    _forge(stack, stranger.pid, field)

    stack.deploy(mutation=_BY_PID_ALONE)

    is_taken = stack.pid("backend") == stranger.pid or not lives(stranger.pid)
    assert is_taken or stack.failure()


def test_a_record_that_is_torn_is_no_record(stack: Stack) -> None:
    """Half a file after a power cut: the next deploy begins anew."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    assert stack.run("stop").exit_code == 0
    path = stack.folder / ".flawless/run/backend/record.json"
    path.write_bytes(path.read_bytes()[:40])

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.is_served("backend")


@pytest.mark.parametrize("killed", [False, True], ids=["kept", "its keeper killed"])
@pytest.mark.parametrize("content", [None, b"", b'{"half": '], ids=["gone", "empty", "half"])
def test_a_service_whose_record_is_lost_is_still_ours(stack: Stack, content: bytes | None, *, killed: bool) -> None:
    """Its keeper knows it, or else its output does: no "process that is not ours", and one copy at the end."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    before, keeper = stack.pid("backend"), stack.keeper("backend")
    if killed:
        psutil.Process(keeper).kill()
        until(lambda: not lives(keeper), "the keeper is dead")
    path = stack.folder / ".flawless/run/backend/record.json"
    path.unlink() if content is None else path.write_bytes(content)

    status, done = stack.run("status", "--json"), stack.deploy()

    if not killed:
        assert json.loads(status.stdout)["services"][0]["pid"] == before
    assert done.exit_code == 0, done.output
    serving = stack.ask("backend")["pid"]
    assert (serving == before) is not killed
    assert len([one for one in stack.processes() if "faulty_service" in " ".join(one.cmdline())]) == 1


DAMAGE: Final = {"empty": b"", "half": b"{", "list": b"[]", "object": b"{}", "lines": b"[]\n{}\n", "binary": b"\xff\n"}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_end_no_command_and_no_deploy(stack: Stack, damage: bytes) -> None:
    """After a power cut or a full disk: every command answers, and the next deploy is good and knows again."""
    stack.service("backend", "exit=3")
    assert stack.deploy().exit_code == 1, "an incident waits in the outbox"
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    state = stack.folder / ".flawless"
    for name in ("migrations.json", "lock/deploy.json", "budget/backend.json"):
        (state / name).parent.mkdir(exist_ok=True)
        (state / name).touch()
    kept = {state / "reserve", *(state / "run").rglob("*"), *state.rglob("*lock")}
    files = [path for path in (*state.rglob("*"), *(stack.folder / "logs").glob("*.json")) if path.is_file()]
    for path in {*files} - kept:
        path.write_bytes(damage)

    said = [stack.run(*words.split()) for words in READING]
    assert not [one.output for one in said if "Traceback" in one.output or "made a mistake" in one.output]
    assert said[0].exit_code == 4, "what should run is not known"
    assert "desired.json" in said[0].stdout
    assert stack.run("restart").exit_code == 0
    assert stack.deploy().exit_code == 0
    assert stack.run("status").exit_code == 0


READING: Final = ("status", "status --json", "plan", "lock", "incidents", "incidents export", "reports", "check")


def test_a_killed_keeper_loses_neither_the_service_nor_a_second_copy(stack: Stack) -> None:
    """The next deploy adopts the process: the same pid, one copy, and a new keeper that answers its crash."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    before, keeper = stack.pid("backend"), stack.keeper("backend")
    psutil.Process(keeper).kill()
    until(lambda: not lives(keeper), "the keeper is dead")
    assert stack.is_served("backend")
    status = stack.run("status")
    assert status.exit_code == 2, "nobody would start it again"
    assert "its keeper is gone" in status.stdout
    assert "give it a new keeper with flawless deploy" in " ".join(status.stdout.split())

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.pid("backend") == before
    assert lives(stack.keeper("backend"))
    assert stack.keeper("backend") != keeper
    record = stack.record("backend")
    assert record is not None
    assert record["armed"] is True


def _change_an_orphan(stack: Stack, **changed: Any) -> int | None:
    """A service whose keeper was killed, and a deploy that would replace it and fails; the pid it had."""
    stack.environment["SESSION_SECRET"] = "first-value-of-the-session"
    ready = [{"http": "/health/live", "json": {"status": "alive"}}]
    stack.manifest["env"] = {"require": ["SESSION_SECRET"]}
    stack.service("backend", "name=as-before", ready=ready, env={"RELEASE": "one"})
    assert stack.deploy().exit_code == 0
    before = stack.pid("backend")
    keeper = stack.keeper("backend")
    psutil.Process(keeper).kill()
    until(lambda: not lives(keeper), "the keeper is dead")
    stack.environment["SESSION_SECRET"] = "second-value-of-the-session"
    stack.service("backend", "print=no such module", "exit=1", ready=ready, env={"RELEASE": "two"}, **changed)
    return before


def test_an_orphan_whose_replacement_fails_runs_again_as_it_was(stack: Stack) -> None:
    """Nobody knew its command any more but the process itself: the same command, the old environment and secret, kept
    by a new keeper; and the secret is in no file.
    """
    before = _change_an_orphan(stack)

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_EXITED", "backend", "no such module")
    assert any(action.startswith("backend runs again") for action in report["rollback"]["actions"])
    assert stack.pid("backend") not in {None, before}
    assert stack.ask("backend")["service"] == "as-before"
    environment = psutil.Process(stack.pid("backend")).environ()
    assert (environment["RELEASE"], environment["SESSION_SECRET"]) == ("one", "first-value-of-the-session")
    record = stack.record("backend")
    assert record is not None
    assert (record["armed"], record["state"]) == (True, "ready")
    assert not [path for path in stack.files() if b"-value-of-the-session" in path.read_bytes()]


def test_an_orphan_that_left_the_manifest_comes_back_when_the_deploy_fails(stack: Stack) -> None:
    """It is held, and resumed from what the process itself had said."""
    _change_an_orphan(stack)
    del stack.manifest["services"]["backend"]
    stack.service("other", "print=no such module", "exit=1", port=stack.port("backend"))

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_EXITED", "other", "no such module")
    until(lambda: stack.is_served("backend"), "it listens again: no gate waits for what the manifest does not name")
    assert stack.ask("backend")["service"] == "as-before"


def test_without_what_the_process_says_an_orphan_would_stay_down(stack: Stack) -> None:
    """Its own words are the way back: a keeper that does not read them leaves it DOWN, and says so."""
    _change_an_orphan(stack)

    done = stack.deploy(mutation=_DEAF_KEEPER)

    assert_failed(stack, done, "SERVICE_EXITED", "backend", rollback="failed")
    assert "backend is DOWN now" in done.output
    assert not stack.is_served("backend")


_DEAF_KEEPER: Final = """
from flawless.adapters.keeper import client
begun = client.subprocess.Popen
def deaf(argv, **options):
    *before, folder = argv
    before[-1] = before[-1].replace("from flawless.adapters.keeper.program",
        "from flawless.adapters.keeper import origin; origin.origin_of = lambda *_: None\\n"
        "from flawless.adapters.keeper.program")
    return begun([*before, folder], **options)
client.subprocess.Popen = deaf
"""


_NO_ADOPTION: Final = """
from flawless.deploy.services import Group
async def adopted(self, name, orphan): return None
Group._adopted = adopted
"""


def test_without_adoption_a_killed_keeper_would_cost_the_process(stack: Stack) -> None:
    """It would be replaced: still one copy, but another one."""
    with failing(stack, _NO_ADOPTION, told=r"assert \d+ == \d+"):
        test_a_killed_keeper_loses_neither_the_service_nor_a_second_copy(stack)


def test_everything_killed_at_once_is_brought_up_again(stack: Stack) -> None:
    """As after a power cut: records say that it runs, nothing does, and the deploy starts it."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    killed = stack.processes()
    for process in killed:
        process.kill()
    until(lambda: not any(lives(one.pid) for one in killed), "all of them are dead")
    assert_gone(stack, "backend")

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert stack.ask("backend")["pid"] == stack.pid("backend")


def _forge(stack: Stack, pid: int, field: str) -> None:
    """A record as an earlier process of this pid would have left it."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    record: dict[str, Any] = stack.record("backend") or {}
    assert stack.run("stop").exit_code == 0
    start_time = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    identity = {"pid": pid, "start_time": start_time, "boot_id": record["child"]["boot_id"]}
    wrong = {"start_time": start_time - 1000, "boot_id": "00000000-0000-0000-0000-000000000000"}
    identity[field] = wrong[field]
    record |= {"child": identity, "keeper": identity, "state": "ready", "ready": True, "armed": True}
    (stack.folder / ".flawless/run/backend/record.json").write_text(json.dumps(record))


_BY_PID_ALONE: Final = """
from flawless.adapters import services
services.is_alive = lambda process: True
"""


@pytest.mark.parametrize("adopted", [False, True], ids=["at once", "after a deploy that adopts it"])
def test_a_restart_after_the_keeper_was_killed_is_a_new_process(stack: Stack, *, adopted: bool) -> None:
    """Asked to restart it does, also what nobody kept meanwhile; the one new copy is kept, and served."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    for _ in range(2):
        before = stack.pid("backend")
        psutil.Process(stack.keeper("backend")).kill()
        if adopted:
            assert stack.deploy().exit_code == 0
            assert stack.pid("backend") == before

        done = stack.run("restart")

        assert done.exit_code == 0, done.output
        assert stack.pid("backend") not in {None, before}
        assert not lives(before)
        assert lives(stack.keeper("backend"))
        assert stack.ask("backend")["pid"] == stack.pid("backend")
