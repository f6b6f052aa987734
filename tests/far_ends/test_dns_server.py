"""The DNS server answers as it is told, and bounds what it says."""

from __future__ import annotations

import threading

import dns.message
import dns.query
import dns.rcode
import pytest

from support.dns_server import DnsServer, dns_server


def ask(server: DnsServer, name: str, kind: str, limit: float = 2.0) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", timeout=limit, port=server.port)


def test_it_answers_with_the_addresses_of_the_kind_that_is_asked_for() -> None:
    """A and AAAA, each its own; the questions are kept."""
    with dns_server({"app.example.org": ["127.0.0.1", "127.0.0.2", "::1"]}) as server:
        four, six = ask(server, "app.example.org", "A"), ask(server, "App.Example.org", "AAAA")

        assert sorted(str(one) for one in four.answer[0]) == ["127.0.0.1", "127.0.0.2"]
        assert [str(one) for one in six.answer[0]] == ["::1"]
        assert server.asked == [("app.example.org", "A"), ("app.example.org", "AAAA")]
        assert server.address == f"127.0.0.1:{server.port}"


def test_an_unknown_name_is_nxdomain_and_a_name_without_address_is_empty() -> None:
    """Two different answers."""
    with dns_server({"empty.example.org": [], "broken.example.org": dns.rcode.SERVFAIL}) as server:
        assert ask(server, "other.example.org", "A").rcode() is dns.rcode.NXDOMAIN
        empty = ask(server, "empty.example.org", "A")
        assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
        assert ask(server, "broken.example.org", "A").rcode() is dns.rcode.SERVFAIL


def test_it_can_say_nothing() -> None:
    """And speak again when it is told to."""
    with dns_server({"app.example.org": None}) as server:
        with pytest.raises(dns.exception.Timeout):
            ask(server, "app.example.org", "A", limit=0.1)
        server.records["app.example.org"] = ["127.0.0.1"]
        assert ask(server, "app.example.org", "A").answer


def test_its_thread_ends_with_it() -> None:
    """Whatever it was asked."""
    before = set(threading.enumerate())
    with dns_server():
        pass
    assert set(threading.enumerate()) == before
