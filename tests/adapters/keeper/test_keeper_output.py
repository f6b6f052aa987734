"""Nothing that is printed is lost, torn, doubled or told to whom it must not be told."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flawless.adapters.keeper import tree
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.loop import Loop
from flawless.adapters.keeper.output import LONGEST, Output
from flawless.adapters.keeper.record import State
from flawless.adapters.keeper.spec import LogRule
from support.keepers import Nursery, child_of, eventually, until

pytestmark = pytest.mark.anyio


async def printed(nursery: Nursery, code: str, **details: Any) -> bytes:
    """All that a service that ends by itself has printed."""
    keeper = await Keeper.spawn(nursery.spec(code, **details))
    await until(keeper, lambda seen: seen.last_exit is not None)
    return nursery.log()


async def test_many_lines(nursery: Nursery) -> None:
    """200,000 lines of 100 bytes are all there, in order, across rotations, by the time the end is announced."""
    code = "import sys\nfor n in range(200_000): sys.stdout.write(f'{n:099}\\n')"
    began = time.perf_counter()
    spec = nursery.spec(code, log=LogRule(str(nursery.logs), max_size=5_000_000))
    keeper = await Keeper.spawn(spec._replace(command=tuple(part for part in spec.command if part != "-u")))
    await until(keeper, lambda seen: seen.last_exit is not None)
    print(f"200,000 lines: {time.perf_counter() - began:.2f} s")
    assert len(list(nursery.logs.glob("web-*.log"))) >= 4
    assert [int(line) for line in nursery.log().splitlines()] == list(range(200_000))
    assert await keeper.tail(2) == [f"{199_998:099}", f"{199_999:099}"]
    assert len(await keeper.tail(1000)) == 50


async def test_the_end_is_announced_after_the_last_byte(nursery: Nursery) -> None:
    """Who hears that it ended finds its last words, without a newline too, and those of standard error."""
    code = "import sys; sys.stdout.write('x' * 50_000 + '\\n'); sys.stderr.write('last words')"
    assert await printed(nursery, code) == b"x" * 50_000 + b"\nlast words\n"


async def test_bytes_that_are_no_text(nursery: Nursery) -> None:
    """Invalid UTF-8 and control bytes reach the log unchanged."""
    code = r"import os; os.write(1, b'\xff\xfe\x1b[2J\x00 caf\xc3\xa9\n')"
    assert await printed(nursery, code) == b"\xff\xfe\x1b[2J\x00 caf\xc3\xa9\n"


async def test_a_line_that_is_too_long(nursery: Nursery) -> None:
    """It is split at 64 KiB, not inside a character, and nothing of it is lost."""
    code = "import os\ntext = ('€' * 100_000 + '\\nshort\\n').encode()\nwhile text: text = text[os.write(1, text):]"
    log = await printed(nursery, code)
    *parts, short = log.decode().splitlines()
    assert short == "short"
    assert "".join(parts) == "€" * 100_000
    assert max(len(part.encode()) for part in parts) <= 65_536
    assert len(parts) == 5


async def test_secrets_are_taken_out(nursery: Nursery) -> None:
    """A secret printed whole, in two writes, or by the process after a replace reaches neither log nor tail."""
    code = "import os, time\nos.write(1, b'key canary-s3')\ntime.sleep(0.05)\nos.write(1, b'cret-of-old and more\\n')"
    keeper = await Keeper.spawn(nursery.spec(code, redact=("canary-s3cret-of-old",)))
    await until(keeper, lambda seen: seen.last_exit is not None)
    code = "print('canary-s3cret-of-old', 'canary-s3cret-new')"
    await keeper.replace(nursery.spec(code, redact=("canary-s3cret-new",)))
    await until(keeper, lambda seen: seen.state is State.STOPPED and seen.last_exit is not None)
    assert nursery.log() == b"key **** and more\n**** ****\n"
    assert await keeper.tail() == ["**** ****"]


async def test_a_lost_folder(nursery: Nursery) -> None:
    """When its folders are removed the service goes on, and its log comes back."""
    code = "import time\nwhile True:\n print('tick')\n time.sleep(0.005)"
    keeper = await Keeper.spawn(nursery.spec(code))
    await eventually(lambda: nursery.log().count(b"tick\n") > 2)
    shutil.rmtree(nursery.logs)
    shutil.rmtree(nursery.run_folder())
    await eventually(lambda: nursery.log().count(b"tick\n") > 2)
    assert tree.is_alive(child_of(keeper.record))
    tree.send(keeper.record.keeper, signal.SIGTERM)
    await eventually(lambda: not tree.is_alive(keeper.record.keeper))
    assert not tree.is_alive(child_of(keeper.record))


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def output(loop: Loop, tmp_path: Path) -> Output:
    """The reading side alone, so that each turn of its loop can be seen."""
    made = Output(str(tmp_path), loop)
    made.expect("web", LogRule(str(tmp_path / "logs")), ["canary-s3cret"])
    return made


def logged(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / "logs").glob("web-*.log"))


def test_a_single_line_does_not_wait(loop: Loop, output: Output, tmp_path: Path) -> None:
    """It is in the log after one look; what comes right after it is gathered and taken together."""
    writing = output.open_writing_end()
    os.write(writing, b"first canary-s3cret\n")
    loop.turn()
    assert logged(tmp_path) == b"first ****\n"
    os.write(writing, b"second\n")
    loop.after(0, lambda: None)
    loop.turn()
    assert logged(tmp_path) == b"first ****\n"
    os.write(writing, b"third canary-s3cret\n")
    while logged(tmp_path) == b"first ****\n":
        loop.turn()
    assert logged(tmp_path) == b"first ****\nsecond\nthird ****\n"
    os.close(writing)
    output.close()


def test_its_end_may_come_while_it_rests(loop: Loop, output: Output, tmp_path: Path) -> None:
    """What came after the last look is taken all the same, and nothing looks again after the end."""
    writing = output.open_writing_end()
    os.write(writing, b"first\n")
    loop.turn()
    os.write(writing, b"last words")
    os.close(writing)
    output.drain()
    output.close()
    reused = os.open(os.devnull, os.O_RDONLY)  # gets the number that was closed, and would be ready to be read
    over: list[bool] = []
    loop.after(0.01, lambda: over.append(True))
    while not over:
        loop.turn()
    os.close(reused)
    assert logged(tmp_path) == b"first\nlast words\n"


@pytest.mark.parametrize("rest", [b"", b"\n", b"\nshort\n", b"x\n", b"x"])
def test_lines_around_the_limit(output: Output, tmp_path: Path, rest: bytes) -> None:
    """A line of exactly the limit is one line; one byte more makes two; those around it stay as they are."""
    text = b"before\n" * 20_000 + b"x" * LONGEST + rest
    writing = output.open_writing_end()
    assert os.write(writing, text) == len(text)
    output.drain()
    output.close()
    os.close(writing)
    lines = logged(tmp_path).split(b"\n")
    assert lines[:20_000] == [b"before"] * 20_000
    assert max(map(len, lines)) == LONGEST
    assert logged(tmp_path).replace(b"\n", b"") == text.replace(b"\n", b"")
    assert len(lines) == 20_002 + rest.strip().count(b"x") + rest.count(b"short")


async def last_tick(keeper: Keeper) -> int:
    return int((await keeper.tail(1))[0].split()[1])


async def test_a_full_disk(nursery: Nursery) -> None:
    """Lines that cannot be written are counted, the service goes on, and the loss is said once when it can be."""
    code = """import time
n = 0
while True:
    print('tick', n)
    n += 1
    time.sleep(0.001)"""
    keeper = await Keeper.spawn(nursery.spec(code))
    pid = keeper.record.keeper.pid
    await eventually(lambda: nursery.log().count(b"\n") > 2)
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (len(nursery.log()), limits[1]))
    full = await last_tick(keeper)
    while await last_tick(keeper) < full + 50:
        assert tree.is_alive(keeper.record.keeper)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    await eventually(lambda: b"[flawless]" in nursery.log())
    assert tree.is_alive(child_of(keeper.record))
    await keeper.stop()
    lines = nursery.log().decode().splitlines()
    notices = [line for line in lines if line.startswith("[flawless]")]
    lost = sum(int(line.split()[1]) for line in notices)
    numbers = [int(line.split()[1]) for line in lines if line.startswith("tick")]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + lost == numbers[-1] + 1


async def test_nobody_reads_for_a_while(nursery: Nursery) -> None:
    """A keeper that is stopped for a moment loses nothing."""
    keeper = await Keeper.spawn(nursery.spec("import time\nfor n in range(3000): print(n)\ntime.sleep(60)"))
    tree.send(keeper.record.keeper, signal.SIGSTOP)
    time.sleep(0.02)
    tree.send(keeper.record.keeper, signal.SIGCONT)
    await eventually(lambda: nursery.log().endswith(b"\n2999\n"))
    assert [int(line) for line in nursery.log().splitlines()] == list(range(3000))
