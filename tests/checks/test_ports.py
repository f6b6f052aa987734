"""FAILURES 9 to 11 and 64 on real sockets: who holds a port is named, what is ours is taken over."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from flawless.adapters import supervision
from flawless.adapters.sockets import SystemSockets, is_free
from flawless.checks.ports import PortFree, PortTable, World
from flawless.core.check import Failed, Passed
from flawless.core.reason import Reason
from flawless.core.supervision import Supervision
from support.postgres import free_port
from support.strangers import stranger

pytestmark = pytest.mark.anyio

NOBODY = 65534


def port_check(port: int, *, host: str = "127.0.0.1", own: Mapping[str, int] | None = None) -> PortFree:
    async def pids() -> dict[str, frozenset[int]]:
        return {name: frozenset({pid}) for name, pid in (own or {}).items()}

    world = World(SystemSockets(), is_free, pids, supervision.supervision_of, supervision.stack_of)
    return PortFree("backend", host, port, PortTable(world, frozenset({port}), frozenset({"backend", "worker"})))


async def failed(check: PortFree) -> Failed:
    outcome = await check.ask(1)
    assert isinstance(outcome, Failed), outcome
    return outcome


async def test_a_free_port() -> None:
    """A port that nobody has is free."""
    assert isinstance(await port_check(free_port()).ask(1), Passed)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
async def test_held_by_a_stranger(host: str) -> None:
    """Held on any address `localhost` may mean: PORT_HELD_FOREIGN, with address, pid, command, user, since, line."""
    port = free_port()
    with stranger(host, port) as pid:
        failure = await failed(port_check(port))
    assert failure.reason is Reason.PORT_HELD_FOREIGN
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert failure.evidence[0].startswith(f"{place} is held by pid {pid} ({sys.executable}")
    assert "user root" in failure.evidence[0] or os.geteuid() != 0
    assert "since 20" in failure.evidence[0]
    assert failure.next_steps[0].endswith(f"kill {pid}")


async def test_an_ipv4_address_written_as_ipv6() -> None:
    """A dual-stack socket bound to ::ffff:127.0.0.1 holds 127.0.0.1."""
    port = free_port()
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::ffff:127.0.0.1", port))
        server.listen()
        assert (await failed(port_check(port))).reason is Reason.PORT_HELD_FOREIGN


async def test_another_address_is_in_nobodys_way() -> None:
    """A listener on 127.0.0.2 takes nothing from 127.0.0.1; for a wildcard it does."""
    port = free_port()
    with stranger("127.0.0.2", port):
        assert isinstance(await port_check(port).ask(1), Passed)
        assert (await failed(port_check(port, host="0.0.0.0"))).reason is Reason.PORT_HELD_FOREIGN


async def test_bound_and_not_listening() -> None:
    """A socket that is bound and does not listen keeps the port too, and no process can be named for it."""
    port = free_port()
    with stranger("127.0.0.1", port, mode="bind"):
        failure = await failed(port_check(port))
    assert failure.reason is Reason.PORT_HELD_FOREIGN
    assert "127.0.0.1" in failure.evidence[0]
    assert str(port) in failure.next_steps[0]


async def test_held_by_our_own_earlier_release() -> None:
    """What our own service holds is taken over, under its old name too; a sibling's is said to be the sibling's."""
    port = free_port()
    with stranger("127.0.0.1", port) as pid:
        outcome = await port_check(port, own={"backend": pid}).ask(1)
        assert outcome == Passed((f"held by our own backend (pid {pid}), taken over",))
        failure = await failed(port_check(port, own={"backend": 1, "worker": pid}))
        gone = await port_check(port, own={"renamed": pid}).ask(1)
    assert "held by worker, another service of this stack" in failure.cause
    assert failure.next_steps[0] == "flawless stop worker"
    assert gone == Passed(("held by our own renamed, which the manifest no longer names and which makes room",))


async def test_ours_and_a_strangers() -> None:
    """Our own service on 127.0.0.1 does not hide the stranger on ::1."""
    port = free_port()
    with stranger("127.0.0.1", port) as ours, stranger("::1", port) as foreign:
        failure = await failed(port_check(port, own={"backend": ours}))
    assert [f"pid {foreign}" in line for line in failure.evidence] == [True]


async def test_closing_connections_hold_nothing() -> None:
    """TIME_WAIT of a server that has gone is not held."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        assert client.recv(1) == b""
        client.close()
    assert ("06", port) in _states()
    assert isinstance(await port_check(port).ask(1), Passed)


def _states() -> set[tuple[str, int]]:
    """The state and local port of every TCP socket."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return {(row[3], int(row[1].partition(":")[2], 16)) for row in rows}


async def test_another_flawless_stack(tmp_path: Path) -> None:
    """A service of another stack is to be stopped by that stack."""
    port = free_port()
    with stranger("127.0.0.1", port, environment={"FLAWLESS_DEPLOY_ID": "x"}, folder=str(tmp_path)):
        failure = await failed(port_check(port))
    assert "another Flawless stack" in failure.cause
    assert failure.next_steps[0] == f"stop it there: cd {tmp_path} && flawless stop"


async def test_owned_by_another_supervisor() -> None:
    """What PM2 runs is SERVICE_OWNED_ELSEWHERE with the command that ends it there; killing it would be a fight."""
    port = free_port()
    pm2 = ("bash", "-c", 'exec -a "PM2 v6.0.5: God Daemon (/root/.pm2)" bash -c \'"$@"; true\' pm2 "$@"', "pm2")
    with stranger("127.0.0.1", port, prefix=pm2, environment={"name": "shop-api", "pm_id": "0"}):
        failure = await failed(port_check(port))
    assert failure.reason is Reason.SERVICE_OWNED_ELSEWHERE
    assert failure.cause == f"backend's port {port} belongs to PM2: {_pm2_unit(failure)}"
    assert failure.next_steps[0].endswith("pm2 delete shop-api")
    assert not any("kill " in step for step in failure.next_steps)


def _pm2_unit(failure: Failed) -> str:
    return failure.cause.rpartition(": ")[2] if "shop-api (daemon " in failure.cause else "?"


async def test_owned_by_systemd() -> None:
    """A unit of systemd is named, and is left alone."""
    unit = Supervision("systemd", "shop.service", "sudo systemctl disable --now shop.service")

    async def nobody() -> dict[str, frozenset[int]]:
        return {}

    port = free_port()
    world = World(SystemSockets(), is_free, nobody, lambda pid: unit, lambda pid: None)
    with stranger("127.0.0.1", port):
        failure = await failed(PortFree("backend", "127.0.0.1", port, PortTable(world, frozenset({port}))))
    assert failure.reason is Reason.SERVICE_OWNED_ELSEWHERE
    assert "shop.service" in failure.cause
    assert failure.next_steps[0].endswith("sudo systemctl disable --now shop.service")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users: root to start as one and ask as another")
async def test_held_by_one_whom_we_may_not_see() -> None:
    """Without the right to see the holder its uid is said, and the command that would show it."""
    port = free_port()
    question = textwrap.dedent(
        """
        import asyncio, json, os, sys
        from flawless.adapters import supervision
        from flawless.adapters.sockets import SystemSockets, is_free
        from flawless.checks.ports import PortFree, PortTable, World
        import psutil
        async def none(): return {}
        world = World(SystemSockets(), is_free, none, supervision.supervision_of, supervision.stack_of)
        port = int(sys.argv[1])
        def ask(): return asyncio.run(PortFree("b", "127.0.0.1", port, PortTable(world, frozenset({port}))).ask(1))
        ask()  # loads all modules, for which the other user may lack the right
        os.setgid(65534); os.setuid(65534)
        outcome = ask()
        print(json.dumps([outcome.reason, outcome.cause, outcome.evidence, outcome.next_steps]))
        """
    )
    with stranger("127.0.0.1", port):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", question, str(port)], capture_output=True, text=True, check=True
        )
    reason, cause, evidence, steps = json.loads(done.stdout)
    assert reason == "PORT_HELD_FOREIGN"
    assert "uid 0" in cause
    assert evidence == [f"127.0.0.1:{port} is held by a process we may not see (uid 0)"]
    assert steps[0].endswith(f"sudo ss -ltnp 'sport = :{port}'")


async def test_sixty_ports_in_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    """60 ports, half of them held, are asked side by side with one reading of the socket table."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(30)]
    try:
        ports = [one.getsockname()[1] for one in held] + [free_port() for _ in range(30)]
        table = port_check(ports[0]).table
        table = PortTable(table.world, frozenset(ports))
        before = time.perf_counter()
        outcomes = await asyncio.gather(*(PortFree(f"s{port}", "127.0.0.1", port, table).ask(1) for port in ports))
        took = time.perf_counter() - before
    finally:
        for one in held:
            one.close()
    assert [isinstance(one, Failed) for one in outcomes] == [True] * 30 + [False] * 30
    with capsys.disabled():
        sys.stdout.write(f"\n60 ports in {took * 1000:.0f} ms\n")
    assert took < 1
