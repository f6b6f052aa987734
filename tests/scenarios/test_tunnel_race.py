"""Four programs that see the tunnel die or hang at the same time make one restart of it: the stand-in, its keeper, the
step of two deploys, the command line, and a bare caller of `recovery`. (tests/test_recovery.py has 200 rounds of four
over a process without a keeper.)
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from flawless.adapters.keeper.tree import identity
from support.edge import Edge, edge
from support.mutants import edited, failing_with
from support.racing import Racer, racing
from support.stacks import LIMIT, ROOT, Stack, lives, stack, until
from support.tunnels import declare

__all__ = ["stack"]

RACER = ROOT / "tests/support/tunnel_racer.py"
BUDGET = 5

SLOW = ("self.loop.after(delay, ", "self.loop.after(delay + 1.5, ")
"""A keeper that takes more time to start it again than a look at the processes takes."""

PATIENT = ("RESPAWN: Final = 2.0", "RESPAWN: Final = 15.0")
"""Programs that wait for it even on a busy machine."""


@pytest.fixture
def public(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """A stack with a tunnel of its own, deployed."""
    with edge(tmp_path_factory.mktemp("edge")) as one:
        declare(stack, one)
        done = stack.deploy()
        assert done.exit_code == 0, done.output
        yield one


def test_four_who_see_it_hang_make_one_restart(stack: Stack, public: Edge, pytestconfig: pytest.Config) -> None:
    """All have seen the same process, wait for the lock of one that is killed with it, and find it done: one restart a
    round, charged when a program ordered it and not when a person did; without budget none but the person's.
    """
    with ExitStack() as resources:
        racers = [resources.enter_context(racer(stack, mode)) for mode in ("deploy", "deploy", "bare")]
        for _ in range(pytestconfig.getoption("race_rounds")):
            if len(charged(stack)) == BUDGET:
                spend(stack, 0)
            before = (starts(stack), len(charged(stack)))
            said, person = raced(stack, racers)
            orders = [one for one in (*said, person) if "restarted tunnel" in one]
            assert len(orders) == 1, (said, person)
            assert sum("had been restarted meanwhile" in one for one in (*said, person)) == 3, (said, person)
            assert [one.split(" | ")[0] for one in said] == ["Passed", "Passed", said[2].split(" | ")[0]]
            assert starts(stack) == before[0] + 1
            assert len(charged(stack)) == before[1] + (orders[0] is not person)
        spend(stack)
        before = (starts(stack), len(charged(stack)))
        said, person = raced(stack, racers)
        assert "restarted tunnel" in person
        assert all("had been restarted" in one or "were enough" in one or "are enough" in one for one in said), said
        assert (starts(stack), len(charged(stack))) == (before[0] + 1, before[1])


def test_a_keeper_that_starts_it_again_is_let_be(stack: Stack, public: Edge) -> None:
    """It is killed, and its keeper is at it, however long that takes: the others wait for the new process, and leave
    it.
    """
    with edited(stack, "adapters/keeper/service.py", SLOW), edited(stack, "wiring/tunnel.py", PATIENT):
        assert stack.run("stop", "--all").exit_code == 0
        assert stack.deploy().exit_code == 0  # with keepers that take their time
        before = starts(stack)
        with ExitStack() as resources:
            racers = [resources.enter_context(racer(stack, "bare")) for _ in range(4)]
            for number in range(1, 4):
                said = raced_after_a_death(stack, racers)
                assert all("had been restarted meanwhile" in one for one in said), " ".join(said)
                until(partial(has_started, stack, before + number), "the new one has said that it starts")
                assert len(charged(stack)) == number
        assert starts(stack) == before + 3


def test_a_deploy_beside_them_orders_no_restart_either(stack: Stack, public: Edge) -> None:
    """It is killed while three and a deploy look: the deploy finds it running, or starts what does not run."""
    with ExitStack() as resources:
        racers = [resources.enter_context(racer(stack, mode)) for mode in ("bare", "bare", "bare", "deploy")]
        for _ in range(3):
            said = raced_after_a_death(stack, racers)
            assert all("had been restarted meanwhile" in one for one in said[:3]), said
            assert said[3] == "Passed"


def test_without_its_keepers_word_it_would_be_started_twice(stack: Stack, public: Edge) -> None:
    """Who looks at the processes alone finds none in that moment, and orders a second start."""
    alone = ("_told_apart(await self.stack.keepers[TUNNEL].settled(RESPAWN))", "None")
    with failing_with(stack, "wiring/tunnel.py", alone, told="restarted tunnel"):
        test_a_keeper_that_starts_it_again_is_let_be(stack, public)


def test_one_that_its_keeper_has_given_up_is_started_by_a_person(stack: Stack, public: Edge) -> None:
    """`tunnel restart` does not ask whether there is something to end."""
    spend(stack)
    killed(stack)
    until(lambda: (stack.record("tunnel") or {})["state"] == "gave_up", "it gave up")

    done = stack.run("tunnel", "restart")

    assert done.exit_code == 0, done.output
    assert stack.pid("tunnel") is not None


def raced_after_a_death(stack: Stack, racers: list[Racer]) -> list[str]:
    """One round: it is killed, and all racers see that. What they say."""
    seen = incarnation(stack)
    killed(stack)
    for one in racers:
        one.send(seen)
    return [one.line() for one in racers]


def killed(stack: Stack) -> None:
    """It is dead when this returns."""
    process = psutil.Process(stack.pid("tunnel"))
    process.kill()
    until(lambda: not lives(process.pid), "it is dead")


def racer(stack: Stack, mode: str) -> AbstractContextManager[Racer]:
    return racing([sys.executable, str(RACER), mode], environment(stack), stack.folder)


def raced(stack: Stack, racers: list[Racer]) -> tuple[list[str], str]:
    """One round: it hangs, all four see that and come to the lock, whose holder is killed. What the racers and the
    command line say.
    """
    waiting = stack.folder / "waiting"
    waiting.unlink(missing_ok=True)
    seen = incarnation(stack)
    hung = psutil.Process(stack.pid("tunnel"))
    with racer(stack, "hold") as holder, person(stack) as order:
        holder.send("-")
        assert holder.line() == "holding"
        hung.suspend()
        for one in racers:
            one.send(seen)
        order.send("go")
        until(lambda: waiting.exists() and len(waiting.read_text().splitlines()) == 4, "all four wait", LIMIT)
        holder.process.kill()
        said = [one.line() for one in racers]
        told, _ = order.process.communicate(timeout=LIMIT)
    assert order.process.returncode == 0, told
    return said, " ".join(told.split())


def person(stack: Stack) -> AbstractContextManager[Racer]:
    """`flawless tunnel restart`, which begins when it is told to."""
    prelude = "from support.tunnel_racer import announce\nannounce()\nprint('there', flush=True)\ninput()"
    return racing(stack.argv("tunnel", "restart", mutation=prelude), environment(stack), stack.folder)


def environment(stack: Stack) -> dict[str, str]:
    sources = os.pathsep.join([str(stack.product), str(ROOT / "tests")])
    return {**stack.clean_environment(), "PYTHONPATH": sources}


def incarnation(stack: Stack) -> str:
    """The process that runs now, as `recovery` tells one from another."""
    pid = stack.pid("tunnel")
    process = identity(pid) if pid is not None else None
    assert process is not None
    return f"pid {process.pid}, started {process.start_time} ticks after boot {process.boot_id}"


def has_started(stack: Stack, number: int) -> bool:
    return starts(stack) >= number


def starts(stack: Stack) -> int:
    """How often our cloudflared was started."""
    return stack.log("tunnel").count("Starting tunnel")


def charged(stack: Stack) -> list[float]:
    path = stack.folder / ".flawless/budget/tunnel.json"
    found: list[float] = json.loads(path.read_text())["restarts"] if path.exists() else []
    return found


def spend(stack: Stack, restarts: int = BUDGET) -> None:
    """So much of the budget is used up now."""
    path: Path = stack.folder / ".flawless/budget/tunnel.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"restarts": [time.time()] * restarts}))
