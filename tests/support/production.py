"""The reference stack with the overlay of this repository, in one environment or several, before far ends of its own.

The overlay stays as it is; what is laid over it is only where the stand-ins are: `base_url` of the interfaces, and
`resolve` and `ca_file` of [public]. cloudflared is the stand-in, found on the PATH by its usual name.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from support.canaries import KEY_CANARY, found_in
from support.edge import Edge, NamedTunnel
from support.far_ends import Cloudflare, FarEnd, OpenAI, Stripe, cloudflare, openai, stripe
from support.stacks import LIMIT, ROOT, Done, Stack, check_report, lives, to_toml
from support.tunnels import PROGRAM

_ENTITLED: Final = {
    "STRIPE_SECRET_KEY": "backend",
    "STRIPE_WEBHOOK_SECRET": "backend",
    "OPENAI_API_KEY": "backend",
    "ADMIN_PASSWORD": "backend",
    "TUNNEL_TOKEN": "tunnel",
}
"""Whose environment holds each; Cloudflare's is in nobody's."""

SERVICES: Final = ("backend", "frontend", "tunnel")


def unique(label: str) -> str:
    """A public name that is nobody else's: every cloudflared of the machine is looked at, those of other tests too."""
    return f"{label}-{secrets.token_hex(3)}.example.org"


class Environment:
    """One environment of a stack: its variables, far ends, tunnel and public name, and what the commands do with it."""

    def __init__(
        self, stack: Stack, name: str, public: Edge, hostname: str, database_url: str, resources: ExitStack
    ) -> None:
        self.stack = stack
        self.name = name
        self.public = public
        self.hostname = hostname
        self.tunnel: NamedTunnel = public.tunnel(hostname, rules=self._rules(hostname))
        self.secrets = _secrets(name, self.tunnel)
        self.variables = {**self.secrets, "DATABASE_URL": database_url}
        self.said: list[Done] = []
        """Every command so far."""
        self.stripe: Stripe = resources.enter_context(
            stripe(self.secrets["STRIPE_SECRET_KEY"], live=True, webhooks=[f"https://{hostname}/api/stripe"])
        )
        self.openai: OpenAI = resources.enter_context(openai(self.secrets["OPENAI_API_KEY"]))
        self.cloudflare: Cloudflare = resources.enter_context(
            cloudflare(
                self.secrets["CLOUDFLARE_API_TOKEN"],
                account=self.tunnel.account,
                tunnel=self.tunnel.id,
                hostname=hostname,
            )
        )
        self._write()

    @property
    def far_ends(self) -> Mapping[str, FarEnd]:
        return {"stripe": self.stripe, "openai": self.openai, "cloudflare": self.cloudflare}

    def port(self, service: str) -> int:
        return self.stack.port(f"{self.name} {service}")

    @property
    def storage(self) -> str:
        """Below the backend's folder, as the overlay's head says."""
        return "storage" if self.name == "production" else f"storage/{self.name}"

    # --- commands ---

    def run(self, *words: str) -> Done:
        before = time.monotonic()
        with self.running(*words) as process:
            stdout, stderr = process.communicate(timeout=LIMIT)
        self.said.append(Done(process.returncode, stdout.decode(), stderr.decode(), time.monotonic() - before))
        return self.said[-1]

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """The same in the background."""
        process = subprocess.Popen(
            self.stack.argv(*words, "-e", self.name),
            cwd=self.stack.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def environment(self) -> dict[str, str]:
        clean = self.stack.clean_environment()
        return {**clean, **self.variables, "PATH": f"{self.stack.folder / 'bin'}{os.pathsep}{clean['PATH']}"}

    # --- what is there ---

    @property
    def state(self) -> Path:
        return self.stack.folder / ".flawless/environments" / self.name

    def pid(self, service: str) -> int | None:
        """The service's own process, when it lives."""
        try:
            child = json.loads((self.state / "run" / service / "record.json").read_bytes())["child"]
        except FileNotFoundError:
            return None
        return child["pid"] if child and lives(child["pid"]) else None

    def pids(self) -> dict[str, int | None]:
        return {service: self.pid(service) for service in SERVICES}

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._newest().read_bytes())
        check_report(report)
        return report

    def text(self) -> str:
        """The same as a person reads it."""
        return self._newest().with_suffix(".txt").read_text()

    def outcome(self, id_: str) -> dict[str, Any]:
        """That of the report's `external`."""
        [found] = [one for one in self.report()["external"] if one["id"] == id_]
        return dict(found)

    def open_incidents(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.run("incidents", "list", "--json").stdout)["incidents"]
        return listed

    def _newest(self) -> Path:
        reports = sorted((self.stack.folder / "logs").glob("deploy-report-*.json"), reverse=True)
        return next(path for path in reports if json.loads(path.read_bytes())["environment"] == self.name)

    def leaks(self) -> list[str]:
        """Where a secret of this environment can be read by somebody who is not entitled to it, in which spelling."""
        rows = asyncio.run(_rows(self.variables["DATABASE_URL"]))
        places = {**self.stack.readable(*self.said), "incident rows": rows}
        return [
            f"{name}: {place}"
            for name, secret in self.secrets.items()
            for place in found_in(places, secret, allowed=[f"environment of {self.pid(_ENTITLED.get(name, ''))}"])
        ]

    def received(self) -> dict[str, dict[str, bytes]]:
        """What each far end was sent, by its name."""
        return {
            name: {f"request {number}": request.raw for number, request in enumerate(far_end.requests)}
            for name, far_end in self.far_ends.items()
        }

    # --- its files ---

    def _rules(self, hostname: str) -> list[dict[str, str]]:
        return [
            {"hostname": hostname, "service": f"http://127.0.0.1:{self.port('frontend')}"},
            {"service": "http_status:404"},
        ]

    def _write(self) -> None:
        """The overlay, and beside it a file with what is no secret, as a person would write it."""
        plain = {
            "BASE_URL": f"https://{self.hostname}",
            "PORT": self.port("backend"),
            "FRONTEND_PORT": self.port("frontend"),
            "METRICS": f"127.0.0.1:{self.port('metrics')}",
            "STORAGE_DIR": self.storage,
            "CLOUDFLARE_ACCOUNT_ID": self.tunnel.account,
            "CLOUDFLARE_TUNNEL_ID": self.tunnel.id,
        }
        lines = "".join(f"{name}={value}\n" for name, value in plain.items())
        (self.stack.folder / f".env.{self.name}").write_text(lines)
        overlay = overlay_for(self.name)
        merge(overlay, {"external": {name: {"base_url": far_end.url} for name, far_end in self.far_ends.items()}})
        merge(overlay, {"public": {"resolve": self.public.resolve, "ca_file": str(self.public.ca_file)}})
        merge(overlay, {"logs": {"max_size": "10KB"}})  # so that there is something rotated to be looked through
        (self.stack.folder / f"flawless.{self.name}.toml").write_text(to_toml(overlay))


def overlay_for(name: str) -> dict[str, Any]:
    """The repository's overlay; for another environment copied as its head says: with `.env.NAME` in it."""
    text = (ROOT / "flawless.production.toml").read_text()
    return tomllib.loads(text.replace(".env.production", f".env.{name}"))


def merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Further keys; one that is there already would be a key of the overlay's own."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            assert key not in tree, f"the overlay has its own {key}"
            tree[key] = value


def _secrets(name: str, tunnel: NamedTunnel) -> dict[str, str]:
    return {
        "STRIPE_SECRET_KEY": f"sk_live_{name}{KEY_CANARY}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{KEY_CANARY}{name}",
        "OPENAI_API_KEY": f"sk-{name}{KEY_CANARY[::-1]}",
        "CLOUDFLARE_API_TOKEN": f"cf.{name}{KEY_CANARY.swapcase()}",
        "ADMIN_PASSWORD": f"{KEY_CANARY[:12]}{name}{KEY_CANARY[12:]}",
        "TUNNEL_TOKEN": tunnel.token,
    }


@contextmanager
def environments(
    stack: Stack, public: Edge, databases: Mapping[str, str], hostnames: Mapping[str, str]
) -> Iterator[list[Environment]]:
    """The reference stack in `stack`'s folder, with an environment for each of `databases`, by name. All is stopped."""
    _lay_out(stack)
    with ExitStack() as resources:
        made = [Environment(stack, name, public, hostnames[name], url, resources) for name, url in databases.items()]
        try:
            yield made
        finally:
            for one in made:
                one.run("stop", "--all")


def _lay_out(stack: Stack) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "probe", "recoveries.json")
    shutil.copytree(ROOT / "stack", stack.folder / "stack", ignore=unwanted)
    stack.manifest = tomllib.loads((ROOT / "flawless.toml").read_text())
    stack.write()
    program = stack.folder / "bin" / "cloudflared"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{Path(PROGRAM).read_text()}")
    program.chmod(0o755)


async def _rows(url: str) -> bytes:
    """Every row of every table of ours."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'flawless'")
        found = [await connection.fetch(f'SELECT t::text FROM flawless."{one[0]}" t') for one in tables]  # noqa: S608 - from the catalog
    finally:
        await connection.close()
    return "\n".join(row[0] for rows in found for row in rows).encode()
