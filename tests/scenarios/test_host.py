"""The machine itself: no descriptors left, a wall clock that is set anew. FAILURES 59, 60."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import Final

import psutil
import pytest

from support.mutants import failing
from support.stacks import Done, Stack, lives, until

_FEW: Final = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))\n"


def _assert_blames_the_host(done: Done) -> None:
    assert done.exit_code == 1
    assert "HOST_LIMITS" in done.output
    assert "Too many open files" in done.output
    assert "ulimit" in done.output, "what to do is said"
    wrong = ("SERVICE_EXITED", "SERVICE_NOT_LISTENING", "SERVICE_KEEPER_FAILED", "SERVICE_HUNG", "DEPLOY_INTERNAL")
    assert not [code for code in wrong if code in done.output]
    assert "Traceback" not in done.output


@pytest.mark.parametrize("left", [8, 9, 11])
def test_a_command_without_descriptors_blames_the_machine(stack: Stack, left: int) -> None:
    """HOST_LIMITS wherever it strikes, before the journal or behind it: never a service, never a traceback."""
    stack.service("backend")

    _assert_blames_the_host(stack.deploy(mutation=_FEW.format(left)))

    assert stack.deploy().exit_code == 0, "with descriptors it converges"


def test_descriptors_that_run_out_at_a_probe_are_not_the_services_fault(stack: Stack) -> None:
    """The service is well and serves; what fails here is the question. It is put back, and the report says why."""
    stack.timeouts(backend_ready="2s")
    stack.service("backend")

    done = stack.deploy(mutation=_FULL_AT_A_PROBE)

    _assert_blames_the_host(done)
    assert stack.failure()["code"] == "HOST_LIMITS"


@pytest.mark.parametrize("jump", [3600, -3600], ids=["forward", "back"])
def test_a_jump_of_the_wall_clock_ends_no_gate_early_or_late(stack: Stack, jump: int) -> None:
    """The clock is set by an hour while the gate waits: it waits as long as the service needs, and no longer."""
    stack.timeouts(backend_ready="15s")
    stack.service("backend", "wait=1.5")

    done = stack.deploy(mutation=_JUMPS.format(jump))

    assert done.exit_code == 0, done.output
    assert done.seconds < 20
    record = stack.record("backend")
    assert record is not None
    assert record["restarts"] == 0
    report = stack.report()
    began, ended = (datetime.fromisoformat(report[key]) for key in ("started_at", "finished_at"))
    assert abs((ended - began).total_seconds() - jump) < 60, "the jump took place inside this very run"
    assert 0 <= report["duration_ms"] < 20_000, "how long it took is no matter of the wall clock"


def test_a_gate_whose_clock_is_set_back_still_ends_at_its_deadline(stack: Stack) -> None:
    """One that never listens fails after its 1.5 s, not at once and not an hour later."""
    stack.timeouts(backend_ready="1.5s")
    stack.service("backend", "silent")

    done = stack.deploy(mutation=_JUMPS.format(-3600))

    assert stack.failure()["code"] == "SERVICE_NOT_LISTENING"
    gate = next(phase for phase in stack.report()["phases"] if phase["name"] == "BACKEND_READY_GATE")
    assert 1300 <= gate["duration_ms"] < 15_000
    assert done.seconds < 20


def test_the_next_deploy_after_a_jump_restarts_nothing(stack: Stack) -> None:
    """A process that is older, or younger, than the clock says is the same process all the same."""
    stack.service("backend")
    assert stack.deploy().exit_code == 0
    before = stack.pid("backend")
    path = stack.folder / ".flawless/run/backend/record.json"
    for hours in (1, -1):
        keeper = stack.keeper("backend")
        psutil.Process(keeper).kill()
        until(partial(_is_dead, keeper), "the keeper is dead")
        record = json.loads(path.read_text())
        for stamp in ("since", "started_at"):
            record[stamp] -= hours * 3600
        path.write_text(json.dumps(record))

        assert stack.deploy().exit_code == 0

        assert stack.pid("backend") == before


def _is_dead(pid: int) -> bool:
    return not lives(pid)


_FULL_AT_A_PROBE: Final = """
import resource
from flawless.checks import service
asked = service.HttpReady.ask
async def ask(self, limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        return await asked(self, limit)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
service.HttpReady.ask = ask
"""

_JUMPS: Final = """
import time
from datetime import timedelta
from flawless.checks import service
from flawless.core import clock
asked, wall, now = service.listening_failure, time.time, clock.SystemClock.now
jumped = []
async def ask(subject):
    jumped.append({0})
    return await asked(subject)
service.listening_failure = ask
time.time = lambda: wall() + sum(jumped[:1])
clock.SystemClock.now = lambda self: now(self) + timedelta(seconds=sum(jumped[:1]))
"""


_NO_LIMITS: Final = """
from types import SimpleNamespace
from flawless.adapters.keeper import client
from flawless.checks import service
from flawless.core import fault
fault._LIMITS = client._LIMITS = frozenset()
none = dict.fromkeys(("EMFILE", "ENFILE", "ENOMEM", "EADDRNOTAVAIL", "ENOBUFS"), -1)
service.errno = SimpleNamespace(**none)
"""
_BY_THE_WALL: Final = """
import time
from flawless.core.clock import SystemClock
SystemClock.monotonic = lambda self: time.time()
"""


def test_without_knowing_its_own_limits_it_would_blame_itself(stack: Stack) -> None:
    with failing(stack, _NO_LIMITS, told="'HOST_LIMITS' in"):
        test_a_command_without_descriptors_blames_the_machine(stack, 8)


def test_without_knowing_its_own_limits_a_probe_would_blame_the_service(stack: Stack) -> None:
    with failing(stack, _NO_LIMITS, told="'HOST_LIMITS' in"):
        test_descriptors_that_run_out_at_a_probe_are_not_the_services_fault(stack)


@pytest.mark.parametrize(("jump", "told"), [(3600, "1 == 0")], ids=["forward"])
def test_a_gate_that_went_by_the_wall_clock_would_end_early(stack: Stack, jump: int, told: str) -> None:
    with failing(stack, _BY_THE_WALL, told=told):
        test_a_jump_of_the_wall_clock_ends_no_gate_early_or_late(stack, jump)
