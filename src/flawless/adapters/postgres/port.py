"""A TCP port for the server."""

from __future__ import annotations

import errno
import secrets
import socket
from typing import Final

from flawless.adapters.postgres.failure import failed

# Below the range from which systems take the ports of outgoing connections, so that none takes ours while the server
# is down.
LOWEST: Final = 15_000
HIGHEST: Final = 32_000
ADDRESSES: Final = (
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "0.0.0.0"),  # noqa: S104 - asked whether it is free, never listened on
    (socket.AF_INET6, "::1"),
    (socket.AF_INET6, "::"),
)


def choose_port(preferred: int | None) -> int:
    """The preferred port when it is free, else another one."""
    if preferred and port_is_free(preferred):
        return preferred
    for _ in range(100):
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        if port_is_free(port):
            return port
    raise failed(
        "no free port was found for the embedded database",
        evidence=[f"100 ports between {LOWEST} and {HIGHEST} were tried"],
        next_steps=["see what listens: ss -ltnp"],
    )


def port_is_free(port: int) -> bool:
    """Free on loopback and on the wildcards, of both families."""
    return all(_can_bind(family, host, port) for family, host in ADDRESSES)


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Without it the connections of a server that just stopped would count for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # a host without IPv6 has no conflict there
    return True
