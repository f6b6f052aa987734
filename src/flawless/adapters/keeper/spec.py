"""What a keeper is told to run. It travels as one JSON line through a socket and is never on disk or in an argv.

Values are named tuples, because a keeper imports this: dataclasses cost every keeper 1.3 MB.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping

from flawless.adapters.keeper.value import Value

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Any


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class SpecInvalid(ValueError):
    """An order that cannot be understood; says which field, never its value."""


class RestartRule(Value):
    """When a crashed process is started again; all in seconds."""

    delays: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
    limit: int = 5
    within: float = 300.0
    forget: float = 600.0


class LogRule(Value):
    """Where the output goes."""

    folder: str
    max_size: int = 10_000_000
    """In bytes."""
    keep_days: int = 7


class KeeperSpec(Value):
    """All that is needed to start one service, any number of times."""

    service: str
    command: tuple[str, ...]
    """The argv; its first element is an absolute path."""
    directory: str
    environment: Mapping[str, str]
    """The complete environment of the child."""
    run_folder: str
    log: LogRule
    deploy_id: str
    redact: tuple[str, ...] = ()
    """Secret values that must not reach the log."""
    fingerprint: Mapping[str, str] = {}
    stop_timeout: float = 15.0
    """In seconds, from SIGTERM to SIGKILL."""
    port: int | None = None
    restart: RestartRule = RestartRule()

    def __repr__(self) -> str:
        return f"KeeperSpec({self.service!r}, ****)"

    def to_json(self) -> dict[str, Any]:
        """Holds secrets: for a socket only."""
        return self._asdict() | {"log": self.log._asdict(), "restart": self.restart._asdict()}

    @classmethod
    def from_json(cls, value: Any) -> KeeperSpec:
        """Raise SpecInvalid, naming the field, when the value has another shape."""
        fields = _mapping("spec", value)
        unknown = sorted(set(fields) ^ set(cls._fields))
        if unknown:
            raise SpecInvalid(f"spec: missing or unknown: {', '.join(unknown)}")
        return cls(**{name: _READERS[name](name, fields[name]) for name in cls._fields})


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecInvalid(f"{name}: an object is needed")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise SpecInvalid(f"{name}: a string without NUL is needed")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise SpecInvalid(f"{name}: it cannot be given to a process") from None
    return value


def _path(name: str, value: Any) -> str:
    if not _text(name, value).startswith("/"):
        raise SpecInvalid(f"{name}: an absolute path is needed")
    return str(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise SpecInvalid(f"{name}: a number from 0 is needed")
    return value


def _whole(name: str, value: Any) -> int:
    return int(_number(name, value))


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise SpecInvalid(f"{name}: a list of strings is needed")
    return tuple(_text(name, item) for item in value)


def _command(name: str, value: Any) -> tuple[str, ...]:
    argv = _texts(name, value)
    _path(name, argv[0] if argv else "")
    return argv


def _name(name: str, value: Any) -> str:
    if not _NAME.fullmatch(_text(name, value)):
        raise SpecInvalid(f"{name}: must match {_NAME.pattern}")
    return str(value)


def _environment(name: str, value: Any) -> dict[str, str]:
    if any(not key or "=" in key for key in _mapping(name, value)):
        raise SpecInvalid(f"{name}: no variable has such a name")
    return _text_mapping(name, value)


def _text_mapping(name: str, value: Any) -> dict[str, str]:
    return {_text(name, key): _text(name, item) for key, item in _mapping(name, value).items()}


def _log(name: str, value: Any) -> LogRule:
    fields = _mapping(name, value)
    try:
        folder, size, days = fields["folder"], fields["max_size"], fields["keep_days"]
    except KeyError as missing:
        raise SpecInvalid(f"{name}: {missing} is missing") from None
    return LogRule(_path(f"{name}.folder", folder), _whole(f"{name}.max_size", size), _whole(f"{name}.keep_days", days))


def _restart(name: str, value: Any) -> RestartRule:
    fields = _mapping(name, value)
    try:
        delays = tuple(_number(f"{name}.delays", delay) for delay in fields["delays"])
        limit, within, forget = (_number(f"{name}.{key}", fields[key]) for key in ("limit", "within", "forget"))
    except (KeyError, TypeError):
        raise SpecInvalid(f"{name}: delays, limit, within and forget are needed") from None
    if not delays:
        raise SpecInvalid(f"{name}.delays: at least one is needed")
    return RestartRule(delays, int(limit), within, forget)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "service": _name,
    "command": _command,
    "directory": _path,
    "environment": _environment,
    "run_folder": _path,
    "log": _log,
    "deploy_id": _text,
    "redact": _texts,
    "fingerprint": _text_mapping,
    "stop_timeout": _number,
    "port": lambda name, value: None if value is None else _whole(name, value),
    "restart": _restart,
}


def to_line(value: Mapping[str, Any]) -> bytes:
    """One message of the keepers' language: a JSON object on a line of its own."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """Read one message; raise SpecInvalid when it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise SpecInvalid("not a line of JSON") from None  # the parser's own words would quote the line
    return _mapping("message", value)
