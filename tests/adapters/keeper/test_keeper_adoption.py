"""A keeper that is killed takes nothing along, and the next one goes on where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.record import State
from flawless.adapters.keeper.spec import KeeperSpec, RestartRule
from flawless.core.errors import CommandFailed
from support.keepers import Nursery, child_of, dead, eventually, free_port, is_listening, until

pytestmark = pytest.mark.anyio

COUNTS = """
import os, time
for n in range(1_000_000):
    os.write(1, b'line %d\\n' % n)
    os.utime('progress', (n, n))
    time.sleep(0.0005)
"""


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not tell how it was started")


def started_with() -> dict[str, str]:
    """An environment as every service gets one."""
    mine = {"MARK": "of-this-test-alone", "FLAWLESS_DEPLOY_ID": "20261123T141502Z-3f9c2a"}
    return {"PATH": os.environ["PATH"], **mine}


async def orphan(nursery: Nursery, spec: KeeperSpec) -> Keeper:
    """A committed, ready service whose keeper was killed."""
    keeper = await Keeper.spawn(spec)
    await keeper.ready(value=True)
    await keeper.commit()
    tree.send(keeper.record.keeper, signal.SIGKILL)
    await dead(keeper.record.keeper)
    return keeper


async def test_no_line_is_lost_while_no_keeper_lives(nursery: Nursery) -> None:
    """The service goes on printing; the next keeper finds all of it, in order, and there is one copy."""
    spec = nursery.spec(COUNTS)
    progress = nursery.folder / "progress"
    progress.touch()
    keeper = await Keeper.spawn(spec)
    child = child_of(keeper.record)
    await eventually(lambda: nursery.log().count(b"\n") > 20)
    tree.send(child, signal.SIGSTOP)  # so that nothing is in the hands of the keeper when it is killed
    await keeper.tail()
    tree.send(keeper.record.keeper, signal.SIGKILL)
    await dead(keeper.record.keeper)
    tree.send(child, signal.SIGCONT)
    printed = progress.stat().st_mtime
    await eventually(lambda: progress.stat().st_mtime > printed + 100)
    adopted = await Keeper.adopt(nursery.run_folder(), spec)
    assert child_of(adopted.record) == child
    have = nursery.log().count(b"\n")
    await eventually(lambda: nursery.log().count(b"\n") > have + 200)
    await adopted.stop()
    numbers = [int(line.split()[1]) for line in nursery.log().splitlines()]
    assert numbers == list(range(len(numbers)))
    assert not tree.is_alive(child)


async def test_what_is_adopted_keeps_its_record(nursery: Nursery) -> None:
    """State, readiness, time and verdict are as before; only the keeper is another."""
    before = (await orphan(nursery, nursery.spec())).record
    adopted = await Keeper.adopt(nursery.run_folder(), nursery.spec())
    assert adopted.record == before._replace(keeper=adopted.record.keeper)
    assert adopted.record.keeper != before.keeper
    assert (adopted.record.state, adopted.record.armed) == (State.READY, True)


async def test_what_was_adopted_is_respawned(nursery: Nursery) -> None:
    """Its death is noticed though it is no child; how it ended is unknown; it comes back as a child."""
    await orphan(nursery, nursery.spec(restart=RestartRule((60.0,), 5, 300.0, 600.0)))
    adopted = await Keeper.adopt(nursery.run_folder(), nursery.spec(restart=RestartRule((60.0,), 5, 300.0, 600.0)))
    tree.send(child_of(adopted.record), signal.SIGKILL)
    again = await until(adopted, lambda seen: seen.restarts == 1 and seen.child is not None)
    assert again.last_exit
    assert (again.last_exit.kind, again.last_exit.value) == ("unknown", None)
    stat = tree.read_stat(child_of(again).pid)
    assert stat
    assert stat.parent == adopted.record.keeper.pid


async def test_adoption_without_a_spec(nursery: Nursery) -> None:
    """Without its spec the service is kept, logged with every value of its environment masked, and can be stopped."""
    code = "import os, time\nwhile True:\n print('I know', os.environ['MARK'])\n time.sleep(0.01)"
    spec = nursery.spec(code, redact=("of-this-test",))
    child = child_of((await orphan(nursery, spec)).record)
    adopted = await Keeper.adopt(nursery.run_folder(), None)
    assert not adopted.record.armed
    have = nursery.log().count(b"\n")
    await eventually(lambda: nursery.log().count(b"\n") > have + 5)
    assert b"of-this-test" not in nursery.log()
    with pytest.raises(CommandFailed, match="not known here"):
        await adopted.restart()
    await adopted.stop()
    assert not tree.is_alive(child)


@linux
async def test_what_replaces_an_orphan_can_be_reverted(nursery: Nursery) -> None:
    """How it was started is read from the process: command, folder and environment come back, and are on no disk."""
    code = "import os, time; print(os.environ['MARK'], os.getcwd(), flush=True); time.sleep(60)"
    folder = nursery.folder / "place"
    folder.mkdir()
    before = nursery.spec(code, directory=str(folder), environment=started_with(), fingerprint={"code": "a"})
    first = child_of((await orphan(nursery, before)).record)
    replaced = await Keeper.spawn(nursery.spec(fingerprint={"code": "b"}))
    assert not tree.is_alive(first)

    back = await replaced.revert()

    again = child_of(back)
    proc = Path(f"/proc/{again.pid}")
    assert proc.joinpath("cmdline").read_bytes().split(b"\0")[:-1] == [word.encode() for word in before.command]
    assert proc.joinpath("cwd").readlink() == folder
    assert dict(back.fingerprint) == {"code": "a"}
    assert psutil.Process(again.pid).environ() == started_with()
    # What nobody has called harmless is masked in what it prints.
    await eventually(lambda: nursery.log().endswith(f"**** {folder}\n".encode()))
    files = [path for path in nursery.folder.rglob("*") if path.is_file() and path.parent != nursery.logs]
    assert not [path for path in files if b"of-this-test-alone" in path.read_bytes()]


@linux
@pytest.mark.parametrize(
    ("code", "environment"),
    [
        pytest.param("import time; time.sleep(60)", {"FLAWLESS_DEPLOY_ID": "another"}, id="another's environment"),
        pytest.param(
            "import ctypes, time\n"
            "argv, argc = ctypes.POINTER(ctypes.c_char_p)(), ctypes.c_int()\n"
            "at = int(open('/proc/self/stat').read().rpartition(')')[2].split()[45])\n"
            "ctypes.memmove(at, b'web: master [shop]' + bytes(60), 78); time.sleep(60)",
            {},
            id="a title in place of the arguments",
        ),
    ],
)
async def test_what_a_process_says_of_itself_is_not_believed_blindly(
    nursery: Nursery, code: str, environment: dict[str, str]
) -> None:
    """Arguments that were overwritten with a title, an environment that is not the one we gave: nothing is guessed."""
    spec = nursery.spec(code + "\n", environment=started_with() | environment, fingerprint={"code": "a"})
    first = (await orphan(nursery, spec)).record
    if "ctypes" in code:
        await eventually(lambda: b"master" in Path(f"/proc/{child_of(first).pid}/cmdline").read_bytes())
    replaced = await Keeper.spawn(nursery.spec(fingerprint={"code": "b"}))
    assert (await replaced.revert()).child is None


@linux
async def test_a_program_called_by_its_name_is_found_as_it_was(nursery: Nursery) -> None:
    """`sh -c 'exec python3'` has left a name without a path: its own PATH and the file that runs tell which it is."""
    link = nursery.folder / "bin" / "a-python"
    link.parent.mkdir()
    link.symlink_to(Path(sys.executable).resolve())
    environment = started_with() | {"PATH": f"{link.parent}:/usr/bin:/bin"}
    command = ("/bin/sh", "-c", "exec a-python -I -S -c 'import time; time.sleep(60)'")
    spec = nursery.spec(command=command, environment=environment, fingerprint={"code": "a"})
    first = (await orphan(nursery, spec)).record
    await eventually(lambda: b"a-python" in Path(f"/proc/{child_of(first).pid}/cmdline").read_bytes()[:9])
    replaced = await Keeper.spawn(nursery.spec(fingerprint={"code": "b"}))
    back = child_of(await replaced.revert())
    assert Path(f"/proc/{back.pid}/cmdline").read_bytes().startswith(f"{link}\0-I".encode())


@linux
async def test_an_orphan_that_is_held_can_be_resumed(nursery: Nursery) -> None:
    """Nobody has its spec, as when the manifest no longer names it: it is stopped, and runs again as it was."""
    spec = nursery.spec(environment=started_with())
    first = child_of((await orphan(nursery, spec)).record)
    adopted = await Keeper.adopt(nursery.run_folder(), None)
    await adopted.hold()
    assert not tree.is_alive(first)
    again = await adopted.resume()
    assert psutil.Process(child_of(again).pid).environ() == started_with()
    assert again.armed


async def test_spawn_finds_an_orphan(nursery: Nursery) -> None:
    """Spawn never makes a second copy: the same fingerprint is adopted, another replaces it."""
    first = child_of((await orphan(nursery, nursery.spec(fingerprint={"code": "a"}))).record)
    adopted = await Keeper.spawn(nursery.spec(fingerprint={"code": "a"}))
    assert child_of(adopted.record) == first
    tree.send(adopted.record.keeper, signal.SIGKILL)
    await dead(adopted.record.keeper)
    replaced = await Keeper.spawn(nursery.spec(fingerprint={"code": "b"}))
    assert child_of(replaced.record) != first
    assert not tree.is_alive(first)


async def test_an_orphan_nobody_wrote_down(nursery: Nursery) -> None:
    """Killed between starting a process and recording it: the process is known by its output and ended."""
    lost = child_of((await orphan(nursery, nursery.spec())).record)
    (nursery.run_folder() / "record.json").unlink()
    keeper = await Keeper.spawn(nursery.spec())
    assert not tree.is_alive(lost)
    assert tree.is_alive(child_of(keeper.record))


async def test_the_tree_of_an_orphan(nursery: Nursery) -> None:
    """A grandchild in a session of its own that ignores SIGTERM goes as well, though it never was a child of ours."""
    port = free_port()
    inner = (
        "import signal, socket, time; signal.signal(15, signal.SIG_IGN)\n"
        f"listening = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    )
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-I', '-S', '-c', {inner!r}], start_new_session=True); time.sleep(60)"
    )
    await orphan(nursery, nursery.spec(code))
    await eventually(lambda: is_listening(port))
    adopted = await Keeper.adopt(nursery.run_folder(), nursery.spec(code, stop_timeout=0.2))
    await adopted.stop()
    assert not is_listening(port)


async def test_many_adopt_at_once(nursery: Nursery) -> None:
    """Several commands find the orphan together: one adopts it, and there is one copy."""
    child = child_of((await orphan(nursery, nursery.spec())).record)
    outcomes = await asyncio.gather(
        *(Keeper.adopt(nursery.run_folder(), nursery.spec()) for _ in range(4)), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if isinstance(outcome, Keeper)]
    assert [child_of(winner.record) for winner in winners] == [child]


async def test_nothing_to_adopt(nursery: Nursery) -> None:
    """Where nothing ever ran there is nothing to adopt, and no keeper stays behind."""
    with pytest.raises(CommandFailed, match="nothing is left to adopt"):
        await Keeper.adopt(nursery.run_folder(), nursery.spec())
    assert await Keeper.connect(nursery.run_folder()) is None
