"""A process that carries a tunnel, as a value, and the id that stands in a tunnel's token."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flawless.core.clock import to_stamp


@dataclass(frozen=True, slots=True)
class Connector:
    """A cloudflared of this machine. `since`: seconds since the epoch. No secret is in its `arguments` any more.

    The rest is what it was told by argument or variable, as far as that may be seen; empty where it was not. `config`:
    its file, found in the default places too. `tunnel`: the id in its token or behind `run`. `url`: of a quick tunnel.
    """

    pid: int
    since: float
    user: str
    arguments: tuple[str, ...]
    config: Path | None = None
    metrics: str = ""
    tunnel: str = ""
    url: str = ""
    by_token: bool = False

    def __str__(self) -> str:
        since = to_stamp(datetime.fromtimestamp(self.since, UTC))
        return f"pid {self.pid} ({' '.join(self.arguments)[:200]}), user {self.user}, since {since}"


def tunnel_of_token(token: str) -> str:
    """The tunnel's id in its token: base64 of JSON with `a`, `s` and `t`. Raises ValueError, which shows nothing of it.

    cloudflared itself takes any JSON and runs as a tunnel that is not there: it was measured.
    """
    try:
        found = json.loads(base64.b64decode(token.strip(), validate=True))
        account, secret, tunnel = found["a"], found["s"], found["t"]
        if account and secret:
            return str(uuid.UUID(tunnel))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("it is not base64 of JSON with an account, a secret and a tunnel's id")
