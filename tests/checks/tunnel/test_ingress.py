"""Ingress rules, as cloudflared's own source reads them."""

from __future__ import annotations

import pytest

from flawless.checks.tunnel.ingress import Place, Rule, complaints, first_match, rules_of

CATCH_ALL = Rule("http_status:404")


@pytest.mark.parametrize(
    ("rule", "hostname", "path", "does"),
    [
        (Rule("s", "app.example.org"), "app.example.org", "/", True),
        (Rule("s", "app.example.org"), "APP.Example.org", "/", True),
        (Rule("s", "app.example.org"), "example.org", "/", False),
        (Rule("s", "*.example.org"), "app.example.org", "/", True),
        (Rule("s", "*.example.org"), "a.b.example.org", "/", True),
        (Rule("s", "*.example.org"), "example.org", "/", False),
        (Rule("s", "*.example.org"), "badexample.org", "/", False),
        (Rule("s", "*"), "app.example.org", "/", True),
        (Rule("s"), "app.example.org", "/", True),
        (Rule("s", path="^/api"), "app.example.org", "/", False),
        (Rule("s", path="^/api"), "app.example.org", "/api/1", True),
        (Rule("s", path=r"\.png$"), "app.example.org", "/a/b.png", True),
        (Rule("s", path="("), "app.example.org", "/", False),
    ],
)
def test_whether_a_rule_fits(rule: Rule, hostname: str, path: str, does: bool) -> None:  # noqa: FBT001 - a column
    """Exact, `*.` in front, or none for all; a path is searched for."""
    assert (first_match([rule], hostname, path) is rule) is does


def test_the_first_that_fits_is_met() -> None:
    """Order decides, not exactness."""
    wide, exact = Rule("a", "*.example.org"), Rule("b", "app.example.org")
    assert first_match([wide, exact, CATCH_ALL], "app.example.org") is wide
    assert first_match([exact, wide, CATCH_ALL], "app.example.org") is exact
    assert first_match([exact, CATCH_ALL], "other.example.org") is CATCH_ALL
    assert first_match([], "app.example.org") is None


@pytest.mark.parametrize(
    ("service", "place"),
    [
        ("http://localhost:3000", Place("localhost", 3000)),
        ("https://127.0.0.1", Place("127.0.0.1", 443)),
        ("http://[::1]:80", Place("::1", 80)),
        ("ssh://host", Place("host", 22, is_http=False)),
        ("ws://host", Place("host", 80)),
        ("unix:/run/x.sock", None),
        ("http_status:404", None),
        ("hello_world", None),
        ("http://host:port", None),
        ("", None),
    ],
)
def test_where_a_service_is(service: str, place: Place | None) -> None:
    """Host and port, with the port of the scheme where none is named."""
    assert Rule(service).place == place


@pytest.mark.parametrize(
    "service",
    [
        "http://localhost:3000",
        "https://[::1]:8443",
        "tcp://10.0.0.1:5432",
        "ssh://localhost:22",
        "unix:/run/web.sock",
        "unix+tls:/run/web.sock",
        "http_status:404",
        "hello_world",
        "bastion",
        "socks-proxy",
    ],
)
def test_services_that_it_takes(service: str) -> None:
    """Each form of CLOUDFLARED's list."""
    assert list(complaints([Rule(service)])) == []


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([Rule("http://localhost:3000", "a.b")], "the last rule must take every request"),
        ([Rule("http://localhost:3000", path="/x")], "the last rule must take every request"),
        ([CATCH_ALL, CATCH_ALL], "rule 1 takes every request"),
        ([Rule("http://localhost:3000/")], "has a path, and cloudflared takes none: write http://localhost:3000"),
        ([Rule("http://localhost:3000/api")], "has a path"),
        ([Rule("localhost:3000")], "needs a scheme and a host"),
        ([Rule("http://:3000")], "needs a scheme and a host"),
        ([Rule("http://localhost:99999")], "is no address"),
        ([Rule("")], "needs a scheme and a host"),
        ([Rule("http_status:99")], "is no HTTP status"),
        ([Rule("hello_world", "a.b:80"), CATCH_ALL], "has a port"),
        ([Rule("hello_world", "a.*.b"), CATCH_ALL], "has a * that is not its first label"),
        ([Rule("hello_world", "*a.b"), CATCH_ALL], "has a * that is not its first label"),
        ([Rule("hello_world", "a.b", "(["), CATCH_ALL], "is no regular expression"),
    ],
)
def test_rules_that_it_refuses(rules: list[Rule], said: str) -> None:
    """What `cloudflared tunnel ingress validate` says no to, in words of our own."""
    assert [line for _, line in complaints(rules) if said in line]


def test_expressions_that_python_lacks() -> None:
    """Cloudflared's are RE2's; of those nobody is told that they are wrong."""
    assert list(complaints([Rule("hello_world", "a.b", r"\pL\z"), CATCH_ALL])) == []
    assert list(complaints([Rule("hello_world", "a.b", r"[[:alpha:]]"), CATCH_ALL])) == []


def test_rules_of_a_document() -> None:
    """What is no list of rules gives none; a null is an empty text."""
    found = rules_of([{"hostname": None, "service": "http://a:1", "path": "/x"}, "nonsense"], [7, 9])
    assert found == (Rule("http://a:1", "", "/x", 7),)
    assert rules_of({"a": 1}) == rules_of(None) == ()
    assert str(found[0]) == "any hostname /x -> http://a:1"
