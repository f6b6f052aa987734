"""A service that runs and cannot be reached, or takes the request and never answers. FAILURES 26, 27."""

from __future__ import annotations

import os
import signal
from typing import Any, Final

import pytest

from support.mutants import failing
from support.stacks import Stack
from support.verdicts import assert_failed, assert_gone, assert_never_started


def test_one_that_never_listens_is_said_to_listen_nowhere(stack: Stack) -> None:
    """The gate waits until its deadline, as it may still come, and then says that there is no port at all."""
    stack.timeouts(backend_ready="2.5s")
    stack.backend("silent")
    stack.frontend()

    done = stack.deploy()

    report = assert_failed(stack, done, "SERVICE_NOT_LISTENING", "backend", "it listens on no port")
    assert f"127.0.0.1:{stack.port('backend')}" in report["failure"]["cause"]
    assert_gone(stack, "backend")
    assert_never_started(stack, "frontend")


@pytest.mark.parametrize("probe", [{"log": "listening nowhere"}, {"exec": ["true"]}], ids=["a line", "a command"])
def test_a_port_that_is_declared_is_proved_whatever_else_is_asked(stack: Stack, probe: dict[str, Any]) -> None:
    """A line on its output opens no port."""
    stack.timeouts(backend_ready="2.5s")
    stack.service("backend", "silent", "print=listening nowhere", ready=[probe])

    assert_failed(stack, stack.deploy(), "SERVICE_NOT_LISTENING", "backend", "it listens on no port")


def test_one_that_listens_on_another_port_is_told_on_which(stack: Stack) -> None:
    """The port it took is in the evidence."""
    stack.timeouts(backend_ready="2.5s")
    stack.backend(f"port={stack.port('elsewhere')}")

    done = stack.deploy()

    assert_failed(
        stack, done, "SERVICE_NOT_LISTENING", str(stack.port("backend")), f"127.0.0.1:{stack.port('elsewhere')}"
    )
    assert_gone(stack, "backend")


def test_one_that_listens_on_ipv6_only_is_told_so(stack: Stack) -> None:
    """A browser that is told `localhost` may reach it; the address the manifest names is still refused."""
    stack.timeouts(backend_ready="2.5s")
    stack.backend("host=::1")

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_NOT_LISTENING", f"[::1]:{stack.port('backend')}")
    assert_gone(stack, "backend")


def test_localhost_is_where_it_listens(stack: Stack) -> None:
    """A manifest that says `localhost` means 127.0.0.1 or ::1, whichever the service took."""
    stack.service("four", host="localhost")
    stack.service("six", "host=::1", host="localhost")

    done = stack.deploy()

    assert done.exit_code == 0, done.output


def test_the_port_alone_is_not_enough_for_a_tcp_probe(stack: Stack) -> None:
    """`{ tcp = true }`, and no `ready` at all, ask for the same thing: a socket of the service's own."""
    stack.timeouts(backend_ready="2s")
    stack.service("backend", "silent", ready=None)

    assert_failed(stack, stack.deploy(), "SERVICE_NOT_LISTENING", "it listens on no port")
    assert_gone(stack, "backend")


@pytest.mark.parametrize("word", ["answer=hung", "freeze"], ids=["deadlock", "stopped"])
def test_one_that_accepts_and_never_answers_hangs(stack: Stack, word: str) -> None:
    """Not "not listening" and not "unhealthy": SERVICE_HUNG with the path; the frozen process is ended all the same."""
    stack.timeouts(backend_ready="3s")
    ready = [{"http": "/health/live", "json": {"status": "alive"}, "timeout": "0.4s"}]
    stack.backend(word, ready=ready)
    stack.frontend()

    done = stack.deploy()

    assert_failed(stack, done, "SERVICE_HUNG", "backend", "/health/live", f"127.0.0.1:{stack.port('backend')}")
    assert_gone(stack, "backend")
    assert_never_started(stack, "frontend")


def test_without_the_owner_of_the_socket_ipv6_alone_would_not_be_told(stack: Stack) -> None:
    """The evidence comes from the kernel's table: a product that only connects cannot say where it does listen."""
    stack.timeouts(backend_ready="2s")
    stack.backend("host=::1")

    stack.deploy(mutation=_ONLY_CONNECTS)

    assert "[::1]" not in str(stack.failure()["evidence"])


def test_what_is_kept_and_hangs_is_not_called_ready_any_more(stack: Stack) -> None:
    """The deploy has nothing of it to take back: it says what helps, `status` knows, and that does help."""
    stack.timeouts(backend_ready="1s")
    stack.service("backend", ready=[{"http": "/health/live", "timeout": "500ms"}])
    assert stack.deploy().exit_code == 0
    pid = stack.pid("backend")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    report = assert_failed(stack, stack.deploy(), "SERVICE_HUNG", "backend", rollback="not needed")

    assert report["failure"]["next_steps"][0] == "start it anew: flawless restart backend"
    status = stack.run("status")
    assert status.exit_code == 2, status.output
    assert "unhealthy" in status.stdout
    assert "SERVICE_HUNG" in status.stdout
    assert "flawless restart backend" in status.stdout
    assert stack.run("restart", "backend").exit_code == 0
    assert stack.run("status").exit_code == 0
    assert stack.pid("backend") != pid


_ONLY_CONNECTS: Final = """
from flawless.checks import service
async def nothing(subject): return None
async def nowhere(subject): return ()
service.listening_failure = nothing
service._found_elsewhere = nowhere
"""


_NO_LIMIT_OF_ITS_OWN: Final = """
from flawless.checks import service
from flawless.core.reason import Reason
service._hung = lambda subject, what, limit: subject.failed(Reason.SERVICE_UNHEALTHY, what)
"""


def test_without_the_socket_table_the_other_port_would_not_be_told(stack: Stack) -> None:
    with failing(stack, _ONLY_CONNECTS, told="not named in"):
        test_one_that_listens_on_another_port_is_told_on_which(stack)


def test_silence_that_is_taken_for_an_answer_would_be_called_unhealthy(stack: Stack) -> None:
    with failing(stack, _NO_LIMIT_OF_ITS_OWN, told="SERVICE_UNHEALTHY"):
        test_one_that_accepts_and_never_answers_hangs(stack, "answer=hung")
