"""Whether the public name is found in DNS: here, by the manifest's own word, or by others alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from flawless.core.check import Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.tunnel import Name, Seen

_HERE: Final = 0.5
"""The part of the limit that this machine's own resolver may take; the rest is for the others."""

_TEMPORARY: Final = frozenset({socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM})


LookUp = Callable[[str], list[str]]
"""The addresses of a name, as this machine finds them. Blocks; raises OSError (socket.gaierror)."""


def _addresses_of(host: str) -> list[str]:
    """What this machine's resolver answers, each address once; may take half a minute."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"it is no name: {error}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@dataclass(frozen=True, slots=True)
class Absent:
    """A resolver's word that there is no such name, or no address for it."""

    said: str


@dataclass(frozen=True, slots=True)
class NameKnown:
    """Claims that a host is found here. `pinned`: where the manifest says it is. `resolvers`, "address:port", are asked
    when it is not found. `key`: what the id calls it, where its ports are told apart.
    """

    host: str
    pinned: str | None
    resolvers: Sequence[str]
    key: str
    optional: bool = False
    look_up: LookUp = _addresses_of

    @property
    def id(self) -> str:
        return f"public.resolves:{self.key}"

    @property
    def claim(self) -> str:
        return f"{self.host} is found in DNS"

    async def ask(self, limit: float) -> Outcome:
        return (await self.look(limit)).outcome

    async def look(self, limit: float) -> Seen[Name]:
        """The state with its outcome, within the limit, whatever the resolvers do."""
        if self.pinned is not None:
            return Seen(Name.PINNED, Passed((f"{self.host}: {self.pinned}, as [public] resolve says",)))
        if _is_address(self.host):
            return Seen(Name.RESOLVES, Passed((f"{self.host} is an address",)))
        try:
            async with asyncio.timeout(limit * _HERE):
                found = await _looked_up(self.host, self.look_up)
        except OSError as error:
            return await self._elsewhere(error, limit * (1 - _HERE))
        return Seen(Name.RESOLVES, Passed((f"{self.host}: {', '.join(found)}",)))

    async def _elsewhere(self, error: OSError, limit: float) -> Seen[Name]:
        answers = await asyncio.gather(*(_asked(self.host, one, limit * 0.9) for one in self.resolvers))
        here = f"this machine: {error.strerror or 'no answer in time'}"
        said = [here, *(f"{place}: {_said(answer)}" for place, answer in zip(self.resolvers, answers, strict=True))]
        if any(isinstance(answer, list) for answer in answers):
            return Seen(Name.ELSEWHERE, self._split(said))
        if any(isinstance(answer, Absent) for answer in answers) or not _is_temporary(error):
            return Seen(Name.NOWHERE, self._nowhere(said))
        return Seen(Name.OFFLINE, self._offline(said))

    def _split(self, said: Sequence[str]) -> Failed:
        return Failed(
            Reason.PUBLIC_DNS_SPLIT,
            f"{self.host} is found by others, and not by this machine",
            tuple(said),
            (
                f"see whom this machine asks: getent ahosts {self.host}; cat /etc/resolv.conf",
                "right after a change of DNS wait for the old answer to expire, or pin the name: [public] resolve",
                f"what the code means: flawless explain {Reason.PUBLIC_DNS_SPLIT}",
            ),
        )

    def _nowhere(self, said: Sequence[str]) -> Failed:
        return Failed(
            Reason.PUBLIC_DNS,
            f"{self.host} is not found in DNS",
            tuple(said),
            (
                f"make the record: cloudflared tunnel route dns TUNNEL {self.host}",
                f"see whether it is there: dig +short {self.host} @1.1.1.1",
                f"what the code means: flawless explain {Reason.PUBLIC_DNS}",
            ),
        )

    def _offline(self, said: Sequence[str]) -> Failed:
        return Failed(
            Reason.HOST_OFFLINE,
            f"this machine finds no name at all, {self.host} neither: it seems to be offline",
            tuple(said),
            (
                "see whether this machine has a network: ping -c 3 1.1.1.1",
                f"what the code means: flawless explain {Reason.HOST_OFFLINE}",
            ),
        )


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _is_temporary(error: OSError) -> bool:
    return isinstance(error, TimeoutError) or error.errno in _TEMPORARY


async def _looked_up(host: str, look_up: LookUp) -> list[str]:
    """The addresses this machine finds. In a thread of its own that nobody waits for: a resolver may hang for half a
    minute, and the loop's own threads are waited for at the end of a command.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def ask() -> None:
        found: list[str] | OSError
        try:
            found = look_up(host)
        except OSError as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    return await answer


def _settle(answer: asyncio.Future[list[str]], found: list[str] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


async def _asked(host: str, place: str, limit: float) -> list[str] | Absent | None:
    """The addresses that one resolver knows, its word that there are none, or nothing at all."""
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver
    import dns.resolver

    address, _, port = place.rpartition(":")
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(address.strip("[]"), int(port))]
    absent = "it has no address"
    for kind in ("A", "AAAA"):
        try:
            async with asyncio.timeout(limit / 2):
                return [str(one) for one in await resolver.resolve(f"{host}.", kind, lifetime=limit / 2)]
        except dns.resolver.NXDOMAIN:
            return Absent("no such name (NXDOMAIN)")
        except dns.resolver.NoAnswer:
            continue
        except (dns.exception.DNSException, OSError):
            return None
    return Absent(absent)


def _said(answer: list[str] | Absent | None) -> str:
    match answer:
        case list():
            return ", ".join(answer)
        case Absent(said=said):
            return said
    return "no answer"
