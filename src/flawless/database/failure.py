"""One function for everything that can go wrong between here and a database: by SQLSTATE, by errno, by type.

Text decides only where PostgreSQL's neighbours (poolers, proxies) send one SQLSTATE for a dozen causes, and where a
library folds several errors into a sentence: `TELLING_WORDS` and `errno_of`.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

from flawless.core.check import Failed
from flawless.core.fault import CONNECTION_LIMITS
from flawless.core.plain import one_line
from flawless.core.reason import Reason
from flawless.database.address import MalformedUrl, Target
from flawless.database.explanation import cause_of, steps_for
from flawless.database.peer import Peer

LONGEST_QUOTE = 300
"""Characters of a peer's own words in one line of evidence."""

BY_STATE = {
    "28P01": Reason.DB_AUTH,
    "28000": Reason.DB_AUTH,
    "3D000": Reason.DB_NO_DATABASE,
    "57P04": Reason.DB_NO_DATABASE,
    "53300": Reason.DB_TOO_MANY_CONNECTIONS,
    "57P03": Reason.DB_STARTING,
    "25006": Reason.DB_READ_ONLY,
    "42501": Reason.DB_PERMISSION,
    "57014": Reason.DB_TIMEOUT,
    "08P01": Reason.DB_PROTOCOL,
    **dict.fromkeys(("08000", "08001", "08003", "08004", "08006"), Reason.DB_LOST),
    **dict.fromkeys(("57P01", "57P02", "57P05", "25P03"), Reason.DB_LOST),
}
"""Source: PostgreSQL, appendix A. Of class 08 all but 08P01 are made by the driver, for a line that was cut."""

TELLING_WORDS = (
    # PgBouncer
    ("no such database", Reason.DB_NO_DATABASE),
    ("no such user", Reason.DB_AUTH),
    ("authentication failed", Reason.DB_AUTH),
    ("no more connections allowed", Reason.DB_TOO_MANY_CONNECTIONS),
    ("cannot connect to server", Reason.DB_LOST),
    ("server login has been failing", Reason.DB_LOST),
    ("SSL required", Reason.DB_TLS),
    # Azure Database for PostgreSQL
    ("SSL connection is required", Reason.DB_TLS),
    # Neon
    ("connection is insecure", Reason.DB_TLS),
    # Supavisor
    ("Tenant or user not found", Reason.DB_AUTH),
    ("max clients reached", Reason.DB_TOO_MANY_CONNECTIONS),
    ("Max client connections reached", Reason.DB_TOO_MANY_CONNECTIONS),
)
"""What poolers and hosted databases say under the states of VAGUE_STATES."""

VAGUE_STATES = frozenset({"08P01", "28000", "XX000"})

BY_ERRNO = {
    **dict.fromkeys(CONNECTION_LIMITS, Reason.HOST_LIMITS),
    **dict.fromkeys((errno.ECONNREFUSED, errno.ENOENT), Reason.DB_REFUSED),
    **dict.fromkeys((errno.EPERM, errno.EACCES), Reason.DB_PERMISSION),
    **dict.fromkeys((errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN), Reason.DB_LOST),
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH), Reason.DB_TIMEOUT),
}
"""In the order in which one speaks for several: refused on ::1 and unreachable on IPv4 is refused."""


def classify(error: BaseException, target: Target, peer: Peer | None = None) -> Failed:
    """The reason for `error`, met on the way to `target`. Never raises, never tells the password.

    `peer`: what else is known of the port; it tells a black hole from a server that accepts and is silent.
    """
    root = _root(error)
    if isinstance(root, MalformedUrl):
        return Failed(Reason.ENV_MALFORMED, root.cause, root.evidence, root.next_steps)
    seen = peer or Peer()
    reason = _reason(root, target, seen)
    evidence = (str(target), _said(root, target), *_greeted(seen, target))
    return Failed(reason, cause_of(reason, root, target, peer), evidence, steps_for(reason, target))


def errno_of(error: BaseException) -> int | None:
    """Several addresses failing are one error to asyncio: "Multiple exceptions: [Errno 111] ..., [Errno 101] ..."."""
    if not isinstance(error, OSError):
        return None
    if error.errno is not None:
        return error.errno
    folded = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    return next((number for number in BY_ERRNO if number in folded), None)


def _root(error: BaseException) -> BaseException:
    """The driver's own error below SQLAlchemy's wrappings."""
    for candidate in _chain(error):
        if hasattr(candidate, "sqlstate") and hasattr(candidate, "severity"):
            return candidate
        if isinstance(candidate, OSError | MalformedUrl):
            return candidate
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def _reason(error: BaseException, target: Target, peer: Peer) -> Reason:
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return _reason_of_state(state, str(error), target, peer)
    if isinstance(error, OSError):
        return _reason_of_system(error, target, peer)
    if peer.is_foreign:
        return Reason.DB_PROTOCOL
    return _reason_of_type(error, target)


def _reason_of_state(state: str, text: str, target: Target, peer: Peer) -> Reason:
    reason = BY_STATE.get(state, Reason.DB_ERROR)
    if state in VAGUE_STATES:
        reason = next((meant for words, meant in TELLING_WORDS if words in text), reason)
    if state == "28000" and target.sslmode in {"disable", "allow"} and peer.greeting == b"S":
        return Reason.DB_TLS
    return Reason.DB_PROTOCOL if reason is Reason.DB_LOST and peer.is_foreign else reason


def _reason_of_system(error: OSError, target: Target, peer: Peer) -> Reason:
    match error:
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Reason.DB_LOST
        case ssl.SSLError():
            return Reason.DB_TLS
        case socket.gaierror():
            return Reason.HOST_LIMITS if error.errno == socket.EAI_MEMORY else Reason.DB_DNS
    if peer.is_foreign:
        return Reason.DB_PROTOCOL
    number = errno_of(error)
    if number is not None:
        # Without a socket in the file system, a file that is missing is one of the certificates the URL names.
        return (
            Reason.DB_TLS
            if number == errno.ENOENT and "/" not in target.host
            else BY_ERRNO.get(number, Reason.DB_ERROR)
        )
    if isinstance(error, TimeoutError):
        return Reason.DB_TIMEOUT
    return _reason_of_upgrade(error, target, peer)


def _reason_of_upgrade(error: OSError, target: Target, peer: Peer) -> Reason:
    """The driver's ConnectionError without a number: the talk about TLS ended wrongly."""
    if target.demands_tls and (peer.greeting == b"N" or "rejected SSL upgrade" in str(error)):
        return Reason.DB_TLS
    return Reason.DB_PROTOCOL if "rejected SSL upgrade" in str(error) else Reason.DB_LOST


def _reason_of_type(error: BaseException, target: Target) -> Reason:
    import asyncpg

    match error:
        case asyncpg.ClientConfigurationError():
            return Reason.DB_TLS if target.demands_tls else Reason.ENV_MALFORMED
        case asyncpg.TargetServerAttributeNotMatched():
            return Reason.DB_READ_ONLY
        case asyncpg.InternalClientError():
            return Reason.DB_PROTOCOL
        case asyncpg.InterfaceError():
            return Reason.DB_LOST
        case ValueError():
            return Reason.ENV_MALFORMED
        case MemoryError():
            return Reason.HOST_LIMITS
        case RuntimeError() if "can't start new thread" in str(error):
            return Reason.HOST_LIMITS
    return Reason.DB_ERROR


def _said(error: BaseException, target: Target) -> str:
    """Who said what. A ValueError quotes pieces of the URL, so its words are not repeated."""
    state = getattr(error, "sqlstate", None)
    number = errno_of(error)
    label = type(error).__name__
    if state is not None:
        label = f"SQLSTATE {state}"
    elif isinstance(error, socket.gaierror):
        label = f"name lookup, error {error.errno}"
    elif number is not None:
        label = errno.errorcode.get(number, f"errno {number}")
    quoted = "" if isinstance(error, ValueError) else quote(str(error), target)
    return f"{label}: {quoted}" if quoted else label


def quote(text: str, target: Target) -> str:
    """Somebody else's words: one line, harmless, short, without the password."""
    return one_line(target.without_password(text), LONGEST_QUOTE)


def _greeted(peer: Peer, target: Target) -> tuple[str, ...]:
    if not peer.is_foreign:
        return ()
    return (f"{target.place} answered: {quote(peer.greeting.decode('latin-1'), target)}",)
