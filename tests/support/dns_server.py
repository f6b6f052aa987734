"""A DNS server on loopback that answers as it is told.

with dns_server({"app.example.org": ["127.0.0.1"]}) as dns:
    dns.records["app.example.org"] = None     # from now on it says nothing when asked for that name
    ... ask dns.address ...
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = dict[str, Sequence[str] | dns.rcode.Rcode | None]
"""Addresses of a name; no address: the name is there and has none; None: no answer; a code: that answer, SERVFAIL say.
A name that is not there is answered NXDOMAIN.
"""


class DnsServer:
    """`asked`: name and type of every question, in order."""

    def __init__(self, records: Mapping[str, Sequence[str] | dns.rcode.Rcode | None]) -> None:
        self.records: Records = dict(records)
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name=f"dns-{self.port}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        # Its own thread is the one that ends it: closing a socket wakes nobody who reads from it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            answer = self._answer(dns.message.from_wire(data))
            if answer is not None:
                self._socket.sendto(answer.to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype
        self.asked.append((name, dns.rdatatype.to_text(kind)))
        answer = dns.message.make_response(query, recursion_available=True)
        if name not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer
        found = self.records[name]
        match found:
            case None:
                return None
            case dns.rcode.Rcode():
                answer.set_rcode(found)
            case _:
                version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(kind)
                fitting = [one for one in found if ip_address(one).version == version]
                if fitting:
                    answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *fitting))
        return answer


@contextmanager
def dns_server(records: Mapping[str, Sequence[str] | dns.rcode.Rcode | None] | None = None) -> Iterator[DnsServer]:
    """Serves for the time of the block."""
    server = DnsServer(records or {})
    try:
        yield server
    finally:
        server.close()
