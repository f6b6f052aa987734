"""A service that says itself that it is not well, and the one recovery it is given. FAILURES 29."""

from __future__ import annotations

from typing import Final

import pytest

from support.mutants import failing
from support.stacks import Stack
from support.verdicts import assert_failed, assert_gone, assert_never_started

CANARY: Final = "correct-horse-battery-4711"


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("answer=unready", ("/health/db", "ready is false", "database unreachable since 14:02")),
        ("answer=degraded", ("/health/status", "degraded.enabled is true", "queue is 4000 behind")),
        ("answer=unhealthy", ("/health/status", "services.db is not healthy", "connection pool exhausted")),
    ],
    ids=["unready", "degraded", "unhealthy"],
)
def test_the_reasons_it_gave_are_told(stack: Stack, word: str, named: tuple[str, ...]) -> None:
    """SERVICE_UNHEALTHY repeats what the service said, whatever its status line; what needs it is not started."""
    stack.timeouts(backend_ready="2.5s", recover="1s")
    stack.backend(word)
    stack.frontend()

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_UNHEALTHY", "backend", *named)
    assert report["health"]["live"]["status"] == "alive", "what it answered is in the report"
    assert_gone(stack, "backend")
    assert_never_started(stack, "frontend")


def test_one_recovery_is_attempted_and_then_the_deploy_goes_back(stack: Stack) -> None:
    """The service says that it recovers and does not: exactly one POST, which the report tells, and the rollback."""
    stack.timeouts(backend_ready="2.5s", recover="1.5s")
    asked = stack.folder / "asked"
    stack.backend("answer=unrecoverable", f"record={asked}")

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_UNHEALTHY", "one recovery was attempted", "answered 200")
    assert [one["path"] for one in stack.requests("asked") if one["method"] == "POST"] == ["/health/recover"]
    assert report["recovery"]["attempted"] is True
    assert report["recovery"]["stats"]["stats"] == {"total": 0, "successful": 0, "failed": 0}
    assert "no help" in report["recovery"]["result"]
    assert_gone(stack, "backend")


def test_a_recovery_that_helps_makes_the_deploy_a_success(stack: Stack) -> None:
    """It stays in the report that there was one, and the admin password went with it and nowhere else."""
    stack.timeouts(backend_ready="2.5s", recover="2s")
    stack.manifest["admin"] = {"password": "${ADMIN_PASSWORD}"}
    stack.environment["ADMIN_PASSWORD"] = CANARY
    asked = stack.folder / "asked"
    stack.backend("answer=recoverable", f"record={asked}")

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    recovery = stack.report()["recovery"]
    assert recovery["attempted"] is True
    assert "ready after it" in recovery["result"]
    told = [one for one in stack.requests("asked") if CANARY in str(one)]
    assert [(one["method"], one["path"]) for one in told] == [("POST", "/health/recover")]
    assert told[0]["headers"]["X-Admin-Password"] == CANARY
    (stack.folder / "asked").unlink()
    assert CANARY not in done.output
    assert not [path for path in stack.files() if CANARY in path.read_text(errors="replace")]


def test_a_frontend_that_cannot_reach_its_backend_is_not_live(stack: Stack) -> None:
    """Its page says 503: the status is told, and the backend, which was well, is taken back with it."""
    stack.timeouts(frontend_ready="2.5s")
    stack.backend()
    stack.frontend(env={"BACKEND_URL": f"http://127.0.0.1:{stack.port('nobody')}"})

    report = assert_failed(stack, stack.deploy(), "SERVICE_UNHEALTHY", "frontend", "status 503")

    assert report["failure"]["phase"] == "FRONTEND_START"
    assert_gone(stack, "frontend")
    assert_gone(stack, "backend")


def test_without_a_recovery_route_none_is_attempted(stack: Stack) -> None:
    """What the manifest does not declare is not tried."""
    stack.timeouts(backend_ready="2.5s")
    stack.backend("answer=unhealthy", recover=None)

    report = assert_failed(stack, stack.deploy(), "SERVICE_UNHEALTHY")

    assert report["recovery"] == {"stats": None, "attempted": False, "result": None}


def test_a_worker_whose_probe_command_fails_is_told_with_its_last_lines(stack: Stack) -> None:
    """`{ exec = [...] }`: the command, its status and what it printed."""
    stack.timeouts(backend_ready="2.5s")
    probe = ["sh", "-c", "echo the queue is 90 s behind; exit 4"]
    stack.service("worker", role="worker", port=None, ready=[{"exec": probe}])
    stack.manifest["services"]["worker"]["command"] = ["sleep", "60"]

    assert_failed(stack, stack.deploy(), "SERVICE_UNHEALTHY", "worker", "ended with 4", "the queue is 90 s behind")


def test_without_the_health_questions_they_would_all_pass(stack: Stack) -> None:
    """A product that takes any answer for health calls each of them live."""
    for word in ("unready", "degraded", "unhealthy"):
        stack.backend(f"answer={word}", name=word)

    assert stack.deploy(mutation=_ANY_ANSWER_WILL_DO).exit_code == 0


_ANY_ANSWER_WILL_DO: Final = """
from flawless.checks import service
service.complaints = lambda wanted, answer: []
"""


_NEVER_RECOVERS: Final = """
from flawless.deploy.services import Group
async def recovered(self, plan, running, failed): return failed
Group._recovered = recovered
"""
_TWICE: Final = """
from flawless.adapters.recovery_routes import RecoveryRoutes
act = RecoveryRoutes.act
async def again(self, limit):
    await act(self, limit)
    return await act(self, limit)
RecoveryRoutes.act = again
"""


@pytest.mark.parametrize(("mutation", "told"), [(_NEVER_RECOVERS, "not named in"), (_TWICE, "/health/recover")])
def test_no_recovery_and_two_of_them_would_be_seen(stack: Stack, mutation: str, told: str) -> None:
    with failing(stack, mutation, told=told):
        test_one_recovery_is_attempted_and_then_the_deploy_goes_back(stack)
