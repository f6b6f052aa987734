"""What is said about a database that failed: the cause in a sentence, and lines to paste."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path

from flawless.core.plain import printable
from flawless.core.reason import Reason
from flawless.database.address import Target
from flawless.database.peer import Peer

CAUSES = {
    Reason.DB_REFUSED: "nothing accepts connections at {place}",
    Reason.DB_DNS: 'the host name "{host}" of the database cannot be resolved',
    Reason.DB_TIMEOUT: "the database at {place} did not answer in time",
    Reason.DB_AUTH: 'the database at {place} does not let the user "{user}" in',
    Reason.DB_NO_DATABASE: 'there is no database "{database}" on {place}',
    Reason.DB_TLS: "no agreement on TLS with the database at {place}",
    Reason.DB_TOO_MANY_CONNECTIONS: "the database at {place} has no connection left for us",
    Reason.DB_STARTING: "the database at {place} is starting up, shutting down or recovering",
    Reason.DB_READ_ONLY: "the database at {place} takes no writes: a standby, or set to read-only",
    Reason.DB_LOST: "the connection to the database at {place} was cut",
    Reason.DB_PROTOCOL: "what answers at {place} does not speak PostgreSQL as expected",
    Reason.DB_PERMISSION: 'the user "{user}" lacks a right on the database at {place}',
    Reason.DB_ERROR: "the database at {place} could not be used",
    Reason.HOST_LIMITS: "this machine has no file descriptors, memory or ports left for a connection;"
    " the database was not asked",
    Reason.ENV_MALFORMED: "the database URL is malformed",
}

STEPS = {
    Reason.DB_DNS: ("getent hosts {host}", "check the host in DATABASE_URL"),
    Reason.DB_TIMEOUT: (
        "{psql} -c 'SELECT 1'",
        "look at what stands between: firewall, VPN, security group, a paused server or container",
    ),
    Reason.DB_AUTH: ("{psql}", "check user and password in DATABASE_URL, and the server's pg_hba.conf"),
    Reason.DB_NO_DATABASE: (
        "createdb {login} {dbname}",
        "or correct the database's name in DATABASE_URL; those there: psql {login} -d postgres -l",
    ),
    Reason.DB_TLS: (
        "say in DATABASE_URL what the server has: ?sslmode=disable, ?sslmode=require, ?sslmode=verify-full",
        "a server's own authority is named with &sslrootcert=FILE",
        "{psql} -c '\\conninfo'",
    ),
    Reason.DB_TOO_MANY_CONNECTIONS: (
        "{psql} -c 'SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3'",
        "close idle clients, lower the pools' sizes, or raise max_connections",
    ),
    Reason.DB_STARTING: ("wait for it, or read the server's log; then: flawless deploy",),
    Reason.DB_READ_ONLY: (
        "point DATABASE_URL at the primary",
        "{psql} -c 'SELECT pg_is_in_recovery()' -c 'SHOW default_transaction_read_only'",
    ),
    Reason.DB_LOST: ("read the server's log: a restart, a crash, or a proxy between that cuts; then: flawless deploy",),
    Reason.DB_PERMISSION: ('as an administrator of the server: GRANT ALL ON DATABASE "{database}" TO "{user}";',),
    Reason.DB_ERROR: ("{psql} -c 'SELECT 1'", "read the server's log"),
    Reason.HOST_LIMITS: (
        "ulimit -n; for p in /proc/[0-9]*; do echo $(ls $p/fd | wc -l) $p $(cat $p/comm); done | sort -n | tail",
        "end what leaks, or raise the limit (LimitNOFILE= in a systemd unit); then: flawless deploy",
    ),
    Reason.ENV_MALFORMED: ("write DATABASE_URL as postgresql://USER:PASSWORD@HOST:5432/DATABASE",),
}

_STARTED_ANEW = frozenset({Reason.DB_TIMEOUT, Reason.DB_LOST, Reason.DB_PROTOCOL})
"""What the embedded server may be healed of by a restart."""


def cause_of(reason: Reason, error: BaseException, target: Target, peer: Peer | None) -> str:
    sentence = CAUSES[reason]
    if reason is Reason.DB_REFUSED and target.embedded:
        sentence = "the embedded database does not run, or has died: nothing accepts connections at {place}"
    elif reason is Reason.DB_TIMEOUT:
        sentence = _cause_of_silence(error, peer)
    elif reason is Reason.DB_PROTOCOL and peer is not None and peer.is_foreign:
        sentence = f"what answers at {{place}} is not PostgreSQL but {_trade(peer.greeting)}"
    elif reason is Reason.DB_TLS:
        sentence = _cause_of_tls(error, target)
    return _filled(sentence, target)


def steps_for(reason: Reason, target: Target) -> tuple[str, ...]:
    steps = STEPS.get(reason, ())
    if reason is Reason.DB_REFUSED and target.embedded:
        steps = ("start it: flawless db start", "or start it and bring up the rest: flawless deploy")
    elif reason in {Reason.DB_REFUSED, Reason.DB_PROTOCOL}:
        steps = _who_listens(target)
    if target.embedded and reason in _STARTED_ANEW:
        steps = ("flawless db stop && flawless db start", *steps)
    return tuple(_filled(step, target) for step in steps)


def _cause_of_silence(error: BaseException, peer: Peer | None) -> str:
    if getattr(error, "sqlstate", None) is not None:
        return "the database at {place} cancelled the question: it took longer than the server's statement_timeout"
    if isinstance(error, OSError) and error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return "there is no route to {place}"
    match peer:
        case None:
            return CAUSES[Reason.DB_TIMEOUT]
        case Peer(logged_in=True):
            return "the database at {place} let us in and then did not answer in time"
        case Peer(accepted=False):
            return "nothing answers at {place}, not even with a refusal: the packets vanish"
        case Peer(greeting=b""):
            return "{place} accepts connections but never answers: paused, frozen, or a proxy without its server"
    return "{place} speaks PostgreSQL but did not let us in within the time"


def _cause_of_tls(error: BaseException, target: Target) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate of the database at {place} is not trusted here"
    if isinstance(error, FileNotFoundError):
        missing = [name for name in target.certificates if not Path(name).exists()]
        return f"a certificate file named in the URL is not there: {', '.join(missing)}"
    if getattr(error, "sqlstate", None) is not None:
        return "the database at {place} demands TLS"
    if target.demands_tls and isinstance(error, ConnectionError):
        return f"the URL demands TLS (sslmode={target.sslmode}), the database at {{place}} has none"
    return CAUSES[Reason.DB_TLS]


def _trade(greeting: bytes) -> str:
    for start, trade in (
        (b"HTTP/", "a web server"),
        (b"SSH-", "an SSH server"),
        (b"-ERR", "Redis"),
        (b"220", "a mail or FTP server"),
    ):
        if greeting.startswith(start):
            return trade
    return "a MySQL or MariaDB server" if greeting[3:5] == b"\0\x0a" else "something else"


def _who_listens(target: Target) -> tuple[str, ...]:
    look = "lsof -nP -iTCP:{port} -sTCP:LISTEN" if sys.platform == "darwin" else "ss -ltnp 'sport = :{port}'"
    if not target.is_local:
        return ("{psql}", "check host and port in DATABASE_URL, and on the database's machine: " + look)
    if target.embedded:
        return (f"see what listens there: {look}",)
    return (f"see what listens there: {look}", "start PostgreSQL, or correct host and port in DATABASE_URL")


def _filled(sentence: str, target: Target) -> str:
    words = {
        "place": target.place,
        "host": target.host,
        "port": str(target.port),
        "database": target.database,
        "user": target.user,
        "psql": target.psql,
        "login": target.login,
        "dbname": shlex.quote(target.database),
    }
    for name, word in words.items():
        sentence = sentence.replace("{" + name + "}", printable(word))
    return sentence
