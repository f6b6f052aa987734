"""200 from something that is not the service: a page, another service, another release, a stranger. FAILURES 12, 28."""

from __future__ import annotations

from typing import Final

import pytest

from support.mutants import failing
from support.stacks import Stack, until
from support.verdicts import assert_failed, assert_gone, assert_never_started

CANARY: Final = "correct-horse-battery-4711"


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("answer=html", ("Parking page", "JSON was expected")),
        ("answer=other-service", ("somebody-else",)),
    ],
    ids=["page", "other service"],
)
def test_an_answer_that_is_not_the_services_is_refused(stack: Stack, word: str, named: tuple[str, ...]) -> None:
    """SERVICE_WRONG_IDENTITY says who answered, once the time is over in which the process could have outgrown it."""
    stack.timeouts(backend_ready="2s")
    stack.backend(word)
    stack.frontend()

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_WRONG_IDENTITY", "/health/live", *named)
    assert_gone(stack, "backend")
    assert_never_started(stack, "frontend")


def test_the_answer_of_another_release_is_refused_at_once(stack: Stack) -> None:
    """A process is given its deploy's id once: waiting cannot help, so the gate does not wait."""
    stack.timeouts(backend_ready="30s")
    stack.backend("answer=other-deploy")

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_WRONG_IDENTITY", "20200101T000000Z-000000", "another release")
    assert done.seconds < 20
    assert_gone(stack, "backend")


@pytest.mark.parametrize("kind", ["closed", "cut", "page", "redirect", "empty", "other-service"])
def test_what_a_service_answers_while_it_boots_is_outgrown(stack: Stack, kind: str) -> None:
    """A process of ours that closes, redirects or shows "starting up" at first is waited for."""
    stack.backend(f"at-first=1.2:{kind}")

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    assert done.seconds > 1.2


def test_a_thief_of_the_port_is_never_taken_for_the_service(stack: Stack) -> None:
    """Taken between the check and the start, by one that answers everything well: PORT_STOLEN names it, and it goes
    on; the admin password was not sent to it.
    """
    stack.manifest["admin"] = {"password": CANARY}
    stack.timeouts(backend_ready="6s")
    stack.backend("wait=1.5")

    with stack.deploying() as deploy:
        until(lambda: stack.pid("backend"), "the backend is started")
        port = stack.port("backend")
        thief = stack.stranger("name=backend", "answer=unhealthy", f"record={stack.folder}/asked", port=port)
        deploy.wait(30)

    failure = stack.failure()
    assert failure["code"] == "PORT_STOLEN"
    told = "\n".join([failure["cause"], *failure["evidence"]])
    assert str(thief.pid) in told
    assert str(port) in told
    assert thief.is_running()
    assert CANARY not in str(stack.requests("asked"))
    assert not [one for one in stack.requests("asked") if one["method"] == "POST"]
    assert not stack.pids("backend")


def test_without_the_question_who_answers_it_would_pass(stack: Stack) -> None:
    """A product that asks for the status alone calls a parking page, and an older release, live."""
    for word in ("html", "other-deploy"):
        stack.service(word, f"answer={word}", ready=[{"http": "/health/live", "json": {"status": "alive"}}])

    assert stack.deploy(mutation=_TRUSTS_ANYBODY).exit_code == 0


_TRUSTS_ANYBODY: Final = """
from flawless.checks import service
service.HttpReady._identity_failure = lambda self, answer: None
service.complaints = lambda wanted, answer: []
"""


def test_without_the_owner_of_the_socket_a_thief_would_not_be_named(stack: Stack) -> None:
    """It speaks as the service would, so that only the kernel can tell who it is."""
    with failing(stack, _NOBODY_OWNS_A_SOCKET, told=r"'SERVICE_\w+' == 'PORT_STOLEN'"):
        test_a_thief_of_the_port_is_never_taken_for_the_service(stack)


_NOBODY_OWNS_A_SOCKET: Final = """
from flawless.checks import service
async def nothing(subject): return None
async def nobody(subject): return ()
service.listening_failure, service._holders = nothing, nobody
service.HttpReady._identity_failure = lambda self, answer: None
"""
