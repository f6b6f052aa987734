"""One restart, whoever asks and however many: four programs race, holders are killed, the budget is everybody's."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flawless.adapters.keeper.tree import open_pidfd
from flawless.core.budget import Spent
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.errors import CommandFailed
from flawless.core.reason import Reason
from flawless.recovery import AlreadyRestarted, Recovery, Refused, Restarted, Rule
from support.racer import Thing, recovery
from support.racing import Racer, racing

pytestmark = pytest.mark.anyio

RACER = Path(__file__).parent / "support" / "racer.py"
SOURCES = os.pathsep.join(str(RACER.parent.parent.parent / name) for name in ("src", "tests"))
ROUNDS = 200


def racer(folder: Path, limit: int, mode: str = "once") -> AbstractContextManager[Racer]:
    """A program of its own that restarts the thing when it is told to."""
    argv = [sys.executable, str(RACER), str(folder), str(limit), mode]
    return racing(argv, {**os.environ, "PYTHONPATH": SOURCES})


@pytest.fixture
def thing(tmp_path: Path) -> Iterator[Thing]:
    """The thing of this folder, which is gone afterwards."""
    one = Thing(tmp_path)
    yield one
    kill(one)


def kill(thing: Thing) -> None:
    """It is dead when this returns, whoever its parent is."""
    process = thing.process()
    descriptor = open_pidfd(process) if process else None
    if process is None or descriptor is None:
        return
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    assert select.select([descriptor], [], [], 10)[0]
    os.close(descriptor)
    with suppress(ChildProcessError):
        os.waitpid(process.pid, 0)


def starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().split() if (folder / "starts").exists() else []


def charged(folder: Path) -> list[float]:
    stamps: list[float] = json.loads((folder / "budget" / "thing.json").read_text())["restarts"]
    return stamps


async def test_four_programs_make_one_restart(tmp_path: Path, thing: Thing) -> None:
    """Two deploys, the command line and a bare caller with two tasks see it die at once, 200 rounds: one restart a
    round, four who find it done, and never one more than the budget allows.
    """
    with ExitStack() as stack:
        racers = [stack.enter_context(racer(tmp_path, ROUNDS, mode)) for mode in ("once", "once", "once", "twice")]
        for number in range(1, ROUNDS + 1):
            seen = await thing.incarnation()
            kill(thing)
            answers = raced(racers, seen)
            assert sorted(answers) == [*["AlreadyRestarted"] * 4, "Restarted"], number
            assert len(starts(tmp_path)) == number
        kill(thing)
        assert set(raced(racers, None)) == {"Refused"}
    assert len(starts(tmp_path)) == len(charged(tmp_path)) == ROUNDS
    assert list((tmp_path / "budget").iterdir()) == [tmp_path / "budget" / "thing.json"]


def raced(racers: Sequence[Racer], seen: str | None) -> list[str]:
    for one in racers:
        one.send(seen or "-")
    return [answer.split()[0] for one in racers for answer in one.line().split(" | ")]


async def test_a_holder_that_is_killed_blocks_nobody(tmp_path: Path, thing: Thing) -> None:
    """SIGKILL in the middle of a restart: the next one has the lock at once, and the charge stays charged."""
    with racer(tmp_path, 5, "hold") as holder, racer(tmp_path, 5) as other:
        holder.send("-")
        assert holder.line() == "holding"
        other.send("-")
        holder.process.kill()
        holder.process.wait(10)
        began = time.monotonic()
        assert other.line().startswith("Restarted started thing (2 of 5")
        assert time.monotonic() - began < 2
    assert len(starts(tmp_path)) == 1
    assert len(charged(tmp_path)) == 2


async def test_nobody_waits_for_ever(tmp_path: Path, thing: Thing) -> None:
    """While somebody is at it another one waits for its limit, and then says so."""
    with racer(tmp_path, 5, "hold") as holder:
        holder.send("-")
        assert holder.line() == "holding"
        began = time.monotonic()
        done = await recovery(tmp_path, 5, patience=0.2).restart(None)
        assert 0.2 <= time.monotonic() - began < 2
    assert isinstance(done, Refused)
    assert "somebody else is at it" in done.said
    assert starts(tmp_path) == []


async def test_who_stops_waiting_leaves_no_lock(tmp_path: Path, thing: Thing) -> None:
    """A caller that is interrupted while it waits, or at work, holds nothing afterwards."""
    waiting = asyncio.ensure_future(recovery(tmp_path, 5, holds=True).restart(None))
    while not (tmp_path / "budget").exists():
        await asyncio.sleep(0)
    other = asyncio.ensure_future(recovery(tmp_path, 5).restart(None))
    await asyncio.sleep(0)
    for task in (other, waiting):
        task.cancel()
    await asyncio.wait([other, waiting])
    assert isinstance(await recovery(tmp_path, 5, patience=0).restart(None), Restarted)


# --- one caller ------------------------------------------------------------------------------------------------------


async def test_one_that_hangs_is_restarted(tmp_path: Path, thing: Thing) -> None:
    """What was seen still runs: it is restarted, and the new one is asked."""
    first = await recovery(tmp_path, 5).restart(None)
    seen = await thing.incarnation()
    kill(thing)
    second = await recovery(tmp_path, 5).restart(seen)
    assert isinstance(first, Restarted)
    assert first.said == "started thing (1 of 5 within 3600 s)"
    assert isinstance(second, Restarted)
    assert second.said == "restarted thing (2 of 5 within 3600 s)"
    assert second.outcome == Passed((f"it is {await thing.incarnation()}",))


async def test_another_one_by_now(tmp_path: Path, thing: Thing) -> None:
    """What was seen is gone, and something new runs: nothing is done or charged, and the new one is asked."""
    await recovery(tmp_path, 5).restart(None)
    done = await recovery(tmp_path, 5).restart("1.1")
    assert isinstance(done, AlreadyRestarted)
    assert done.said == "thing had been restarted meanwhile: nothing was done"
    assert isinstance(done.outcome, Passed)
    assert len(charged(tmp_path)) == len(starts(tmp_path)) == 1


async def test_the_budget_of_a_keeper_counts(tmp_path: Path, thing: Thing) -> None:
    """It is the keeper's own file: what that has used up is used up. The times and a way out are said."""
    (tmp_path / "budget").mkdir()
    file = tmp_path / "budget" / "thing.json"
    file.write_text(json.dumps({"restarts": [time.time() - 9000, time.time() - 20, time.time() - 10]}))
    done = await recovery(tmp_path, 2).restart(None)
    assert isinstance(done, Refused)
    assert done.failed.reason is Reason.TUNNEL_RESTART_REFUSED
    stamp = datetime.now(UTC).strftime("restarted at %Y-")
    assert done.failed.evidence[0].startswith(stamp)
    assert done.failed.evidence[0].count("Z") == 2
    assert done.failed.next_steps[0].endswith("flawless restart thing")
    assert isinstance(await recovery(tmp_path, 3).restart(None), Restarted)
    assert len(charged(tmp_path)) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"restarts": 5}', '{"restarts": ["x"]}', "null"])
async def test_a_damaged_budget(content: str, tmp_path: Path, thing: Thing) -> None:
    """What cannot be read counts as nothing, which is said, and is whole again afterwards."""
    (tmp_path / "budget").mkdir()
    (tmp_path / "budget" / "thing.json").write_text(content)
    done = await recovery(tmp_path, 2).restart(None)
    assert isinstance(done, Restarted)
    assert "what was counted before is lost" in done.said
    assert "thing.json" in done.said
    assert len(charged(tmp_path)) == 1


# --- what cannot be made on a healthy disk ---------------------------------------------------------------------------


class Paper:
    """A ledger in memory."""

    def __init__(self, *restarts: float, error: OSError | None = None) -> None:
        self.restarts = restarts
        self.error = error

    @asynccontextmanager
    async def held(self, limit: float) -> AsyncIterator[None]:
        yield

    def spent(self) -> Spent:
        return Spent(self.restarts)

    def charge(self, restarts: Sequence[float]) -> None:
        if self.error:
            raise self.error
        self.restarts = tuple(restarts)


class Stuck:
    """What may be restarted, and whose restart is or is not possible."""

    name = "tunnel"

    def __init__(self, error: CommandFailed | None = None) -> None:
        self.error = error
        self.count = 0

    async def incarnation(self) -> str | None:
        return "1.1"

    async def restart(self) -> None:
        self.count += 1
        if self.error:
            raise self.error

    async def ask(self) -> Outcome:
        return Failed(Reason.TUNNEL_HUNG, "still hung", ("it is",), ("look",))


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


NOON = Noon().now().timestamp()


def at_noon(subject: Stuck, ledger: Paper, limit: int = 1) -> Recovery:
    return Recovery(subject, ledger, Rule(limit, 60, Reason.TUNNEL_RESTART_REFUSED, "flawless restart tunnel"), Noon())


async def test_what_is_not_counted_is_not_done() -> None:
    """A disk that keeps no budget refuses: four programs that each remember their own would make four restarts."""
    subject = Stuck()
    done = await at_noon(subject, Paper(error=OSError(28, "No space left on device", "budget/tunnel.json"))).restart(
        "1.1"
    )
    assert isinstance(done, Refused)
    assert "budget/tunnel.json: No space left on device" in done.failed.evidence
    assert subject.count == 0


async def test_a_restart_that_does_not_work_is_charged() -> None:
    """The error is the caller's to show; the next one is another restart."""
    subject, ledger = Stuck(CommandFailed("no such unit")), Paper()
    with pytest.raises(CommandFailed, match="no such unit"):
        await at_noon(subject, ledger).restart("1.1")
    assert ledger.restarts == (NOON,)
    assert isinstance(await at_noon(subject, ledger).restart("1.1"), Refused)


async def test_what_the_new_one_answers_is_said() -> None:
    """A restart that did not help is a restart, with what was seen afterwards."""
    done = await at_noon(Stuck(), Paper()).restart("1.1")
    assert isinstance(done, Restarted)
    assert isinstance(done.outcome, Failed)


@pytest.mark.parametrize(("age", "counts"), [(0, True), (59, True), (60, False), (-1, False), (float("nan"), False)])
async def test_which_restarts_count(age: float, counts: bool) -> None:  # noqa: FBT001 - a column
    """Those of the window; one from the future is from before the clock was set back."""
    subject = Stuck()
    done = await at_noon(subject, Paper(NOON - age)).restart("1.1")
    assert isinstance(done, Refused) is counts
    assert subject.count == (0 if counts else 1)
