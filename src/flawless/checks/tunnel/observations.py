"""The tunnel as it can be seen from this machine: independent observations, each with its own outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from flawless.checks.tunnel.config import Ready, Tunnel, expected, leads_to_us, look
from flawless.checks.tunnel.ingress import Rule
from flawless.checks.tunnel.reading import PATIENCE, Reading, World, address_of, read
from flawless.checks.tunnel.route import file_seen, met, origin_seen, route_seen
from flawless.core.answer import Answer
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.errors import CommandFailed
from flawless.core.plain import printable
from flawless.core.reason import Reason
from flawless.core.tunnel import Configuration, Connection, File, Kind, Local, Metrics, Origin, Process, Route, Seen

_REFUSED: Final = re.compile(r"Unauthorized|Tunnel not found|Failed to get tunnel")
"""What the edge says of credentials that it never accepts."""


async def observe(tunnel: Tunnel, world: World, limit: float) -> Local:
    """All that this machine knows of the tunnel, within `limit` seconds: two rounds of questions, each in parallel."""
    each = min(PATIENCE, limit / 2)
    ours = await world.ours()
    usable = await asyncio.to_thread(look, tunnel)
    wanted = expected(tunnel, usable)
    found = await asyncio.to_thread(world.connectors, ours)
    readings = await asyncio.gather(*(read(one, world, one.pid in ours, each) for one in found))
    configuration = await asyncio.to_thread(_configuration, usable, world)
    concerned = [one for one in readings if _concerns(one, tunnel, wanted)]
    others = [one for one in readings if one not in concerned]
    if not concerned:
        return _nobody(configuration, others)
    subject = min(concerned, key=lambda one: (not one.is_ours, one.tunnel != wanted))
    return await _seen(tunnel, world, subject, wanted, configuration, each)


async def _seen(
    tunnel: Tunnel,
    world: World,
    subject: Reading,
    wanted: str,
    configuration: Seen[Configuration],
    limit: float,
) -> Local:
    rule = met(subject, tunnel)
    return Local(
        configuration=configuration,
        process=_process(subject),
        metrics=_metrics(subject, limit),
        kind=_kind(subject, wanted),
        connection=_connection(subject, world.log() if subject.is_ours else None),
        file=file_seen(subject),
        route=await asyncio.to_thread(route_seen, subject, tunnel, rule, world.sockets),
        origin=await origin_seen(world.http, tunnel, rule, limit),
        pid=subject.connector.pid,
        since=subject.connector.since,
        metrics_address=subject.address,
        connector=str(subject.document("/ready").get("connectorId", "")),
    )


def _concerns(reading: Reading, tunnel: Tunnel, wanted: str) -> bool:
    """Whether it may be the one that carries our name: another stack's tunnel on this machine is nobody's business.

    One that says nothing of itself is no reason to go without a tunnel: beside it ours is a replica at the worst.
    """
    if reading.is_ours:
        return True
    rules = reading.rules if reading.rules is not None else reading.file.rules if reading.file else None
    url = reading.connector.url
    known = rules or ((Rule(url),) if url else None)
    if wanted and reading.tunnel == wanted and not reading.temporary:
        return True
    if known is None:
        return bool(reading.temporary) or not wanted
    leads_here = any(leads_to_us(rule, tunnel) for rule in known)
    has_name = any(rule.hostname == tunnel.hostname for rule in known)
    return leads_here or (bool(reading.tunnel) and has_name and not reading.temporary)


# --- configuration, process, metrics ---------------------------------------------------------------------------------


def _configuration(found: Ready | Failed, world: World) -> Seen[Configuration]:
    try:
        program = world.program()
    except CommandFailed as error:
        steps = error.next_steps or ("install cloudflared",)
        missing = Failed(Reason.TOOL_MISSING, error.cause, error.evidence or (error.cause,), steps)
        return Seen(Configuration.NO_PROGRAM, missing)
    if isinstance(found, Ready):
        return Seen(Configuration.READY, Passed((*found.evidence, f"program: {program}")))
    is_missing = found.reason is Reason.TUNNEL_CONFIG_MISSING
    return Seen(Configuration.MISSING if is_missing else Configuration.INVALID, found)


def _process(subject: Reading) -> Seen[Process]:
    who = f"{'ours' if subject.is_ours else 'not started by Flawless'}: {subject.connector}"
    return Seen(Process.OURS if subject.is_ours else Process.FOREIGN, Passed((who,)))


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
        places = ", ".join(address_of(one) for one in subject.ports)
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
