"""The tunnel as it can be seen from this machine: independent observations, each with its own outcome.

One reading of a process (its arguments, its metrics port) serves several of them. An answer counts only from a socket
of that very process: the default ports may be another cloudflared's.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from flawless.checks.ingress import Place, Rule, first_match, rules_of
from flawless.checks.tunnel_config import ConfigFile, Ready, Tunnel, expected, file_of, look, no_rule
from flawless.core.answer import Answer, Http
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.connector import Connector
from flawless.core.errors import CommandFailed
from flawless.core.plain import printable
from flawless.core.port import Listener
from flawless.core.reason import Reason
from flawless.core.tunnel import Configuration, Connection, File, Kind, Local, Metrics, Origin, Process, Route, Seen

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

_WRITTEN: Final = 0.1
"""Seconds after a start within which a file was still there to be read."""

_LOCALHOST: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_REFUSED: Final = re.compile(r"Unauthorized|Tunnel not found|Failed to get tunnel")
"""What the edge says of credentials that it never accepts."""

Answers = Mapping[str, Answer | Exception]


class SocketReader(Protocol):
    """The machine's listening sockets, as far as a tunnel is concerned."""

    def listeners(self, port: int, likely: Collection[int] = ()) -> Sequence[Listener]:
        """Who listens on this port, on whichever address."""

    def ports_of(self, pids: Collection[int]) -> Sequence[Listener]:
        """Where these processes listen."""


@dataclass(frozen=True, slots=True)
class World:
    """What the observations need of the world.

    `connectors`: every cloudflared of this machine, and the given processes of ours. `ours`: the processes of our own
    tunnel. `program`: where cloudflared is, or CommandFailed. `log`: the last lines that ours has printed since its
    start.
    """

    connectors: Callable[[Collection[int]], Sequence[Connector]]
    ours: Callable[[], Awaitable[frozenset[int]]]
    sockets: SocketReader
    http: Http
    program: Callable[[], Path]
    log: Callable[[], Sequence[str]] = tuple


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
        text = answer.body.decode("utf-8", "replace") if isinstance(answer, Answer) else ""
        values = re.findall(rf"^{re.escape(metric)}(?:\{{[^}}]*\}})? ([0-9.eE+]+)$", text, re.MULTILINE)
        return sum(float(value) for value in values)

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


async def observe(tunnel: Tunnel, world: World, limit: float) -> Local:
    """All that this machine knows of the tunnel, within `limit` seconds: two rounds of questions, each in parallel."""
    each = min(PATIENCE, limit / 2)
    ours = await world.ours()
    wanted = await asyncio.to_thread(expected, tunnel)
    found = await asyncio.to_thread(world.connectors, ours)
    readings = await asyncio.gather(*(_read(one, world, one.pid in ours, each) for one in found))
    configuration = await asyncio.to_thread(_configuration, tunnel, world)
    concerned = [one for one in readings if _concerns(one, tunnel, wanted)]
    others = [one for one in readings if one not in concerned]
    if not concerned:
        return _nobody(configuration, others)
    subject = min(concerned, key=lambda one: (not one.is_ours, one.tunnel != wanted))
    return await _seen(tunnel, world, subject, readings, wanted, configuration, each)


async def _seen(
    tunnel: Tunnel,
    world: World,
    subject: Reading,
    readings: Sequence[Reading],
    wanted: str,
    configuration: Seen[Configuration],
    limit: float,
) -> Local:
    rule = _met(subject, tunnel)
    return Local(
        configuration=configuration,
        process=_process(subject, readings),
        metrics=_metrics(subject, limit),
        kind=_kind(subject, wanted),
        connection=_connection(subject, world.log() if subject.is_ours else None),
        file=_file(subject),
        route=await asyncio.to_thread(_route, subject, tunnel, rule, world.sockets),
        origin=await _origin(world.http, tunnel, rule, limit),
        pid=subject.connector.pid,
        since=subject.connector.since,
        connector=str(subject.document("/ready").get("connectorId", "")),
    )


# --- reading ---------------------------------------------------------------------------------------------------------


async def _read(connector: Connector, world: World, is_ours: bool, limit: float) -> Reading:  # noqa: FBT001 - one call
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
    addresses = list(dict.fromkeys(_address(one) for one in listeners))
    # A token says which tunnel it is of; asking for it writes two lines into cloudflared's log each time.
    is_known = connector.by_token and connector.tunnel
    paths = [path for path in _PATHS if not (is_known and path == "/diag/tunnel")]
    answers = await asyncio.gather(*(_asked(http, address, paths, limit) for address in addresses))
    return list(zip(addresses, answers, strict=True))


def _port_of(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else None


def _address(listener: Listener) -> str:
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


def _concerns(reading: Reading, tunnel: Tunnel, wanted: str) -> bool:
    """Whether it may be the one that carries our name: another stack's tunnel on this machine is nobody's business."""
    if reading.is_ours:
        return True
    rules = reading.rules if reading.rules is not None else reading.file.rules if reading.file else None
    url = reading.connector.url
    known = rules or ((Rule(url),) if url else None)
    leads_here = known is None or any(_is_ours(rule, tunnel) for rule in known)
    if reading.temporary:
        return leads_here
    if not wanted or not reading.tunnel or reading.tunnel == wanted:
        return True
    return known is not None and (leads_here or any(rule.hostname == tunnel.hostname for rule in known))


# --- configuration, process, metrics ---------------------------------------------------------------------------------


def _configuration(tunnel: Tunnel, world: World) -> Seen[Configuration]:
    try:
        program = world.program()
    except CommandFailed as error:
        steps = error.next_steps or ("install cloudflared",)
        missing = Failed(Reason.TOOL_MISSING, error.cause, error.evidence or (error.cause,), steps)
        return Seen(Configuration.NO_PROGRAM, missing)
    found = look(tunnel)
    if isinstance(found, Ready):
        return Seen(Configuration.READY, Passed((*found.evidence, f"program: {program}")))
    is_missing = found.reason is Reason.TUNNEL_CONFIG_MISSING
    return Seen(Configuration.MISSING if is_missing else Configuration.INVALID, found)


def _process(subject: Reading, readings: Sequence[Reading]) -> Seen[Process]:
    who = f"{'ours' if subject.is_ours else 'not started by Flawless'}: {subject.connector}"
    others = tuple(_other(one) for one in readings if one is not subject)
    return Seen(Process.OURS if subject.is_ours else Process.FOREIGN, Passed((who, *others)))


def _other(reading: Reading) -> str:
    what = f"the quick tunnel {reading.temporary}" if reading.temporary else f"tunnel {reading.tunnel or 'unknown'}"
    return f"beside it: {reading.connector}, {what}"


def _nobody(configuration: Seen[Configuration], others: Sequence[Reading]) -> Local:
    said = tuple(_other(one) for one in others) or ("no process of this machine is a cloudflared that runs a tunnel",)
    steps = ("start it: flawless start tunnel", "or look again: flawless tunnel status")
    failed = Failed(Reason.TUNNEL_NOT_RUNNING, "no cloudflared runs that carries this tunnel", said, steps)
    unasked = Skipped("cloudflared does not run")
    return Local(
        configuration=configuration,
        process=Seen(Process.NONE, failed),
        metrics=Seen(Metrics.NONE, unasked),
        kind=Seen(Kind.UNKNOWN, unasked),
        connection=Seen(Connection.UNKNOWN, unasked),
        file=Seen(File.UNKNOWN, unasked),
        route=Seen(Route.UNKNOWN, unasked),
        origin=Seen(Origin.UNKNOWN, unasked),
    )


def _metrics(subject: Reading, limit: float) -> Seen[Metrics]:
    pid = subject.connector.pid
    if subject.is_silent:
        told = (f"pid {pid} accepts on {subject.address} and did not answer within {limit:g} s", str(subject.connector))
        steps = (
            "restart it: flawless tunnel restart",
            f"see whether it is stopped: ps -o pid,stat,etime,args -p {pid}",
        )
        return Seen(
            Metrics.SILENT, Failed(Reason.TUNNEL_HUNG, "cloudflared's metrics port does not answer", told, steps)
        )
    if subject.answers:
        return Seen(Metrics.ANSWERS, Passed((f"pid {pid} answers on {subject.address}",)))
    if subject.ports:
        places = ", ".join(_address(one) for one in subject.ports)
        return Seen(Metrics.NONE, Skipped(f"pid {pid} listens on {places}, and none of these is its metrics port"))
    hidden = f"no socket of pid {pid} can be seen: it is still starting, or belongs to another user"
    return Seen(Metrics.NONE, Skipped(f"{hidden} ({subject.connector.user}): sudo flawless tunnel status"))


# --- which tunnel, connected or not ----------------------------------------------------------------------------------


def _kind(subject: Reading, wanted: str) -> Seen[Kind]:
    pid = subject.connector.pid
    if subject.temporary:
        return Seen(Kind.TEMPORARY, _temporary(subject, wanted))
    if not subject.tunnel:
        return Seen(Kind.UNKNOWN, Skipped(f"pid {pid} does not say which tunnel it carries"))
    if not wanted:
        return Seen(
            Kind.UNKNOWN, Skipped(f"pid {pid} carries tunnel {subject.tunnel}; nothing says which it should be")
        )
    if subject.tunnel == wanted:
        return Seen(Kind.EXPECTED, Passed((f"pid {pid} carries tunnel {wanted}",)))
    return Seen(Kind.OTHER, _other_tunnel(subject, wanted))


def _temporary(subject: Reading, wanted: str) -> Failed:
    return Failed(
        Reason.TUNNEL_TEMPORARY,
        "a quick tunnel runs in place of the named one: its address is another at every start",
        (
            f"{subject.connector}: {subject.temporary}",
            f"expected: tunnel {wanted or 'of a token or a configuration file'}",
        ),
        (f"end it, if nobody needs it: kill {subject.connector.pid}", "then bring up the named one: flawless deploy"),
    )


def _other_tunnel(subject: Reading, wanted: str) -> Failed:
    pid = subject.connector.pid
    steps = (
        "see which tunnel the name should have: cloudflared tunnel list",
        "then write that one: [tunnel] in flawless.toml",
        *(() if subject.is_ours else (f"or end the other one, if nobody needs it: kill {pid}",)),
    )
    told = (f"pid {pid} carries tunnel {subject.tunnel}", f"expected: tunnel {wanted}", str(subject.connector))
    return Failed(Reason.TUNNEL_OTHER, "the cloudflared that runs here carries another tunnel", told, steps)


def _connection(subject: Reading, log: Sequence[str] | None) -> Seen[Connection]:
    """`log`: the last lines of ours; None for another's, of which the metrics alone are known."""
    ready = subject.answers.get("/ready")
    if not isinstance(ready, Answer):
        return Seen(
            Connection.UNKNOWN, Skipped("its metrics port was not seen, so nobody knows whether it is connected")
        )
    said = f"http://{subject.address}/ready: {ready.status} {_flat(ready)}"
    if ready.status == 200:
        return Seen(Connection.READY, Passed((said,)))
    refusals = _refusals(subject, log)
    if refusals:
        return Seen(Connection.REFUSED, _refused(subject, (said, *refusals)))
    return Seen(Connection.NONE, _unconnected(subject, said))


def _refusals(subject: Reading, log: Sequence[str] | None) -> tuple[str, ...]:
    """Why the edge will never accept it.

    cloudflared goes on trying only where it is told `Unauthorized`; at any other refusal of its first registration it
    ends. So a living one that was always refused was told that.
    """
    failed = subject.count("cloudflared_tunnel_tunnel_register_fail")
    counted = f"{failed:g} registrations refused, {_accepted(subject):g} accepted (/metrics)"
    if log is not None:
        lines = [printable(line)[:300] for line in log if _REFUSED.search(line)]
        return (counted, f"it printed: {lines[-1]}") if lines and failed else ()
    return (counted,) if failed and not _accepted(subject) else ()


def _accepted(subject: Reading) -> float:
    return subject.count("cloudflared_tunnel_tunnel_register_success")


def _refused(subject: Reading, evidence: tuple[str, ...]) -> Failed:
    return Failed(
        Reason.TUNNEL_CREDENTIALS,
        f"Cloudflare's edge refuses the credentials of tunnel {subject.tunnel or 'unknown'}",
        (*evidence, str(subject.connector)),
        (
            "see whether the tunnel is still there: cloudflared tunnel list",
            "copy its token anew into the variable that [tunnel] token names: cloudflared tunnel token NAME",
            "then: flawless deploy",
        ),
    )


def _unconnected(subject: Reading, said: str) -> Failed:
    age = "restart it: flawless tunnel restart"
    reach = "see whether the edge can be reached: cloudflared tunnel diag; nc -vz region1.v2.argotunnel.com 7844"
    cause = "cloudflared has no connection to Cloudflare's edge"
    return Failed(Reason.TUNNEL_NOT_CONNECTED, cause, (said, str(subject.connector)), (age, reach))


def _flat(answer: Answer) -> str:
    return printable(" ".join(answer.body.decode("utf-8", "replace").split()))[:200]


# --- the file and the rules ------------------------------------------------------------------------------------------


def _file(subject: Reading) -> Seen[File]:
    path = subject.connector.config
    if subject.connector.by_token or subject.is_remote:
        return Seen(File.UNKNOWN, Skipped("its rules come from Cloudflare, not from a file"))
    if path is None:
        return Seen(File.UNKNOWN, Skipped("it is not known which file it was started with"))
    try:
        changed = path.stat().st_mtime
    except OSError as error:
        return Seen(File.UNKNOWN, Skipped(f"{path}: {error.strerror}"))
    later = changed - subject.connector.since
    if later <= _WRITTEN:
        return Seen(File.CURRENT, Passed((f"{path} was not changed since pid {subject.connector.pid} was started",)))
    return Seen(File.EDITED, _edited(subject, path, later))


def _edited(subject: Reading, path: Path, later: float) -> Failed:
    pid = subject.connector.pid
    told = f"{path} was changed {later:.0f} s after pid {pid} was started, and is read once, at the start"
    steps = ("let it read the file: flawless tunnel restart", f"see what is in it: cat {shlex.quote(str(path))}")
    return Failed(Reason.TUNNEL_STALE_CONFIG, "cloudflared runs with an older configuration", (told,), steps)


def _met(subject: Reading, tunnel: Tunnel) -> Rule | None:
    """The rule that a visitor's request meets now, with its line where it is also in the file."""
    rule = first_match(subject.rules or (), tunnel.hostname, tunnel.path)
    written = (subject.file.rules or ()) if subject.file else ()
    return next((one for one in written if rule and str(one) == str(rule)), rule)


def _route(subject: Reading, tunnel: Tunnel, rule: Rule | None, sockets: SocketReader) -> Seen[Route]:
    if subject.rules is None:
        return Seen(Route.UNKNOWN, Skipped("it does not say which rules it runs with"))
    if subject.connector.by_token and not subject.is_remote:
        return Seen(Route.UNKNOWN, Skipped("its rules have not come from Cloudflare yet"))
    local = None if subject.is_remote else subject.file
    if rule is None or (rule.is_status and rule.is_catch_all):
        return Seen(Route.NO_RULE, no_rule(tunnel, (_live(subject, rule),), local))
    met = _live(subject, rule)
    if not _is_ours(rule, tunnel):
        return Seen(Route.OTHER_PORT, _mismatch(tunnel, rule, met, local))
    place = rule.place
    refused = _refused_family(place, sockets) if place else None
    if place and refused:
        return Seen(Route.IPV6, _ipv6(rule, place, (met, refused), local))
    return Seen(Route.RIGHT, Passed((met,)))


def _live(subject: Reading, rule: Rule | None) -> str:
    source = "pushed by Cloudflare" if subject.is_remote else "from its file"
    return f"live rules ({source}): {rule or 'there are none, so every request gets 503'}"


def _is_ours(rule: Rule, tunnel: Tunnel) -> bool:
    """It leads to a service of this stack."""
    place = rule.place
    return place is not None and any(_is_same(place, host, port) for host, port in tunnel.origins)


def _is_same(place: Place, host: str, port: int) -> bool:
    if place.port != port:
        return False
    both_local = place.host in _LOCALHOST and host in _LOCALHOST
    # A service on the wildcard is reached by every address of this machine, and by its name.
    return both_local or place.host == host or host in {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to


def _refused_family(place: Place, sockets: SocketReader) -> str | None:
    """Why a connection to this address is refused although the service is there: it listens on IPv4 alone."""
    if place.host not in {"localhost", "::1"}:
        return None
    there = sockets.listeners(place.port)
    if any(one.serves("::1") for one in there) or not any(one.serves("127.0.0.1") for one in there):
        return None
    return f"port {place.port} is listened on at {', '.join(sorted({one.address for one in there}))}, not at ::1"


def _mismatch(tunnel: Tunnel, rule: Rule, met: str, local: ConfigFile | None) -> Failed:
    mine = ", ".join(str(Place(host, port)) for host, port in tunnel.origins) or "no service with a port"
    told = (met, f"the services of this stack that may be meant: {mine}")
    cause = f"the tunnel's rule for {tunnel.hostname} leads to {rule.service}, which is no service of this stack"
    return Failed(Reason.TUNNEL_ROUTE_MISMATCH, cause, told, _change(rule, tunnel.origin, local))


def _ipv6(rule: Rule, place: Place, told: tuple[str, ...], local: ConfigFile | None) -> Failed:
    scheme = rule.service.partition(":")[0]
    cause = f"the tunnel's rule says {place.host}, which is ::1 first, and the service listens on IPv4 alone"
    return Failed(Reason.TUNNEL_IPV6_ORIGIN, cause, told, _change(rule, f"{scheme}://127.0.0.1:{place.port}", local))


def _change(rule: Rule, service: str, local: ConfigFile | None) -> tuple[str, ...]:
    """The line to change, where it stands, and how it is read."""
    if local is None:
        where = f"for {rule.hostname or 'any hostname'}"
        return (f"write in Cloudflare's dashboard (Networks, Tunnels) {where}: {service}", "it is read at once")
    place = f"{local.path}:{rule.line}" if rule.line else str(local.path)
    return (f"change the rule at {place}:", f"  service: {service}", "then: flawless tunnel restart")


async def _origin(http: Http, tunnel: Tunnel, rule: Rule | None, limit: float) -> Seen[Origin]:
    place = rule.place if rule else None
    if rule is None or place is None:
        return Seen(Origin.UNKNOWN, Skipped("no rule names an address that could be asked"))
    try:
        said = await _asked_origin(http, tunnel, rule, place, limit)
    except TimeoutError:
        return Seen(Origin.DOWN, _down(rule, tunnel, f"{rule.service} did not answer within {limit:g} s"))
    except (OSError, ValueError) as error:
        return Seen(Origin.DOWN, _down(rule, tunnel, f"{rule.service}: {_why(error)}"))
    return Seen(Origin.ANSWERS, Passed((said,)))


async def _asked_origin(http: Http, tunnel: Tunnel, rule: Rule, place: Place, limit: float) -> str:
    """Asked as cloudflared would: with the public name. What is not HTTP is connected to. Any answer will do."""
    if place.is_http:
        url = re.sub(r"^ws", "http", rule.service).rstrip("/") + tunnel.path
        return (await http.ask("GET", url, limit=limit, headers={"Host": tunnel.hostname})).describe()
    async with asyncio.timeout(limit):
        _, writer = await asyncio.open_connection(place.host, place.port)
    writer.close()
    return f"{rule.service} takes a connection"


def _why(error: Exception) -> str:
    """In the system's words; asyncio has words of its own for the same number."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number is not None and number > 0 else str(error)


def _down(rule: Rule, tunnel: Tunnel, said: str) -> Failed:
    return Failed(
        Reason.TUNNEL_ORIGIN_DOWN,
        f"nothing answers at {rule.service}, where the tunnel's rule for {tunnel.hostname} leads",
        (said, f"rule: {rule}"),
        ("see what runs: flawless status", "bring the service up: flawless deploy"),
    )
