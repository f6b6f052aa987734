"""A tunnel and a public name for a stack: the edge, cloudflared's configuration, and cloudflareds that are not ours."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from support.edge import Asked, Edge, NamedTunnel, Reply, page
from support.stacks import LIMIT, Stack, until

HOSTNAME: Final = "app.example.org"
"""For tests in which nobody looks for other cloudflareds of this machine; `declare` makes a name of its own."""
PROGRAM: Final = str(Path(__file__).resolve().with_name("cloudflared.py"))
COMMAND: Final = (sys.executable, PROGRAM)
"""For `[tunnel] command`, and the beginning of every cloudflared here."""


def write_config(path: Path, tunnel: NamedTunnel, rules: Sequence[Mapping[str, Any]], **keys: Any) -> Path:
    """A configuration file of cloudflared, with the credentials beside it. `keys`: further ones, `stand_in` say."""
    credentials = path.with_name(f"{tunnel.id}.json")
    credentials.write_text(tunnel.credentials, encoding="utf-8")
    named = {name.replace("_", "-"): value for name, value in keys.items()}
    content = {"tunnel": tunnel.id, "credentials-file": str(credentials), "ingress": list(rules), **named}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def hostname_of(stack: Stack) -> str:
    """Of no other test that runs now: whoever looks at this machine sees their cloudflareds too."""
    return f"app-{stack.port('metrics')}.example.org"


def rules_to(service: str, hostname: str = HOSTNAME) -> list[dict[str, str]]:
    """The usual rules: the name to that service, everything else 404."""
    return [{"hostname": hostname, "service": service}, {"service": "http_status:404"}]


def declare(
    stack: Stack,
    public: Edge,
    *,
    service: str = "frontend",
    rules: Sequence[Mapping[str, Any]] | None = None,
    with_token: bool = False,
    checks: Sequence[Mapping[str, Any]] | None = None,
    **keys: Any,
) -> NamedTunnel:
    """[tunnel] and [public] of the manifest: `hostname_of(stack)` leads to `service`, whose answers say its deploy.

    `keys`: further keys of cloudflared's own file. With a token the rules come from the edge.
    """
    if service not in stack.manifest["services"]:
        stack.service(service, "answer=site", "echo", role="frontend")
    hostname = hostname_of(stack)
    rules = rules_to(f"http://127.0.0.1:{stack.port(service)}", hostname) if rules is None else rules
    tunnel = public.tunnel(hostname, rules=rules)
    table = {"hostname": hostname, "command": list(COMMAND), "metrics": f"127.0.0.1:{stack.port('metrics')}"}
    if with_token:
        (stack.folder / ".env").write_text(f"TUNNEL_TOKEN={tunnel.token}\n", encoding="utf-8")
        table["token"] = "${TUNNEL_TOKEN}"
        stack.secrets.add(tunnel.token)
    else:
        config = write_config(stack.folder / "config.yml", tunnel, rules, edge=public.address, **keys)
        table["config"] = str(config)
    asked = [{"url": public.url(hostname), "status": 200}] if checks is None else list(checks)
    stack.manifest["tunnel"] = table
    stack.manifest["public"] = {"checks": asked, "resolve": public.resolve, "ca_file": str(public.ca_file)}
    return tunnel


@contextmanager
def cloudflared(
    public: Edge,
    *arguments: str,
    folder: Path,
    command: Sequence[str] = COMMAND,
    environment: Mapping[str, str] | None = None,
    connected: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A cloudflared that is nobody's but the test's: `tunnel --config F run`, say. It prints into cloudflared.log.

    When `connected`, the edge has it when the block begins. It is gone afterwards, frozen or not.
    """
    before = {one.id for one in public.connectors}
    clean = {**clean_environment(public, folder), **(environment or {})}
    with (folder / "cloudflared.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *arguments], cwd=folder, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        if connected:
            public.wait_for(lambda: {one.id for one in public.connectors} - before)
        yield process
    finally:
        process.kill()
        process.wait(LIMIT)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """That process does nothing in the block, and goes on after it, when it is still there."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):  # it was restarted meanwhile: that is what some tests want
            process.resume()


_MANAGER: Final = """
import json, os, signal, subprocess, sys
from pathlib import Path
folder = Path(sys.argv[1])
given = json.loads((folder / "service.json").read_text())
with (folder / "orders").open("a") as orders:
    orders.write("restart\\n")
try:
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
except ProcessLookupError:
    pass
with (folder / "cloudflared.log").open("ab") as log:
    made = subprocess.Popen(
        given["argv"], cwd=folder, env=given["env"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,
    )
(folder / "pid").write_text(str(made.pid))
"""


class SystemService:
    """A cloudflared that a service manager runs. `restart`: the argv for `[tunnel] restart`."""

    def __init__(self, folder: Path, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.restart = [sys.executable, "-I", "-S", str(folder / "manager.py"), str(folder)]
        (folder / "manager.py").write_text(_MANAGER, encoding="utf-8")
        given = {"argv": [*argv], "env": dict(environment)}
        (folder / "service.json").write_text(json.dumps(given), encoding="utf-8")

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    @property
    def orders(self) -> int:
        """How often the manager was told to restart it."""
        path = self.folder / "orders"
        return len(path.read_text().splitlines()) if path.exists() else 0


@contextmanager
def system_service(public: Edge, *arguments: str, folder: Path) -> Iterator[SystemService]:
    """The same as `cloudflared`, run by a manager that restarts it when it is told to."""
    with cloudflared(public, *arguments, folder=folder) as process:
        service = SystemService(folder, [*COMMAND, *arguments], clean_environment(public, folder))
        (folder / "pid").write_text(str(process.pid))
        # Reaped as soon as it ends, as a manager does: nobody is to take it for one that still runs.
        reaper = threading.Thread(target=process.wait, daemon=True)
        reaper.start()
        try:
            yield service
        finally:
            with suppress(psutil.NoSuchProcess):
                last = psutil.Process(service.pid)
                last.kill()
                last.wait(LIMIT)
            reaper.join(LIMIT)


def clean_environment(public: Edge, folder: Path) -> dict[str, str]:
    """Nothing of whoever runs the tests, nor of a stack: HOME says whose it is."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TUNNEL_EDGE": public.address}


def until_connected(public: Edge, count: int = 1) -> None:
    """So many cloudflareds are registered."""
    public.wait_for(lambda: len(public.connectors) >= count)


def until_gone(public: Edge) -> None:
    until(lambda: not public.connectors, "no cloudflared is registered any more")


def forwarded(port: int, asked: Asked) -> Reply:
    """What the service here answers; 502 where nothing does, as of a cloudflared."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(asked.method, asked.path)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), dict(answer.getheaders()))
    except OSError:
        return page(502)
    finally:
        connection.close()
