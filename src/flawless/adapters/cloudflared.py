"""The cloudflared processes of this machine: which, since when, told what. They are read, never signalled."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from flawless.adapters.keeper.tree import read_stat
from flawless.core.connector import Connector, tunnel_of_token
from flawless.core.secret import MASK

if TYPE_CHECKING:
    import psutil

_NAME: Final = "cloudflared"
_OTHER_COMMANDS: Final = frozenset({"access", "forward", "update", "version", "service", "help", "tail", "management"})
_OTHER_VERBS: Final = frozenset(
    "login create list info delete route token cleanup ready diag ingress vnet rule health help".split()  # noqa: SIM905 - a list of 14 words is read as words
)
"""What else is done with the same program, and ends by itself."""

_SECRETS: Final = frozenset({"token", "credentials-contents", "secret", "service-key"})
"""Flags whose value is a secret."""

_FOLDERS: Final = (
    "~/.cloudflared",
    "~/.cloudflare-warp",
    "~/cloudflare-warp",
    "/etc/cloudflared",
    "/usr/local/etc/cloudflared",
)


def connectors(ours: Collection[int] = ()) -> Sequence[Connector]:
    """Every process that carries a tunnel, oldest first. `ours`: where none of these has the name, they count too."""
    import psutil

    found = [one for process in psutil.process_iter() if (one := _connector(process, named=True))]
    if ours and not any(one.pid in ours for one in found):
        for pid in ours:
            with suppress(psutil.Error):
                found += [one] if (one := _connector(psutil.Process(pid), named=False)) else []
    return sorted(found, key=lambda one: (one.since, one.pid))


def _connector(process: psutil.Process, *, named: bool) -> Connector | None:
    """None for what is something else, or has just ended."""
    import psutil

    try:
        with process.oneshot():
            arguments = process.cmdline()
            if named and not (arguments and _is_named(process, arguments) and _carries(arguments)):
                return None
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return _described(process, arguments)
    except psutil.Error:
        return None


def _is_named(process: psutil.Process, arguments: Sequence[str]) -> bool:
    """By its name; a program in a script's form is shown with its interpreter before it."""
    first, *rest = (PurePath(one).stem for one in arguments[:2])
    is_script = first.startswith("python") and rest == [_NAME]
    return first == _NAME or is_script or process.name().removesuffix(".exe") == _NAME


def _carries(arguments: Sequence[str]) -> bool:
    """`cloudflared tunnel run`, `cloudflared tunnel --url X`, `cloudflared tunnel`: no other command, no other verb."""
    words = [one for one in arguments[1:] if not one.startswith("-")]
    first = next((one for one in words if one == "tunnel" or one in _OTHER_COMMANDS), None)
    if first != "tunnel":
        return False
    verb = next((one for one in words[words.index("tunnel") + 1 :] if one == "run" or one in _OTHER_VERBS), None)
    return verb in {None, "run"}


def _described(process: psutil.Process, arguments: Sequence[str]) -> Connector:
    variables = _variables(process)
    token = _flag(arguments, "token") or variables.get("TUNNEL_TOKEN", "")
    token_file = _flag(arguments, "token-file") or variables.get("TUNNEL_TOKEN_FILE", "")
    url = _flag(arguments, "url") or variables.get("TUNNEL_URL", "")
    by_token = bool(token or token_file)
    return Connector(
        pid=process.pid,
        since=_started(process),
        user=process.username(),
        arguments=_masked(arguments),
        config=None if by_token else _config(process, arguments, variables),
        metrics=_flag(arguments, "metrics") or variables.get("TUNNEL_METRICS", ""),
        tunnel=_tunnel(arguments, token or _read(token_file)),
        url=url,
        by_token=by_token,
    )


def _variables(process: psutil.Process) -> Mapping[str, str]:
    """Its environment; empty for another user's process."""
    import psutil

    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _started(process: psutil.Process) -> float:
    """On the present clock, to the hundredth: the boot time that psutil adds to is known to the second alone."""
    if sys.platform != "linux":
        return process.create_time()
    stat = read_stat(process.pid)
    if stat is None:
        return process.create_time()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + stat.start_time / os.sysconf("SC_CLK_TCK")


def _flag(arguments: Sequence[str], name: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE`; one dash does too."""
    for at, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag in {f"--{name}", f"-{name}"}:
            return value if equals else next(iter(arguments[at + 1 : at + 2]), "")
    return ""


def _masked(arguments: Sequence[str]) -> tuple[str, ...]:
    """Without what is secret: a token in argv is everybody's to read, and still not ours to repeat."""
    shown: list[str] = []
    for at, word in enumerate(arguments):
        flag, equals, _ = word.partition("=")
        before = arguments[at - 1] if at else ""
        if equals and flag.lstrip("-") in _SECRETS:
            shown.append(f"{flag}={MASK}")
        elif before.startswith("-") and before.lstrip("-") in _SECRETS:
            shown.append(MASK)
        else:
            shown.append(word)
    return tuple(shown)


def _tunnel(arguments: Sequence[str], token: str) -> str:
    with suppress(ValueError):
        return tunnel_of_token(token)
    with suppress(ValueError):
        return str(uuid.UUID(arguments[-1]))
    return ""


def _read(name: str) -> str:
    """A token's file, where this user may read it."""
    try:
        return Path(name).read_text("utf-8")[:65_536] if name else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _config(process: psutil.Process, arguments: Sequence[str], variables: Mapping[str, str]) -> Path | None:
    """Its file: the one it was told, or the first there is in the places where it looks."""
    import psutil

    told = _flag(arguments, "config")
    if told:
        with suppress(psutil.Error):
            return Path(process.cwd(), told)
        return Path(told) if Path(told).is_absolute() else None
    home = variables.get("HOME") or os.path.expanduser(f"~{process.username()}")  # noqa: PTH111 - pathlib raises where the user has no home
    folders = (folder.replace("~", home, 1) for folder in _FOLDERS)
    places = (Path(folder, name) for folder in folders for name in ("config.yml", "config.yaml"))
    return next((place for place in places if _is_file(place)), None)


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:
        return False
