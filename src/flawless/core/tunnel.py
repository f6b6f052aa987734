"""What is seen of a tunnel and of the public name, and the one verdict that follows from it.

Each observation is a state with the outcome of the check that made it. `judge` takes all of them to one row of `TABLE`:
the first that fits. Nothing here asks the world; what cloudflared and the edge do was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from flawless.core.check import Failed, Outcome, Passed, Skipped
from flawless.core.reason import Reason


class Configuration(StrEnum):
    """What cloudflared would be started with."""

    READY = "ready"
    NO_PROGRAM = "no program"
    MISSING = "missing"
    INVALID = "invalid"


class Process(StrEnum):
    """Who runs cloudflared here: our keeper, somebody else (a system service, another terminal), nobody."""

    OURS = "ours"
    FOREIGN = "foreign"
    NONE = "none"


class Metrics(StrEnum):
    """Its metrics port, proved to be that process's. SILENT accepts and never answers; NONE is closed or not known."""

    ANSWERS = "answers"
    SILENT = "silent"
    NONE = "none"


class Kind(StrEnum):
    """Which tunnel it carries. TEMPORARY: a quick tunnel, with a name of its own at every start."""

    EXPECTED = "expected"
    OTHER = "other"
    TEMPORARY = "temporary"
    UNKNOWN = "unknown"


class Connection(StrEnum):
    """Its connections to the edge. REFUSED: the edge does not accept the credentials, and never will."""

    READY = "ready"
    NONE = "none"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class File(StrEnum):
    """Its configuration file against the moment it was started: it is read once."""

    CURRENT = "current"
    EDITED = "edited"
    UNKNOWN = "unknown"


class Route(StrEnum):
    """The live rule for the public name. IPV6: `localhost`, where the service listens on IPv4 alone."""

    RIGHT = "right"
    OTHER_PORT = "other port"
    IPV6 = "ipv6"
    NO_RULE = "no rule"
    UNKNOWN = "unknown"


class Origin(StrEnum):
    """What answers at the very address that the rule names."""

    ANSWERS = "answers"
    DOWN = "down"
    UNKNOWN = "unknown"


class Name(StrEnum):
    """The public name in DNS. PINNED: the manifest says where it is; ELSEWHERE: others can resolve it, we cannot."""

    RESOLVES = "resolves"
    PINNED = "pinned"
    ELSEWHERE = "elsewhere"
    NOWHERE = "nowhere"
    OFFLINE = "offline"
    UNASKED = "unasked"


class Public(StrEnum):
    """What the public name answers. OURS is proved: every answer carried this release's identity."""

    OURS = "ours"
    MIXED = "mixed"
    NO_TUNNEL = "no tunnel"
    BAD_GATEWAY = "bad gateway"
    NOT_ON_TUNNEL = "not on the tunnel"
    WRONG_SITE = "wrong site"
    STALE = "stale"
    ASSET_TYPE = "asset type"
    TLS = "tls"
    REDIRECT = "redirect"
    ACCESS_WALL = "access wall"
    UNREACHABLE = "unreachable"
    UNHEALTHY = "unhealthy"
    UNASKED = "unasked"


State_co = TypeVar("State_co", bound=StrEnum, covariant=True)


@dataclass(frozen=True, slots=True)
class Seen(Generic[State_co]):
    """One observation: its state, and the outcome with the evidence for it."""

    state: State_co
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Local:
    """What this machine knows of the tunnel. `since`: seconds since the epoch at which the process was started.

    `connector`: the id by which the edge knows this very process, another at every start; empty where it is not seen.
    """

    configuration: Seen[Configuration]
    process: Seen[Process]
    metrics: Seen[Metrics]
    kind: Seen[Kind]
    connection: Seen[Connection]
    file: Seen[File]
    route: Seen[Route]
    origin: Seen[Origin]
    pid: int | None = None
    since: float | None = None
    metrics_address: str = ""
    connector: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the public name shows."""

    name: Seen[Name]
    public: Seen[Public]


class Restart(StrEnum):
    """Whether starting cloudflared, or ending it and starting it again, can cure it."""

    NO = "no"
    ONCE = "once"
    START = "start"


@dataclass(frozen=True, slots=True)
class Row:
    """A verdict and when it is given: each named observation is in one of these states.

    `reason` is None where the public name leads to this release. `tells`: the observations whose evidence counts; the
    first of them that has failed also gives cause and next steps where the row has none of its own.
    """

    verdict: str
    reason: Reason | None
    restart: Restart
    when: Mapping[str, frozenset[StrEnum]]
    tells: tuple[str, ...]
    cause: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The row that fits, and its failure; None when the public name leads to this release."""

    row: Row
    failed: Failed | None


def judge(local: Local, outside: Outside, hostname: str) -> Verdict:
    """The first row of the table that fits; the last one fits always."""
    seen = {**_by_name(local), **_by_name(outside)}
    row = row_of({name: one.state for name, one in seen.items()})
    return Verdict(row, None if row.reason is None else _failure(row, row.reason, seen, hostname))


def row_of(states: Mapping[str, StrEnum]) -> Row:
    """The row for the state of each observation, by its name; nothing but the states decides."""
    return next(row for row in TABLE if all(states[name] in allowed for name, allowed in row.when.items()))


def _by_name(view: Local | Outside) -> dict[str, Seen[Any]]:
    found = ((field.name, getattr(view, field.name)) for field in fields(view))
    return {name: seen for name, seen in found if isinstance(seen, Seen)}


def _failure(row: Row, reason: Reason, seen: Mapping[str, Seen[Any]], hostname: str) -> Failed:
    outcomes = [seen[name].outcome for name in row.tells]
    told = next((one for one in outcomes if isinstance(one, Failed)), None)
    evidence = tuple(dict.fromkeys(line for outcome in outcomes for line in _evidence(outcome)))
    if row.cause or told is None:
        steps = tuple(step.format(hostname=hostname) for step in row.steps)
        cause = (row.cause or "the tunnel of {hostname}: " + row.verdict).format(hostname=hostname)
        states = tuple(f"{name}: {seen[name].state}" for name in row.tells)
        return Failed(reason, cause, evidence or states, (*steps, *_asking(reason)))
    said = {told.cause, *told.evidence}
    return replace(told, reason=reason, evidence=(*told.evidence, *(one for one in evidence if one not in said)))


def _asking(reason: Reason) -> tuple[str, ...]:
    return ("look again: flawless tunnel status", f"what the code means: flawless explain {reason}")


def _evidence(outcome: Outcome) -> Sequence[str]:
    match outcome:
        case Passed(evidence=evidence):
            return evidence
        case Failed(cause=cause, evidence=evidence):
            return (cause, *evidence)
        case Skipped(because=because):
            return (because,)


def _row(
    verdict: str,
    reason: Reason | None,
    restart: Restart,
    when: Mapping[str, StrEnum | Sequence[StrEnum]],
    *tells: str,
    cause: str = "",
    steps: Sequence[str] = (),
) -> Row:
    states = {name: frozenset([one] if isinstance(one, StrEnum) else one) for name, one in when.items()}
    return Row(verdict, reason, restart, states, tells or tuple(when), cause, tuple(steps))


_LOGS: Final = "see what cloudflared printed: flawless logs tunnel -n 50"
_RESTART: Final = "restart it once, under the budget: flawless tunnel restart"

TABLE: Final = (
    # Proof from outside stands above whatever is seen here: the site is what its visitors get.
    _row("routed", None, Restart.NO, {"public": Public.OURS}),
    _row("offline", Reason.HOST_OFFLINE, Restart.NO, {"name": Name.OFFLINE}),
    # What keeps cloudflared from being started at all.
    _row(
        "no program",
        Reason.TOOL_MISSING,
        Restart.NO,
        {"process": Process.NONE, "configuration": Configuration.NO_PROGRAM},
        "configuration",
    ),
    _row(
        "configuration missing",
        Reason.TUNNEL_CONFIG_MISSING,
        Restart.NO,
        {"process": Process.NONE, "configuration": Configuration.MISSING},
        "configuration",
    ),
    _row(
        "configuration invalid",
        Reason.TUNNEL_CONFIG_INVALID,
        Restart.NO,
        {"process": (Process.NONE, Process.OURS), "configuration": Configuration.INVALID},
        "configuration",
    ),
    _row(
        "not running",
        Reason.TUNNEL_NOT_RUNNING,
        Restart.START,
        {"process": Process.NONE},
        "process",
        "public",
        cause="cloudflared does not run, so nobody reaches {hostname}",
        steps=("start it: flawless start tunnel", _LOGS),
    ),
    # The process itself.
    _row(
        "hung",
        Reason.TUNNEL_HUNG,
        Restart.ONCE,
        {"metrics": Metrics.SILENT},
        "metrics",
        "process",
        cause="cloudflared is there and answers nothing: it is frozen, or stuck",
        steps=(_RESTART, _LOGS),
    ),
    _row("temporary", Reason.TUNNEL_TEMPORARY, Restart.NO, {"kind": Kind.TEMPORARY}, "kind", "process"),
    _row("other tunnel", Reason.TUNNEL_OTHER, Restart.NO, {"kind": Kind.OTHER}, "kind", "process"),
    # Its way to the edge.
    _row(
        "credentials refused", Reason.TUNNEL_CREDENTIALS, Restart.NO, {"connection": Connection.REFUSED}, "connection"
    ),
    _row(
        "not connected",
        Reason.TUNNEL_NOT_CONNECTED,
        Restart.ONCE,
        {"connection": Connection.NONE},
        "connection",
        "process",
        "public",
        cause="cloudflared runs and has no connection to Cloudflare's edge, so nobody reaches {hostname}",
        steps=(_RESTART, "see why it does not connect: flawless logs tunnel -n 50"),
    ),
    _row(
        "not seen, not connected",
        Reason.TUNNEL_NOT_CONNECTED,
        Restart.ONCE,
        {"connection": Connection.UNKNOWN, "public": Public.NO_TUNNEL},
        "public",
        "metrics",
        "process",
        cause="cloudflared runs and shows nothing of itself here, and the edge knows no tunnel for {hostname}",
        steps=(_RESTART, "see why it does not connect: flawless logs tunnel -n 50"),
    ),
    _row(
        "still starting",
        Reason.TUNNEL_NOT_CONNECTED,
        Restart.ONCE,
        {"process": Process.OURS, "metrics": Metrics.NONE, "public": Public.UNASKED},
        "metrics",
        "process",
        cause="cloudflared was started and opens no metrics port: it waits for something, most often for DNS",
        steps=(
            "see what it printed: flawless logs tunnel -n 50",
            "see whether names are found here: nslookup cloudflare.com",
        ),
    ),
    # What it does with a request. A file that was edited may hold the very rule that is missed.
    _row(
        "stale configuration",
        Reason.TUNNEL_STALE_CONFIG,
        Restart.ONCE,
        {"file": File.EDITED},
        "file",
        "route",
        cause="cloudflared still runs with the configuration it was started with; the file was edited since",
        steps=("let it read the file: flawless tunnel restart",),
    ),
    _row("no rule", Reason.TUNNEL_NO_RULE, Restart.NO, {"route": Route.NO_RULE}, "route", "public"),
    _row(
        "route mismatch",
        Reason.TUNNEL_ROUTE_MISMATCH,
        Restart.NO,
        {"route": Route.OTHER_PORT},
        "route",
        "public",
    ),
    # cloudflared may try IPv4 next, so this counts only where the request did not come through.
    _row(
        "ipv6 origin",
        Reason.TUNNEL_IPV6_ORIGIN,
        Restart.NO,
        {"route": Route.IPV6, "public": (Public.BAD_GATEWAY, Public.UNASKED)},
        "route",
        "origin",
        "public",
    ),
    _row("origin down", Reason.TUNNEL_ORIGIN_DOWN, Restart.NO, {"origin": Origin.DOWN}, "origin", "route", "public"),
    # The public name.
    _row("name unknown", Reason.PUBLIC_DNS, Restart.NO, {"name": Name.NOWHERE}, "name"),
    _row("name split", Reason.PUBLIC_DNS_SPLIT, Restart.NO, {"name": Name.ELSEWHERE}, "name"),
    _row("other connector", Reason.TUNNEL_OTHER_CONNECTOR, Restart.NO, {"public": Public.MIXED}, "public", "kind"),
    _row(
        "edge disagrees",
        Reason.TUNNEL_EDGE_DISAGREES,
        Restart.ONCE,
        {"connection": Connection.READY, "public": Public.NO_TUNNEL},
        "public",
        "connection",
        "kind",
        cause="cloudflared says that it is connected, but {hostname} answers 530: the edge knows no tunnel for it",
        steps=(
            _RESTART,
            "see where the name leads: cloudflared tunnel info, or the CNAME of {hostname} in Cloudflare's dashboard",
        ),
    ),
    _row(
        "origin unreachable",
        Reason.TUNNEL_ORIGIN_DOWN,
        Restart.NO,
        {"public": Public.BAD_GATEWAY},
        "public",
        "route",
        "origin",
        cause="the edge reaches cloudflared, and cloudflared does not reach the service behind it ({hostname}: 502)",
        steps=("see which address its rule names: flawless tunnel status", _LOGS),
    ),
    _row("not on the tunnel", Reason.PUBLIC_NOT_ON_TUNNEL, Restart.NO, {"public": Public.NOT_ON_TUNNEL}),
    _row("wrong site", Reason.PUBLIC_WRONG_SITE, Restart.NO, {"public": Public.WRONG_SITE}),
    _row("stale", Reason.PUBLIC_STALE, Restart.NO, {"public": Public.STALE}),
    _row("asset type", Reason.PUBLIC_ASSET_TYPE, Restart.NO, {"public": Public.ASSET_TYPE}),
    _row("tls", Reason.PUBLIC_TLS, Restart.NO, {"public": Public.TLS}),
    _row("redirect", Reason.PUBLIC_REDIRECT, Restart.NO, {"public": Public.REDIRECT}),
    _row("access wall", Reason.PUBLIC_ACCESS_WALL, Restart.NO, {"public": Public.ACCESS_WALL}),
    _row("unhealthy", Reason.PUBLIC_UNHEALTHY, Restart.NO, {"public": Public.UNHEALTHY}),
    _row("unreachable", Reason.PUBLIC_UNREACHABLE, Restart.NO, {"public": Public.UNREACHABLE}, "public", "name"),
    # Nobody has asked from outside, and nothing here is known to be wrong: that is no yes.
    _row(
        "unproved",
        Reason.TUNNEL_UNSEEN,
        Restart.NO,
        {},
        "public",
        "connection",
        "metrics",
        cause="nothing proves that {hostname} leads here: it could not be asked from outside",
        steps=(
            "mend what kept it from being asked: see the evidence",
            "where nothing is: [public] checks in flawless.toml",
        ),
    ),
)
"""First match wins. Every combination of states that can occur is walked by a test."""
