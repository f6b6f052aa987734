"""The questions about ports: is it free, ours already, a stranger's, or another supervisor's?

Free is free on the service's own address, on 127.0.0.1, on ::1 and on the wildcards: a browser that is told `localhost`
takes whichever answers first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shlex
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from flawless.core.check import Failed, Outcome, Passed
from flawless.core.port import WILDCARDS, Listener
from flawless.core.reason import Reason
from flawless.core.supervision import Supervision

_LOCALHOST: Final = frozenset({"127.0.0.1", "::1"})
_FRESH: Final = 0.2
"""Seconds for which one reading of the socket table answers all questions of a set."""


class PortReader(Protocol):
    """The machine's sockets, as far as ports are concerned."""

    def listeners_on(self, ports: Collection[int]) -> Sequence[Listener]:
        """Who listens on these ports, on whichever address."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A service that another environment of this very project runs, and what would stop it there."""

    service: str
    environment: str | None
    stop: str

    def __str__(self) -> str:
        place = f"the environment {self.environment}" if self.environment else "the default environment"
        return f"{self.service} of {place}"


async def _no_neighbour(_pid: int) -> None:
    """A project need not have several environments."""


@dataclass(frozen=True, slots=True)
class World:
    """What a port's question needs of the world.

    `is_bindable`: whether an address and port could be bound now. `own`: the processes of each service of this stack.
    `supervision`: who would start a process again. `stack_of`: the folder of the other Flawless stack it belongs to.
    `neighbour_of`: what it is in another environment of this project. `manifest`: the file in which a port is changed.
    """

    sockets: PortReader
    is_bindable: Callable[[str, int], bool]
    own: Callable[[], Awaitable[Mapping[str, frozenset[int]]]]
    supervision: Callable[[int], Supervision | None]
    stack_of: Callable[[int], str | None]
    neighbour_of: Callable[[int], Awaitable[Neighbour | None]] = _no_neighbour
    manifest: str = "flawless.toml"


@dataclass(slots=True)
class PortTable:
    """Reads the socket table once for all ports of a stack that are asked side by side. `services`: those declared."""

    world: World
    ports: frozenset[int]
    services: frozenset[str] = frozenset()
    _read_at: float = field(default=float("-inf"), repr=False)
    _listeners: Sequence[Listener] = field(default=(), repr=False)
    _own: asyncio.Future[Mapping[str, frozenset[int]]] | None = field(default=None, repr=False)

    def listeners(self, port: int) -> list[Listener]:
        now = time.monotonic()
        if now - self._read_at > _FRESH:
            self._listeners = self.world.sockets.listeners_on(self.ports)
            self._read_at = time.monotonic()
            self._own = None
        return [one for one in self._listeners if one.port == port]

    async def own(self) -> Mapping[str, frozenset[int]]:
        """The processes of each service of this stack, looked up once a reading."""
        if self._own is None:
            self._own = asyncio.ensure_future(self.world.own())
        return await asyncio.shield(self._own)


@dataclass(frozen=True, slots=True)
class PortFree:
    """The port of a service is free, or held by that very service, which this run takes over."""

    service: str
    host: str
    port: int
    table: PortTable
    optional: bool = False

    @property
    def id(self) -> str:
        return f"port.free:{self.service}"

    @property
    def claim(self) -> str:
        return f"port {self.port} is free for {self.service}"

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - the kernel's tables are read at once
        held = [one for one in self.table.listeners(self.port) if self._is_in_the_way(one)]
        if not held:
            return self._bindable()
        own = await self.table.own()
        mine = own.get(self.service, frozenset())
        others = [one for one in held if not one.pids & mine and not self._is_leaving(one, own)]
        if not others and not held[0].pids & mine:
            leaver = self._sibling(held[0], own)
            return Passed((f"held by our own {leaver}, which the manifest no longer names and which makes room",))
        if not others:
            pids = ", ".join(str(pid) for pid in sorted(held[0].pids & mine))
            return Passed((f"held by our own {self.service} (pid {pids}), taken over",))
        failed = await self._neighbours(others) or self._held(others[0], others, own)
        is_ousted = bool(mine) and not any(one.pids & mine for one in held)
        again = f"once the port is free, start what runs without it anew: flawless restart {self.service}"
        return replace(failed, next_steps=(*failed.next_steps, again)) if is_ousted else failed

    def _sibling(self, listener: Listener, own: Mapping[str, frozenset[int]]) -> str | None:
        return next((name for name, pids in own.items() if listener.pids & pids), None)

    def _is_leaving(self, listener: Listener, own: Mapping[str, frozenset[int]]) -> bool:
        """It belongs to a service that the manifest no longer names: a deploy stops that one first."""
        sibling = self._sibling(listener, own)
        return sibling is not None and sibling not in self.table.services

    def _is_in_the_way(self, listener: Listener) -> bool:
        address = _plain(listener.address)
        return self.host in WILDCARDS or address == self.host or address in _LOCALHOST | WILDCARDS

    async def _neighbours(self, others: Sequence[Listener]) -> Failed | None:
        """Another environment of this project has it: nothing is wrong with that service, only with the port."""
        pids = others[0].pids
        found = await self.table.world.neighbour_of(min(pids)) if pids else None
        if found is None:
            return None
        cause = f"port {self.port} for {self.service} is held by {found}, which is of this project too"
        steps = (f"give each its own: {self._place}", f"or stop it there: {found.stop}")
        return Failed(Reason.PORT_HELD_FOREIGN, cause, tuple(str(one) for one in others), steps)

    def _held(self, first: Listener, others: Sequence[Listener], own: Mapping[str, frozenset[int]]) -> Failed:
        sibling = self._sibling(first, own)
        evidence = tuple(str(one) for one in others)
        if sibling is not None:
            cause = f"port {self.port} for {self.service} is held by {sibling}, another service of this stack"
            return Failed(Reason.PORT_HELD_FOREIGN, cause, evidence, (f"flawless stop {sibling}", self._move()))
        if not first.pids:
            return self._unseen(first, evidence)
        pid = min(first.pids)
        supervision = self.table.world.supervision(pid)
        if supervision is not None:
            return self._supervised(supervision, evidence)
        stack = self.table.world.stack_of(pid)
        if stack is not None:
            cause = f"port {self.port} for {self.service} is held by a service of another Flawless stack"
            steps = (f"stop it there: cd {shlex.quote(stack)} && flawless stop", self._move())
            return Failed(Reason.PORT_HELD_FOREIGN, cause, (*evidence, f"it runs in {stack}"), steps)
        return self._foreign(first, pid, evidence)

    def _foreign(self, first: Listener, pid: int, evidence: tuple[str, ...]) -> Failed:
        who = first.owner.command if first.owner else "a process that has just ended"
        cause = f"port {self.port} for {self.service} is held by a process that is not ours: {who}"
        end = f"end it, if you know what it is: kill {pid}"
        return Failed(Reason.PORT_HELD_FOREIGN, cause, evidence, (end, self._move()))

    def _unseen(self, first: Listener, evidence: tuple[str, ...]) -> Failed:
        user = f"uid {first.uid}" if first.uid is not None else "another user"
        cause = f"port {self.port} for {self.service} is held by a process of {user}, which we may not see"
        show = f"see which process it is: sudo ss -ltnp 'sport = :{self.port}'"
        return Failed(Reason.PORT_HELD_FOREIGN, cause, evidence, (show, self._move()))

    def _supervised(self, supervision: Supervision, evidence: tuple[str, ...]) -> Failed:
        cause = f"{self.service}'s port {self.port} belongs to {supervision.by}: {supervision.unit}"
        again = f"{supervision}, and would start it again"
        steps = (f"let one of the two look after it: {supervision.stop}", self._move())
        return Failed(Reason.SERVICE_OWNED_ELSEWHERE, cause, (*evidence, again), steps)

    def _bindable(self) -> Outcome:
        """Nobody listens; still a socket may be bound to it, or an outgoing connection may use it."""
        refused = [host for host in sorted({self.host, *_LOCALHOST}) if not self._may_bind(host)]
        if not refused:
            return Passed((f"nobody listens on {self.port}, and it can be bound",))
        return Failed(
            Reason.PORT_HELD_FOREIGN,
            f"port {self.port} for {self.service} cannot be bound, though nobody listens on it",
            (f"the system refuses {', '.join(refused)}: a socket is bound to it, or a connection uses it",),
            (f"see who uses it: sudo ss -tanp 'sport = :{self.port}'", self._move()),
        )

    def _may_bind(self, host: str) -> bool:
        # Below 1024 the right to bind is the service's own affair (a capability, a setting of the kernel).
        return self.port < 1024 or not _is_address(host) or self.table.world.is_bindable(host, self.port)

    def _move(self) -> str:
        return f"or give {self.service} another port: {self._place}"

    @property
    def _place(self) -> str:
        return f"services.{self.service}.port in {self.table.world.manifest}"


def _plain(address: str) -> str:
    """An IPv4 address that is written as IPv6 is the IPv4 address."""
    mapped = ipaddress.ip_address(address.partition("%")[0])
    return str(mapped.ipv4_mapped) if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped else address


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
