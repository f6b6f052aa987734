"""Processes that look like cloudflared from this machine: a name, arguments, a metrics port with the given answers."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flawless.adapters.cloudflared import connectors
from flawless.core.connector import Connector

TUNNEL: Final = "11111111-2222-4333-8444-555555555555"
OTHER: Final = "99999999-8888-4777-8666-555555555555"
HOSTNAME: Final = "app.example.org"
TOKEN: Final = base64.b64encode(json.dumps({"a": "account", "s": "c2VjcmV0", "t": TUNNEL}).encode()).decode()

PROGRAM: Final = """
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

answers = json.loads(os.environ["ANSWERS"])

class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in os.environ["HOST"] else socket.AF_INET

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = answers.get(self.path, [404, "404 page not found"])
        self.send_response(status)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def log_message(self, *args):
        pass

if answers:
    server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
print(0, flush=True)
sys.stdin.read()
"""


def answers(
    *, ready: int = 4, tunnel: str = TUNNEL, rules: list[dict[str, str]] | None = None, version: int = -1, **more: Any
) -> dict[str, tuple[int, Any]]:
    """What a metrics port tells. `more`: `quicktunnel` and `metrics`, each as it is answered."""
    status = 200 if ready else 503
    return {
        "/ready": (status, {"status": status, "readyConnections": ready, "connectorId": "c1"}),
        "/diag/tunnel": (200, {"tunnelID": tunnel, "connectorID": "c1"}),
        "/config": (200, {"version": version, "config": {"ingress": rules or [], "warp-routing": {}}}),
        "/quicktunnel": (200, {"hostname": more.get("quicktunnel", "")}),
        "/metrics": (200, more.get("metrics", "")),
    }


@dataclass(frozen=True, slots=True)
class Running:
    """One of them. `port`: of its metrics; 0 when it listens nowhere."""

    pid: int
    port: int

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)


@contextmanager
def connector(
    folder: Path,
    told: Mapping[str, Any],
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    name: str = "cloudflared",
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Running]:
    """Runs `cloudflared ARGUMENTS`, which is gone afterwards. `told`: its answers; without any it listens nowhere."""
    program = folder / name
    program.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program), *(arguments or ("tunnel", "run"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env={"HOME": str(folder), "ANSWERS": json.dumps(told), "HOST": host, "PORT": str(port), **(environment or {})},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Running(process.pid, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate(timeout=10)


def found(*running: Running) -> list[Connector]:
    """What the product finds, this test's own alone: others run theirs meanwhile."""
    pids = {one.pid for one in running}
    return [one for one in connectors() if one.pid in pids]
