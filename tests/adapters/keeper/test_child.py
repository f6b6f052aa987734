"""The end of a process that was adopted is told once, and never as that of the one started after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.tree import is_alive, send
from support.keepers import Nursery, child_of, dead

SRC = Path(__file__).resolve().parents[3] / "src"
REPLACES = """
import json, os, signal, sys
from flawless.adapters.keeper import tree
from flawless.adapters.keeper.child import Child
from flawless.adapters.keeper.loop import Loop
from flawless.adapters.keeper.spec import KeeperSpec, LogRule

folder = sys.argv[1]
reading, writing = os.pipe()
if os.fork() == 0:
    orphan = os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "60"])
    os.write(writing, str(orphan).encode())
    os._exit(0)
os.wait()
orphan = tree.identity(int(os.read(reading, 20)))
os.mkfifo(folder + "/output")

ends, loop = [], Loop()
child = Child(loop, lambda kind, value: ends.append(str(kind)))
child.adopt(orphan, 0.0, os.stat(folder + "/output"))
tree.send(orphan, signal.SIGKILL)
while tree.is_alive(orphan):
    pass
# The process table tells of the end before the loop has looked at the pidfd: that is the moment that matters.
gone = child.is_gone()
told = list(ends)
child.start(KeeperSpec("web", ("/bin/sleep", "60"), "/", {}, folder, LogRule(folder), "id"), os.open("/dev/null", 1))
loop.after(0, lambda: None)
loop.turn()
started = child.process
print(json.dumps({"gone": gone, "told": told, "ends": ends, "runs": started is not None and tree.is_alive(started)}))
child.kill_children()
"""


def test_an_end_seen_in_the_process_table_is_not_taken_for_that_of_the_next_process(tmp_path: Path) -> None:
    """Its pidfd speaks after the next one was started: told once, before that, and the new process is still known."""
    script = f"import sys; sys.path.insert(0, {str(SRC)!r})\n{REPLACES}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"gone": True, "told": ["unknown"], "ends": ["unknown"], "runs": True}


@pytest.mark.anyio
async def test_what_was_adopted_and_replaced_goes_on_in_every_round(nursery: Nursery) -> None:
    """Killed keeper, adoption, replacement, again and again: what was started last runs, committed."""
    keeper = await Keeper.spawn(nursery.spec())
    for _ in range(8):
        before = child_of(keeper.record)
        send(keeper.record.keeper, 9)
        await dead(keeper.record.keeper)
        keeper = await Keeper.spawn(nursery.spec())
        assert child_of(keeper.record) == before
        assert child_of(await keeper.replace(nursery.spec())) != before
        await keeper.commit()
        assert is_alive(child_of(await keeper.status()))
