"""One table from errors to reasons, with recorded samples."""

from __future__ import annotations

import errno
import socket
import ssl

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.database.address import Target
from flawless.database.explanation import CAUSES
from flawless.database.failure import BY_ERRNO, BY_STATE, TELLING_WORDS, classify
from flawless.database.peer import Peer

HERE = Target.of(Secret("postgresql://shop:canary@127.0.0.1:5432/shop?sslmode=disable"))
FAR = Target.of(Secret("postgresql://shop:canary@db.example.org/shop?sslmode=require"))


def answered(state: str, message: str) -> asyncpg.PostgresError:
    """The driver's own exception for a server's message."""
    fields = {"S": "FATAL", "C": state, "M": message}
    return asyncpg.PostgresError.new(fields)


SAMPLES = [
    # PostgreSQL 18
    ("28P01", 'password authentication failed for user "shop"', Reason.DB_AUTH),
    ("28000", 'role "shop" does not exist', Reason.DB_AUTH),
    ("28000", 'no pg_hba.conf entry for host "10.0.0.2", user "shop", database "shop", no encryption', Reason.DB_AUTH),
    ("3D000", 'database "shop" does not exist', Reason.DB_NO_DATABASE),
    ("53300", "sorry, too many clients already", Reason.DB_TOO_MANY_CONNECTIONS),
    ("57P03", "the database system is starting up", Reason.DB_STARTING),
    ("57P03", "the database system is in recovery mode", Reason.DB_STARTING),
    ("57P01", "terminating connection due to administrator command", Reason.DB_LOST),
    ("25006", "cannot execute CREATE TABLE in a read-only transaction", Reason.DB_READ_ONLY),
    ("42501", 'permission denied for database "shop"', Reason.DB_PERMISSION),
    ("57014", "canceling statement due to statement timeout", Reason.DB_TIMEOUT),
    ("53100", "could not extend file: No space left on device", Reason.DB_ERROR),
    # PgBouncer
    ("08P01", "no such database: shop", Reason.DB_NO_DATABASE),
    ("08P01", "no such user: shop", Reason.DB_AUTH),
    ("08P01", "SASL authentication failed", Reason.DB_AUTH),
    ("08P01", "no more connections allowed (max_client_conn)", Reason.DB_TOO_MANY_CONNECTIONS),
    ("08P01", "pgbouncer cannot connect to server", Reason.DB_LOST),
    ("08P01", "server login has been failing, cached error: connect failed (server_login_retry)", Reason.DB_LOST),
    ("08P01", "SSL required", Reason.DB_TLS),
    ("08P01", "unsupported startup parameter: search_path", Reason.DB_PROTOCOL),
    # hosted
    ("28000", "SSL connection is required. Please specify SSL options and retry.", Reason.DB_TLS),
    ("28000", "connection is insecure (try using `sslmode=require`)", Reason.DB_TLS),
    ("XX000", "Tenant or user not found", Reason.DB_AUTH),
    ("XX000", "Max client connections reached", Reason.DB_TOO_MANY_CONNECTIONS),
    ("XX000", "MaxClientsInSessionMode: max clients reached", Reason.DB_TOO_MANY_CONNECTIONS),
]


@pytest.mark.parametrize(("state", "message", "reason"), SAMPLES)
def test_what_servers_say(state: str, message: str, reason: Reason) -> None:
    """Each recorded message has its reason, names the SQLSTATE and repeats the server's words."""
    failed = classify(answered(state, message), HERE)
    assert failed.reason is reason
    assert failed.evidence == (str(HERE), f"SQLSTATE {state}: {message}")


def test_every_telling_word_has_a_sample() -> None:
    """No text decides without a recorded message that contains it."""
    said = [message for _, message, _ in SAMPLES]
    assert [words for words, _ in TELLING_WORDS if not any(words in message for message in said)] == []


SYSTEM = [
    (OSError(errno.EMFILE, "Too many open files"), Reason.HOST_LIMITS),
    (OSError(errno.ENFILE, "Too many open files in system"), Reason.HOST_LIMITS),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), Reason.HOST_LIMITS),
    (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), Reason.HOST_LIMITS),
    (RuntimeError("can't start new thread"), Reason.HOST_LIMITS),
    (MemoryError(), Reason.HOST_LIMITS),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), Reason.DB_REFUSED),
    (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 101] no"), Reason.DB_REFUSED),
    (OSError("Multiple exceptions: [Errno 24] Too many open files, [Errno 111] no"), Reason.HOST_LIMITS),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), Reason.DB_LOST),
    (OSError(errno.EHOSTUNREACH, "No route to host"), Reason.DB_TIMEOUT),
    (PermissionError(errno.EPERM, "Operation not permitted"), Reason.DB_PERMISSION),
    (OSError(errno.EBUSY, "Device or resource busy"), Reason.DB_ERROR),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.DB_DNS),
    (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), Reason.HOST_LIMITS),
    (TimeoutError(), Reason.DB_TIMEOUT),
    (ssl.SSLCertVerificationError("self-signed certificate"), Reason.DB_TLS),
    (ssl.SSLEOFError("EOF occurred in violation of protocol"), Reason.DB_LOST),
    (ConnectionError("unexpected connection_lost() call"), Reason.DB_LOST),
    (ConnectionError('PostgreSQL server at "h:1" rejected SSL upgrade'), Reason.DB_PROTOCOL),
    (asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"), Reason.DB_LOST),
    (asyncpg.InterfaceError("connection is closed"), Reason.DB_LOST),
    (asyncpg.InternalClientError("got result for unknown protocol state 3"), Reason.DB_PROTOCOL),
    (asyncpg.TargetServerAttributeNotMatched("None of the hosts match"), Reason.DB_READ_ONLY),
    (asyncpg.ClientConfigurationError("`sslmode` parameter must be one of"), Reason.ENV_MALFORMED),
    (KeyError("never seen"), Reason.DB_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("error", "reason"), SYSTEM, ids=lambda value: repr(value)[:50])
def test_what_the_system_and_the_driver_say(error: BaseException, reason: Reason) -> None:
    """Each error that is no server's message has its reason, with a cause and lines to paste."""
    failed = classify(error, HERE)
    assert failed.reason is reason
    assert "{" not in failed.cause + "".join(failed.next_steps).replace("${", "")
    assert str(HERE) in failed.evidence


def test_tls_that_the_server_has_not() -> None:
    """The same refusal of TLS is DB_TLS when the URL demands it: the server said no."""
    refusal = ConnectionError('PostgreSQL server at "h:1" rejected SSL upgrade')
    assert classify(refusal, FAR, Peer(accepted=True, greeting=b"N")).reason is Reason.DB_TLS
    assert classify(refusal, FAR).reason is Reason.DB_TLS
    assert classify(refusal, FAR, Peer(accepted=True, greeting=b"HTTP/1.1 400")).reason is Reason.DB_PROTOCOL


def test_no_rule_and_tls_on_offer_is_about_tls() -> None:
    """A missing rule is DB_TLS only for a URL without TLS, to a server that has it."""
    refusal = answered("28000", "no pg_hba.conf entry for host, no encryption")
    assert classify(refusal, HERE, Peer(accepted=True, greeting=b"S")).reason is Reason.DB_TLS
    assert classify(refusal, HERE, Peer(accepted=True, greeting=b"N")).reason is Reason.DB_AUTH
    assert classify(refusal, FAR, Peer(accepted=True, greeting=b"S")).reason is Reason.DB_AUTH


def test_an_error_wrapped_by_sqlalchemy_is_the_same() -> None:
    """The driver's error is found below SQLAlchemy's."""
    inner = RuntimeError("adapted")
    inner.__cause__ = answered("3D000", 'database "shop" does not exist')
    assert classify(DBAPIError("SELECT 1", {}, inner), HERE).reason is Reason.DB_NO_DATABASE


def test_the_url_is_never_quoted_by_a_value_error() -> None:
    """Errors about values quote pieces of the URL; their words are left out."""
    failed = classify(ValueError("invalid literal for int() with base 10: 'canary'"), HERE)
    assert "canary" not in repr(failed)


def test_for_the_embedded_database_the_first_step_starts_it() -> None:
    """Our own database is started by our own command."""
    own = Target.of(Secret("postgresql://u:p@127.0.0.1:1/d"), embedded=True)
    failed = classify(ConnectionRefusedError(errno.ECONNREFUSED, "x"), own)
    assert failed.cause.startswith("the embedded database does not run, or has died")
    assert failed.next_steps[0] == "start it: flawless db start"
    assert not any("DATABASE_URL" in step for step in failed.next_steps)


def test_the_embedded_database_is_asked_by_our_own_command() -> None:
    """Nobody knows its password."""
    own = Target.of(Secret("postgresql://u:p@127.0.0.1:1/d"), embedded=True)
    assert own.psql == "flawless db psql"
    failed = classify(TimeoutError(), own)
    assert failed.next_steps[:2] == ("flawless db stop && flawless db start", "flawless db psql -c 'SELECT 1'")


def test_every_reason_has_its_words() -> None:
    """No reason of the tables is without a sentence and steps."""
    for reason in {*BY_STATE.values(), *BY_ERRNO.values(), *(meant for _, meant in TELLING_WORDS)}:
        assert CAUSES[reason]


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (Peer(), "the packets vanish"),
        (Peer(accepted=True), "accepts connections but never answers"),
        (Peer(accepted=True, greeting=b"N"), "speaks PostgreSQL but did not let us in"),
        (Peer(accepted=True, logged_in=True), "let us in"),
        (None, "did not answer in time"),
    ],
)
def test_kinds_of_silence(peer: Peer | None, words: str) -> None:
    """A time-out says how far it came."""
    assert words in classify(TimeoutError(), HERE, peer).cause
