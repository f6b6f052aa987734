"""One reading of a cloudflared: its arguments, its file, and what its metrics port answers.

An answer counts only from a socket of that very process: the default ports may be another cloudflared's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flawless.checks.tunnel.config import ConfigFile, file_of
from flawless.checks.tunnel.ingress import Place, Rule, rules_of
from flawless.core.answer import Answer, Http
from flawless.core.connector import Connector
from flawless.core.port import Listener, Sockets

PATIENCE: Final = 2.0
"""Seconds for which one answer of a metrics port is waited for; a healthy one takes milliseconds."""

_PATHS: Final = ("/ready", "/diag/tunnel", "/config", "/quicktunnel", "/metrics")
_MOST: Final = 4
"""Sockets of one process that are asked; cloudflared has one, and one more where it serves DNS or a test page."""

_DEFAULT_PORTS: Final = range(20241, 20246)
"""The first that is free of these, where it was told none."""

_SAME_MOMENT: Final = 1.1
"""Seconds by which it may be wrong about its own start: it knows the machine's to the second alone."""

_NO_TUNNEL: Final = "00000000-0000-0000-0000-000000000000"
"""What it says before it knows."""

Answers = Mapping[str, Answer | Exception]


@dataclass(frozen=True, slots=True)
class World:
    """What the observations need of the world.

    `connectors`: every cloudflared of this machine, and the given processes of ours. `ours`: the processes of our own
    tunnel. `program`: where cloudflared is, or CommandFailed. `log`: the last lines that ours has printed since its
    start.
    """

    connectors: Callable[[Collection[int]], Sequence[Connector]]
    ours: Callable[[], Awaitable[frozenset[int]]]
    sockets: Sockets
    http: Http
    program: Callable[[], Path]
    log: Callable[[], Sequence[str]] = tuple


def counted(answer: Answer, metric: str) -> float | None:
    """A metric, summed over its labels; None where it is not told."""
    text = answer.body.decode("utf-8", "replace")
    values = re.findall(rf"^{re.escape(metric)}(?:\{{[^}}]*\}})? ([0-9.eE+]+)$", text, re.MULTILINE)
    return sum(map(float, values)) if values else None


@dataclass(frozen=True, slots=True)
class Reading:
    """One process, and what its metrics port answered by path; nothing when it has none that can be seen."""

    connector: Connector
    is_ours: bool
    ports: tuple[Listener, ...] = ()
    address: str = ""
    answers: Answers = field(default_factory=dict)
    file: ConfigFile | None = None

    @property
    def is_silent(self) -> bool:
        return _is_silent(self.answers)

    def document(self, path: str) -> dict[str, Any]:
        """What it answered there as JSON; empty for anything else."""
        answer = self.answers.get(path)
        if not isinstance(answer, Answer):
            return {}
        try:
            found = answer.json()
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def count(self, metric: str) -> float:
        """A metric, summed over its labels; 0 where it is not told."""
        answer = self.answers.get("/metrics")
        return (counted(answer, metric) if isinstance(answer, Answer) else None) or 0.0

    @property
    def tunnel(self) -> str:
        """The id of the tunnel that it carries: as it says, or as it was told; empty where neither is seen."""
        said = str(self.document("/diag/tunnel").get("tunnelID", "")).lower()
        told = self.connector.tunnel or (self.file.tunnel if self.file else "")
        return said if said not in {"", _NO_TUNNEL} else told.lower()

    @property
    def temporary(self) -> str:
        """The name of a quick tunnel; empty for any other."""
        said = self.document("/quicktunnel").get("hostname")
        if said:
            return str(said)
        is_quick = self.connector.url and not (self.tunnel or self.connector.by_token)
        return "a name that it is still to get" if is_quick else ""

    @property
    def version(self) -> int | None:
        """Of its rules: -1 from its file, 0 and above pushed by Cloudflare; None where it does not say."""
        found = self.document("/config").get("version")
        return found if isinstance(found, int) else None

    @property
    def is_remote(self) -> bool:
        """Its rules were pushed by Cloudflare, whatever stands in a file."""
        return self.version is not None and self.version >= 0

    @property
    def rules(self) -> tuple[Rule, ...] | None:
        """Those it runs with now; None where it does not say."""
        found = self.document("/config")
        config = found.get("config")
        return rules_of(config.get("ingress")) if isinstance(config, dict) else () if found else None


async def read(connector: Connector, world: World, is_ours: bool, limit: float) -> Reading:  # noqa: FBT001 - one call
    ports = await asyncio.to_thread(world.sockets.ports_of, [connector.pid])
    file = await asyncio.to_thread(file_of, connector)
    told = _port_of(connector.metrics or (file.metrics if file else ""))
    if not ports:
        address, given = await _hidden(connector, world, [told] if told else _DEFAULT_PORTS, limit)
        return Reading(connector, is_ours, (), address, given, file)
    likely = [one for one in ports if one.port == told] or ports[:_MOST]
    asked = await _all_asked(connector, world.http, likely, limit)
    found = [one for one in asked if _is_metrics(one[1])] or [one for one in asked if _is_silent(one[1])]
    address, given = next(iter(found), ("", {}))
    return Reading(connector, is_ours, tuple(ports), address, given, file)


async def _hidden(connector: Connector, world: World, ports: Collection[int], limit: float) -> tuple[str, Answers]:
    """The metrics port of a process whose sockets this user may not see: another user's, a system service's.

    It counts when what answers was started at the very moment at which that process was, and nothing else was.
    """
    there = [one for port in ports for one in await asyncio.to_thread(world.sockets.listeners, port) if not one.pids]
    asked = await _all_asked(connector, world.http, there, limit)
    same = [one for one in asked if _is_metrics(one[1]) and _is_started_with(connector, one[1])]
    return same[0] if len(same) == 1 else ("", {})


def _is_started_with(connector: Connector, answers: Answers) -> bool:
    started = Reading(connector, is_ours=False, answers=answers).count("process_start_time_seconds")
    return abs(started - connector.since) <= _SAME_MOMENT


async def _all_asked(
    connector: Connector, http: Http, listeners: Sequence[Listener], limit: float
) -> list[tuple[str, Answers]]:
    addresses = list(dict.fromkeys(address_of(one) for one in listeners))
    # A token says which tunnel it is of; asking for it writes two lines into cloudflared's log each time.
    is_known = connector.by_token and connector.tunnel
    paths = [path for path in _PATHS if not (is_known and path == "/diag/tunnel")]
    answers = await asyncio.gather(*(_asked(http, address, paths, limit) for address in addresses))
    return list(zip(addresses, answers, strict=True))


def _port_of(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else None


def address_of(listener: Listener) -> str:
    """What to connect to for a socket that may listen on everything."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.address, listener.address)  # noqa: S104 - compared with
    return str(Place(host, listener.port))


async def _asked(http: Http, address: str, paths: Sequence[str], limit: float) -> Answers:
    answers = await asyncio.gather(*(_answer(http, f"http://{address}{path}", limit) for path in paths))
    return dict(zip(paths, answers, strict=True))


async def _answer(http: Http, url: str, limit: float) -> Answer | Exception:
    try:
        return await http.ask("GET", url, limit=limit)
    except (OSError, ValueError) as error:
        return error


def _is_metrics(answers: Answers) -> bool:
    """Whoever speaks of its ready connections is cloudflared's metrics port."""
    ready = answers["/ready"]
    return isinstance(ready, Answer) and b"readyConnections" in ready.body


def _is_silent(answers: Answers) -> bool:
    """It accepts, and gives no answer within the limit."""
    return isinstance(answers.get("/ready"), TimeoutError)
