"""Who listens where, as values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - they are compared with, not bound to


@dataclass(frozen=True, slots=True)
class Owner:
    """A process as a person needs to see it."""

    pid: int
    command: str
    user: str
    since: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}), user {self.user}, since {self.since}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `owner` is described for strangers only; where we may not see it, `uid` is all we know."""

    address: str
    port: int
    pids: frozenset[int]
    owner: Owner | None
    uid: int | None

    def serves(self, host: str) -> bool:
        """A connection to this address may end here: `::` takes IPv4 too, `0.0.0.0` never takes IPv6."""
        return self.address in {host, "::"} or (self.address in WILDCARDS and ":" not in host)

    def __str__(self) -> str:
        place = f"[{self.address}]" if ":" in self.address else self.address
        who = (
            str(self.owner)
            if self.owner
            else "a process we may not see" + (f" (uid {self.uid})" if self.uid is not None else "")
        )
        return f"{place}:{self.port} is held by {who}"


class Sockets(Protocol):
    """The machine's listening TCP sockets."""

    def listeners(self, port: int, likely: Collection[int] = ()) -> Sequence[Listener]:
        """Who listens on this port, on whichever address. The `likely` processes are looked at first, and alone when
        the sockets are theirs: looking at all is slow where there are many.
        """

    def ports_of(self, pids: Collection[int]) -> Sequence[Listener]:
        """Where these processes listen."""


def answering(listeners: Sequence[Listener], hosts: Collection[str]) -> list[Listener]:
    """Those that a connection to one of these addresses can end at: an exact address comes before a wildcard."""
    found: list[Listener] = []
    for host in hosts:
        exact = [one for one in listeners if one.address == host]
        found += [one for one in exact or listeners if one.serves(host) and one not in found]
    return found
