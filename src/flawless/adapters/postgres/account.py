"""Who runs the server: PostgreSQL refuses to be root, so root lends it the identity of a system user."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flawless.adapters.postgres.failure import failed

CANDIDATES: Final = ("flawless", "postgres", "_postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group id other than our own."""

    uid: int
    gid: int

    def spawn_options(self) -> dict[str, Any]:
        """What makes a subprocess run as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(data: Path) -> Account | None:
    """The account to run as: ourselves (None) unless we are root; then the owner of `data`, or a system user."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    return _system_account()


def require_passwd_entry() -> None:
    """What initdb needs: it looks our own user up; containers with a random uid have none."""
    import pwd

    if os.geteuid() == 0:
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise failed(
            "the embedded PostgreSQL cannot be initialised by a user without a name",
            evidence=[f"uid {os.geteuid()} has no entry in the passwd database; initdb needs one"],
            next_steps=[
                f"add a line to /etc/passwd: app:x:{os.geteuid()}:{os.getegid()}::/tmp:/sbin/nologin",
                "or run as a user that has a name",
            ],
        ) from None


def _system_account() -> Account:
    import pwd

    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise failed(
        "PostgreSQL does not run as root, and no user was found to run it as",
        evidence=[f"none of these users exists: {', '.join(CANDIDATES)}"],
        next_steps=["useradd --system flawless", "or run Flawless as a normal user"],
    )


def give(path: Path, account: Account | None) -> None:
    """Hand one of our own new files or folders to the account."""
    if account:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def keep_owner(path: Path) -> None:
    """Root at work in a user's project does not lock the user out: the file gets its folder's owner."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a tool ended, and everything it printed."""

    returncode: int
    output: str


async def run_as(
    account: Account | None, argv: list[str], *, limit: float, cwd: Path = Path("/"), stdin: str = ""
) -> Finished:
    """Run a tool of the bundle to its end, with an environment of two harmless variables.

    Raises TimeoutError after `limit` seconds (the tool is killed), PermissionError when the account may not run it.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=tool_environment(),
        umask=0o077,
        start_new_session=True,
        **(account.spawn_options() if account else {}),
    )
    try:
        async with asyncio.timeout(limit):
            output, _ = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(errors="replace"))


def tool_environment() -> dict[str, str]:
    """Nothing of ours: no secrets, no PG* variables that would change what a tool does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
