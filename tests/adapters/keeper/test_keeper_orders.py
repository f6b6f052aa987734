"""What each order does, on real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.endpoint import address
from flawless.adapters.keeper.record import ExitKind, State
from flawless.adapters.keeper.spec import LogRule, RestartRule
from flawless.core.errors import CommandFailed
from support.keepers import LIVES, Nursery, child_of, dead, eventually, until

pytestmark = pytest.mark.anyio


def in_proc(pid: int, name: str) -> Path:
    return Path("/proc") / str(pid) / name


async def test_spawn_starts_the_service(nursery: Nursery) -> None:
    """After spawn the process runs in a session of its own, and the record says so, readable by us alone."""
    keeper = await Keeper.spawn(nursery.spec(port=8123, fingerprint={"code": "abc"}))
    child = child_of(keeper.record)
    assert tree.is_alive(child)
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid == keeper.record.pgid
    assert keeper.record == nursery.record()
    assert keeper.record.state is State.STARTING
    assert not keeper.record.ready
    assert (keeper.record.port, keeper.record.fingerprint) == (8123, {"code": "abc"})
    folder = nursery.run_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


async def test_the_keeper_stands_alone(nursery: Nursery) -> None:
    """It is no child of ours, in another session, in no folder of ours, and its argv names no command."""
    keeper = await Keeper.spawn(nursery.spec(environment={"TOKEN": "canary-in-the-environment"}))
    pid = keeper.record.keeper.pid
    stat = tree.read_stat(pid)
    assert stat
    assert stat.parent != os.getpid()
    assert os.getsid(pid) != os.getsid(0)
    assert in_proc(pid, "cwd").samefile("/")
    assert b"canary" not in in_proc(pid, "cmdline").read_bytes() + in_proc(pid, "environ").read_bytes()
    assert b"canary" not in (nursery.run_folder() / "record.json").read_bytes()
    os.kill(pid, signal.SIGINT)
    assert (await keeper.status()).keeper == keeper.record.keeper


async def test_the_child_gets_its_environment_and_nothing_else(nursery: Nursery) -> None:
    """Environment as given, standard input empty, no foreign descriptor, default signals."""
    code = """import os, signal, sys
print(dict(os.environ)); print(sys.stdin.read() == ''); print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])
print(os.getcwd()); sys.stdout.flush()
print([line for line in open('/proc/self/status') if line.startswith(('SigIgn', 'SigBlk'))])"""
    spec = nursery.spec(code, command=("/bin/sh", "-c", 'exec "$0" "$@"', *nursery.spec(code).command))
    keeper = await Keeper.spawn(spec)
    await until(keeper, lambda seen: seen.last_exit is not None)
    environment, stdin, descriptors, folder, _ = await keeper.tail()
    assert "'MARK': 'of-this-test'" in environment
    assert "LC_CTYPE" not in environment.replace("'LC_CTYPE': 'C.UTF-8'", "")
    assert stdin == "True"
    assert descriptors == "[0, 1, 2]"
    assert folder == str(nursery.folder)


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (("/no/such/program",), 127, "/no/such/program: No such file or directory"),
        (("/etc/passwd",), 126, "/etc/passwd: Permission denied"),
    ],
)
async def test_a_program_that_cannot_run(nursery: Nursery, command: tuple[str, ...], status: int, reason: str) -> None:
    """What cannot be executed is reported as a shell would, with the reason; the keeper can be told better."""
    keeper = await Keeper.spawn(nursery.spec(command=command))
    assert keeper.record.child is None
    assert keeper.record.state is State.STOPPED
    assert keeper.record.last_exit
    assert (keeper.record.last_exit.kind, keeper.record.last_exit.value) == (ExitKind.EXIT, status)
    assert keeper.record.reason == reason
    assert child_of(await keeper.start(nursery.spec()))


async def test_a_directory_that_is_not_there(nursery: Nursery) -> None:
    """A missing working directory is named."""
    keeper = await Keeper.spawn(nursery.spec(directory="/no/such/folder"))
    assert keeper.record.reason == "/no/such/folder: No such file or directory"


async def test_stop_leaves_nothing(nursery: Nursery) -> None:
    """After stop there is neither service nor keeper nor socket, and the record says stopped."""
    keeper = await Keeper.spawn(nursery.spec())
    child = child_of(keeper.record)
    stopped = await keeper.stop()
    assert stopped.state is State.STOPPED
    assert not tree.is_alive(child)
    await dead(stopped.keeper)
    assert stopped == nursery.record()
    assert stopped.last_exit
    assert (stopped.last_exit.kind, stopped.last_exit.value) == (ExitKind.SIGNAL, signal.SIGTERM)
    assert stopped.last_exit.requested
    assert sorted(path.name for path in nursery.run_folder().iterdir()) == ["keeper.lock", "record.json"]
    assert await Keeper.connect(nursery.run_folder()) is None


async def test_stop_and_spawn_in_a_row(nursery: Nursery) -> None:
    """Whoever hears that it is stopped can start a new keeper at once."""
    for _ in range(5):
        keeper = await Keeper.spawn(nursery.spec())
        await keeper.stop()


async def test_stops_are_joined(nursery: Nursery) -> None:
    """Two stops at once end one process once, and both hear of it."""
    code = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked')); print('up'); time.sleep(60)"
    keeper = await Keeper.spawn(nursery.spec(code, stop_timeout=0.3))
    await eventually(lambda: nursery.log() == b"up\n")
    answers = await asyncio.gather(keeper.stop(), keeper.stop(), keeper.stop())
    assert {answer.state for answer in answers} == {State.STOPPED}
    assert nursery.log() == b"up\nasked\n"


async def test_stop_overrides_other_orders(nursery: Nursery) -> None:
    """An order that waits when a stop comes is refused; the stop is carried out."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    keeper = await Keeper.spawn(nursery.spec(code, stop_timeout=0.3))
    await eventually(lambda: nursery.log() == b"up\n")
    restarting = asyncio.create_task(keeper.restart())
    await until(keeper, lambda seen: seen.state is State.STOPPING)
    assert (await keeper.stop()).state is State.STOPPED
    with pytest.raises(CommandFailed, match="being stopped"):
        await restarting


async def test_sigterm_to_the_keeper(nursery: Nursery) -> None:
    """A machine that shuts down ends the service through its keeper."""
    keeper = await Keeper.spawn(nursery.spec())
    assert tree.send(keeper.record.keeper, signal.SIGTERM)
    await dead(keeper.record.keeper)
    assert not tree.is_alive(child_of(keeper.record))
    assert nursery.record().state is State.STOPPED


async def test_ready_and_not(nursery: Nursery) -> None:
    """The keeper remembers what a gate or probe found, of this very process."""
    keeper = await Keeper.spawn(nursery.spec())
    pid = child_of(keeper.record).pid
    ready = await keeper.ready(value=True, pid=pid)
    assert (ready.ready, ready.state) == (True, State.READY)
    unhealthy = await keeper.ready(value=False, reason="503 from /health/db")
    assert (unhealthy.ready, unhealthy.state, unhealthy.reason) == (False, State.UNHEALTHY, "503 from /health/db")
    with pytest.raises(CommandFailed, match="was replaced"):
        await keeper.ready(value=True, pid=pid + 1)


async def test_replace_and_revert(nursery: Nursery) -> None:
    """A rollback starts what ran before as it was, secrets and all."""
    keeper = await Keeper.spawn(nursery.spec("import os, time; print('old', os.environ['MARK']); time.sleep(60)"))
    await keeper.commit()
    old = child_of(keeper.record)
    newer = nursery.spec("import time; print('new'); time.sleep(60)", deploy_id="20261124T141502Z-000000")
    replaced = await keeper.replace(newer)
    assert not tree.is_alive(old)
    assert (replaced.deploy_id, replaced.armed, replaced.state) == (newer.deploy_id, False, State.STARTING)
    await eventually(lambda: nursery.log().endswith(b"new\n"))
    await keeper.replace(newer)
    reverted = await keeper.revert()
    assert reverted.deploy_id == nursery.spec().deploy_id
    await eventually(lambda: nursery.log().endswith(b"old of-this-test\n"))
    assert not tree.is_alive(child_of(replaced))


async def test_revert_to_nothing(nursery: Nursery) -> None:
    """Where nothing ran before, going back means stopping."""
    keeper = await Keeper.spawn(nursery.spec())
    reverted = await keeper.revert()
    assert (reverted.state, reverted.child) == (State.STOPPED, None)


async def test_commit_forgets_what_ran_before(nursery: Nursery) -> None:
    """After the verdict there is no way back."""
    keeper = await Keeper.spawn(nursery.spec())
    await keeper.replace(nursery.spec())
    assert (await keeper.commit()).armed
    assert (await keeper.revert()).state is State.STOPPED


async def test_commit_of_a_dead_service_is_refused(nursery: Nursery) -> None:
    """It never says yes when the answer is no."""
    keeper = await Keeper.spawn(nursery.spec("print('bye')"))
    ended = await until(keeper, lambda seen: seen.last_exit is not None)
    assert (ended.state, ended.child) == (State.STOPPED, None)
    with pytest.raises(CommandFailed, match="does not run"):
        await keeper.commit()


async def test_hold_and_resume(nursery: Nursery) -> None:
    """A held service stays down, with the reason, until it is resumed; both may be repeated."""
    keeper = await Keeper.spawn(nursery.spec())
    await keeper.commit()
    for _ in range(2):
        held = await keeper.hold("the database does not answer")
        assert (held.state, held.child, held.reason) == (State.HELD, None, "the database does not answer")
    resumed = await keeper.resume()
    assert resumed.armed
    assert await keeper.resume() == resumed
    assert resumed.restarts == 0


async def test_start_may_be_repeated(nursery: Nursery) -> None:
    """Starting what runs from the same fingerprint changes nothing; from another it is refused."""
    keeper = await Keeper.spawn(nursery.spec(fingerprint={"code": "a"}))
    assert await keeper.start(nursery.spec(fingerprint={"code": "a"})) == keeper.record
    with pytest.raises(CommandFailed, match="replace it"):
        await keeper.start(nursery.spec(fingerprint={"code": "b"}))


async def test_two_keepers_are_impossible(nursery: Nursery) -> None:
    """Of many keepers started at once one lives, the others say why they do not."""
    outcomes = await asyncio.gather(*(Keeper.spawn(nursery.spec()) for _ in range(6)), return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, Keeper)]
    losers = [str(outcome) for outcome in outcomes if isinstance(outcome, CommandFailed)]
    assert (len(winners), len(losers)) == (1, 5)
    assert all("another keeper has this service" in loser for loser in losers)
    await eventually(lambda: nursery.log() == b"up\n")


async def test_a_run_folder_that_cannot_be(nursery: Nursery) -> None:
    """Where no keeper can be started that is said, with what to do."""
    (nursery.folder / "file").touch()
    with pytest.raises(CommandFailed, match="File exists") as failure:
        await Keeper.spawn(nursery.spec(run_folder=str(nursery.folder / "file" / "web")))
    assert failure.value.next_steps


async def test_an_invalid_spec(nursery: Nursery) -> None:
    """What a keeper does not understand it does not start; the field is named, and no keeper stays behind."""
    good = nursery.spec()
    for wrong, said in [
        (good._replace(command=()), "command: an absolute path"),
        (good._replace(command=("sleep",)), "command: an absolute path"),
        (good._replace(service="../x"), "service: must match"),
        (good._replace(environment={"A=B": "canary"}), "environment: no variable"),
        (good._replace(stop_timeout=-1.0), "stop_timeout: a number"),
    ]:
        with pytest.raises(CommandFailed, match=f"no valid order: {said}") as failure:
            await Keeper.spawn(wrong)
        assert "canary" not in str(failure.value)
    assert await Keeper.connect(nursery.run_folder()) is None


async def test_a_path_longer_than_a_socket_address(nursery: Nursery, tmp_path: Path) -> None:
    """A deep project folder works like any other."""
    folder = tmp_path / ("deep-" * 20) / ("deeper-" * 20) / "web"
    keeper = await Keeper.spawn(nursery.spec(run_folder=str(folder)))
    try:
        found = await Keeper.connect(folder)
        assert found
        assert found.record == keeper.record
    finally:
        await keeper.stop()


async def talk(nursery: Nursery, *lines: bytes) -> list[dict[str, object]]:
    with address(str(nursery.run_folder())) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    return answers


async def test_nonsense_is_answered(nursery: Nursery) -> None:
    """A malformed or unknown request gets an error, and the keeper lives on."""
    keeper = await Keeper.spawn(nursery.spec())
    nonsense = [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"order": []}',
        b'{"order": "fly"}',
        b"[" * 50_000,
        b'{"order": "start"}',
        b'{"order": "replace", "spec": {"service": 1}}',
        b'{"order": "tail", "n": "x"}',
        b'{"order": "ready", "value": 1}',
        b"\xff\xfe",
    ]
    answers = await talk(nursery, *nonsense)
    assert [answer["ok"] for answer in answers] == [False] * len(nonsense)
    assert await keeper.status() == keeper.record


async def test_a_deaf_client_blocks_nobody(nursery: Nursery) -> None:
    """Clients that ask and never read, or send half a line, do not keep others waiting."""
    keeper = await Keeper.spawn(nursery.spec("import time\nfor n in range(50): print('x' * 2000)\ntime.sleep(60)"))
    deaf = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    with address(str(nursery.run_folder())) as path:
        for client in deaf:
            client.connect(path)
            client.setblocking(False)
    try:
        for client in deaf:
            try:
                client.send(b'{"order": "tail"}\n' * 5_000)
                client.send(b'{"order": ')
            except BlockingIOError:
                pass
        async with asyncio.timeout(5):
            assert (await keeper.status()).child == keeper.record.child
    finally:
        for client in deaf:
            client.close()
    assert (await keeper.status()).child == keeper.record.child


async def test_many_watchers_see_every_change(nursery: Nursery) -> None:
    """Each of those who watch sees the present record first and then all changes in order."""
    keeper = await Keeper.spawn(nursery.spec())
    ready = asyncio.Event()

    async def states() -> list[State]:
        seen = []
        async for found in keeper.watch():
            seen.append(found.state)
            ready.set()
        return seen

    watchers = [asyncio.create_task(states()) for _ in range(3)]
    await ready.wait()
    assert await keeper.status()
    await keeper.ready(value=True)
    await keeper.stop()
    for seen in await asyncio.gather(*watchers):
        assert seen[-4:-1] == [State.READY, State.STOPPING, State.STOPPING]
        assert seen[-1] is State.STOPPED


async def test_connect_to_nothing(nursery: Nursery) -> None:
    """Where no keeper lives there is none, whatever files were left."""
    assert await Keeper.connect(nursery.run_folder("never")) is None
    keeper = await Keeper.spawn(nursery.spec())
    tree.send(keeper.record.keeper, signal.SIGKILL)
    await dead(keeper.record.keeper)
    assert await Keeper.connect(nursery.run_folder()) is None
    with pytest.raises(CommandFailed, match="no keeper answers") as failure:
        await keeper.status()
    assert failure.value.next_steps


async def test_a_keeper_weighs_little(nursery: Nursery) -> None:
    """Three keepers share what they can; each costs a few megabytes."""
    keepers = [await Keeper.spawn(nursery.spec(LIVES, service=name)) for name in ("one", "two", "three")]
    weights = []
    for keeper in keepers:
        rollup = in_proc(keeper.record.keeper.pid, "smaps_rollup").read_text(encoding="ascii")
        weights += [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")]
    print("PSS in kB:", weights)
    assert max(weights) < 12_000


async def test_a_keeper_remembers_how_it_is_to_be_kept(nursery: Nursery) -> None:
    """The process is left alone; its next start is from the new, and so is its end."""
    keeper = await Keeper.spawn(nursery.spec())
    await keeper.commit()
    before = child_of(keeper.record)
    record = await keeper.remember(nursery.spec(stop_timeout=9.0, log=LogRule(str(nursery.logs), 1000)))
    assert child_of(record) == before
    assert (record.stop_timeout, record.log, record.armed) == (9.0, LogRule(str(nursery.logs), 1000), True)
    assert nursery.record() == record


async def test_a_crash_that_is_being_answered_is_not_taken_for_an_end(nursery: Nursery) -> None:
    """Between two starts there is nothing that runs, and still there is something to keep."""
    keeper = await Keeper.spawn(nursery.spec(restart=RestartRule((60.0,), 5, 300.0, 600.0)))
    await keeper.commit()
    os.kill(child_of(keeper.record).pid, signal.SIGKILL)
    await until(keeper, lambda seen: seen.state is State.BACKOFF)
    assert (await keeper.remember(nursery.spec(stop_timeout=9.0))).state is State.BACKOFF
    assert (await keeper.restart()).state is State.RUNNING
