"""Two environments of one checkout at the same time, each with a tunnel, a name, ports and keys of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.canaries import found_in
from support.edge import edge
from support.postgres import fresh_database
from support.production import SERVICES, Environment, environments, unique
from support.stacks import LIMIT, Stack, until
from support.visitors import visit

NAMES = ("production", "staging")


@pytest.fixture
def both(stack: Stack, tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[list[Environment]]:
    """Both deployed at once, by two processes that begin together."""
    with ExitStack() as resources:
        hostnames = {name: unique(name) for name in NAMES}
        public = resources.enter_context(edge(tmp_path_factory.mktemp("edge"), *hostnames.values()))
        databases = {name: resources.enter_context(fresh_database(postgres_url)) for name in NAMES}
        made = resources.enter_context(environments(stack, public, databases, hostnames))
        _deploy_at_once(made)
        yield made


def test_two_environments_do_not_touch_each_other(both: list[Environment]) -> None:
    """Both 0 and healthy, each its own services, reports, logs and far ends; one is stopped and the other goes on."""
    production, staging = both
    for one in both:
        _assert_deployed(one)
    assert not set(production.pids().values()) & set(staging.pids().values())
    _assert_own_logs(production, staging)
    _assert_own_logs(staging, production)
    _assert_own_keys(production, staging)
    _assert_own_keys(staging, production)

    pids, theirs = production.pids(), staging.pids()
    again = staging.run("deploy")
    assert again.exit_code == 0, again.output
    assert staging.pids() == theirs, "what the other one writes is no change of this one's code"
    assert staging.run("stop").exit_code == 0
    assert staging.pids() == dict.fromkeys(SERVICES)
    assert production.pids() == pids
    assert production.run("status").exit_code == 0
    looked = production.run("tunnel", "status")
    assert looked.exit_code == 0, looked.output
    until(lambda: visit(staging.public, staging.hostname).status == 530, "the edge has lost the tunnel of staging")
    assert [one.leaks() for one in both] == [[], []]


def _deploy_at_once(made: list[Environment]) -> None:
    with ExitStack() as running:
        processes = [running.enter_context(one.running("deploy")) for one in made]
        for process in processes:
            stdout, stderr = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, (stdout + stderr).decode()


def _assert_deployed(one: Environment) -> None:
    """It is healthy, its name leads to its own release, and the cloudflared it sees is the one it started."""
    report = one.report()
    status = json.loads(one.run("status", "--json").stdout)
    assert (status["state"], status["deploy_id"]) == ("healthy", report["deploy_id"])
    assert visit(one.public, one.hostname, "/health/live").json()["deployId"] == report["deploy_id"]
    looked = json.loads(one.run("tunnel", "status", "--json").stdout)
    assert (looked["code"], looked["hostname"]) == (None, one.hostname)
    seen = {observation["id"]: observation for observation in looked["observations"]}
    assert seen["tunnel.process"]["evidence"][0].startswith("ours: ")
    assert f"pid {one.pid('tunnel')}" in seen["tunnel.process"]["evidence"][0]
    assert one.tunnel.id in " ".join(seen["tunnel.identity"]["evidence"])
    assert (one.stack.folder / "stack/backend" / one.storage / "probe").exists()
    listed = json.loads(one.run("reports", "list", "--json").stdout)["reports"]
    assert {entry["environment"] for entry in listed} == {one.name}


def _assert_own_logs(one: Environment, other: Environment) -> None:
    """What its services printed, which name their ports, and nothing of the other's."""
    printed = json.loads(one.run("logs", "-n", "100000", "--json").stdout)["services"]
    assert set(printed) == set(SERVICES)
    for service in ("backend", "frontend"):
        lines = "\n".join(printed[service])
        assert f":{one.port(service)}" in lines
        assert f":{other.port(service)}" not in lines
    assert one.tunnel.id in "\n".join(printed["tunnel"])
    assert other.tunnel.id not in "\n".join(printed["tunnel"])


def _assert_own_keys(one: Environment, other: Environment) -> None:
    for name, received in one.received().items():
        assert received, name
        for secret in other.secrets.values():
            assert found_in(received, secret) == []
