"""Processes that are not ours and hold a port: the world that a port's question must name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

LISTEN = """
import os, socket, sys
host, port, mode, uid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
server = socket.socket(family, socket.SOCK_STREAM)
if uid:
    os.setgid(uid)
    os.setuid(uid)
if family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
server.bind((host, port))
if mode == "listen":
    server.listen()
print("there", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(
    host: str,
    port: int,
    *,
    mode: str = "listen",
    uid: int = 0,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Iterator[int]:
    """The pid of a process that holds a port; `prefix` is what starts it. It is gone, with its parents, afterwards."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", LISTEN, host, str(port), mode, str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
