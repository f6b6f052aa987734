"""URLs of databases: what the driver gets, what people are told."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flawless.core.secret import Secret
from flawless.database.address import MalformedUrl, Target, driver_arguments


@pytest.fixture(autouse=True)
def no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


def arguments(url: str) -> dict[str, Any]:
    return driver_arguments(Secret(url), application="flawless test")


def target(url: str) -> Target:
    return Target.of(Secret(url))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:p@db.example.org/shop", "db.example.org:5432"),
        ("postgres://u:p@10.0.0.1:6543/shop?sslmode=require", "10.0.0.1:6543"),
        ("postgresql://u:p@[::1]:5433/shop", "[::1]:5433"),
        ("postgresql://u:p@a:1,b:2/shop", "a:1, b:2"),
        ("postgresql://u:p@a,b/shop?port=6000", "a:6000, b:6000"),
        ("postgresql://u@/shop?host=/run/postgresql", "/run/postgresql (port 5432)"),
        ("postgresql://u:p@%2Frun%2Fpostgresql/shop", "/run/postgresql (port 5432)"),
        ("postgresql:///shop", "localhost:5432"),
    ],
)
def test_hosts_and_ports(url: str, place: str) -> None:
    """Every form of address that libpq knows is shown as the place it means."""
    assert target(url).place == place


def test_names_are_decoded_and_the_password_is_not_shown() -> None:
    """User and database are shown as they are; the password is in no text of the target."""
    known = target("postgresql://us%40er:can%3Aary@h/my%20shop?schema=app")
    assert (known.user, known.database, known.schema) == ("us@er", "my shop", "app")
    assert known.psql == "psql -h h -p 5432 -U us@er -d 'my shop'"
    assert "can:ary" not in f"{known!r} {known} {known.psql}"


def test_what_others_add_to_a_url_is_not_sent() -> None:
    """Prisma's, poolers' and libpq's own words reach neither the driver nor the server; libpq's options do."""
    foreign = "connection_limit=5&pgbouncer=true&pool_timeout=9&connect_timeout=9&channel_binding=require&schema=public"
    given_to_driver = arguments(f"postgresql://u:p@h/d?{foreign}&sslmode=require&options=-c%20jit%3Doff")
    assert given_to_driver["server_settings"] == {"application_name": "flawless test"}
    assert parse_qs(urlsplit(given_to_driver["dsn"]).query) == {"sslmode": ["require"], "options": ["-c jit=off"]}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("schema=app", '"app"'),
        ('schema=od"d', '"od""d"'),
        ("search_path=app,public", "app,public"),
        ("schema=public", None),
        ("schema=app&pgbouncer=true", None),
    ],
)
def test_schema_becomes_the_search_path(query: str, path: str | None) -> None:
    """Prisma's schema is set as search path, unless that says nothing or a pooler would refuse it."""
    assert arguments(f"postgresql://u:p@h/d?{query}")["server_settings"].get("search_path") == path


def test_ssl_true_is_sslmode_require() -> None:
    """JDBC's spelling is read as libpq reads it."""
    assert target("postgresql://u:p@h/d?ssl=true").demands_tls
    assert "sslmode=require" in arguments("postgresql://u:p@h/d?ssl=true")["dsn"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary",
        "prisma+postgres://h/?api_key=canary",
        "postgresql+asyncpg://u:canary@h/d",
        "mysql://u:canary@h/d",
        "postgresql://u:can/ary@h/d",
        "postgresql://u:can#ary@h/d",
        "postgresql://u:can@ary@h/d",
        "postgresql://u:canary@h:99999/d",
        "postgresql://u:canary@[::1/d",
        "postgresql://u:canary@h,/d",
        "postgresql://u:p@h:canary/d",
    ],
)
def test_a_malformed_url_is_refused_and_not_quoted(url: str) -> None:
    """What cannot be right is refused with the expected form; no piece of it is shown, nor in the chain of causes."""
    with pytest.raises(MalformedUrl) as caught:
        arguments(url)
    said = " ".join((str(caught.value), *caught.value.evidence, *caught.value.next_steps))
    assert not any(piece in said for piece in ("canary", "can/", "can@", "ary"))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert target(url).place == "?:5432"


@given(st.text())
def test_no_url_makes_it_fail(rest: str) -> None:
    """Whatever stands in the URL, the target is made."""
    assert target("postgresql://" + rest).place


def test_a_password_in_a_peers_words_is_masked() -> None:
    """A peer that repeats the password does not get it shown; a password that is a common word masks nothing."""
    assert target("postgresql://u:canary@h/d").without_password("no canary here") == "no **** here"
    assert target("postgresql://postgres:postgres@h/d").without_password('user "postgres"') == 'user "postgres"'
