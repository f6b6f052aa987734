"""The production overlay of this repository on the reference stack, before far ends that do as the real ones.

At the end of each scenario nothing that anybody can read holds a key or the tunnel's token, in any spelling.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flawless.core.answer import Answer
from support.canaries import found_in
from support.edge import edge
from support.far_ends import VARIABLES
from support.production import Environment, environments, unique
from support.stacks import Done, Stack, until
from support.visitors import visit


@pytest.fixture
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Environment]:
    hostname = unique("board")
    with edge(tmp_path_factory.mktemp("edge"), hostname) as public:
        databases = {"production": database_url}
        with environments(stack, public, databases, {"production": hostname}) as [one]:
            yield one


@pytest.fixture
def production(world: Environment) -> Iterator[Environment]:
    """The same, of which no secret is to be found anywhere afterwards, and each key came to its own host alone."""
    yield world
    assert world.leaks() == []
    for name, received in world.received().items():
        assert received, name
        for owner, variable in VARIABLES.items():
            assert bool(found_in(received, world.secrets[variable])) is (owner == name), (name, owner)
    assert not found_in(_asked(world), world.secrets["TUNNEL_TOKEN"])


def test_it_deploys_and_a_second_time_changes_nothing(production: Environment) -> None:
    """Exit 0: the public name leads to this release, everything was asked with reading requests, no incident."""
    done = production.run("deploy", "--verbose")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"https://{production.hostname}"
    report = production.report()
    page, live = (
        visit(production.public, production.hostname),
        visit(production.public, production.hostname, "/health/live"),
    )
    assert (page.status, page.headers["x-flawless-deploy-id"]) == (200, report["deploy_id"])
    assert live.json()["deployId"] == report["deploy_id"]
    assert {request.method for one in production.far_ends.values() for request in one.requests} == {"GET"}
    assert [one["status"] for one in report["external"]] == ["PASS"] * 6
    tunnel = next(one for one in report["phases"] if one["name"] == "TUNNEL_START_OR_VERIFY")
    assert {one["status"] for one in tunnel["checks"] if one["id"] != "tunnel.current"} == {"PASS"}, tunnel["checks"]
    assert len(list((production.stack.folder / "logs/services/production").glob("frontend*.log"))) > 1, "it was rotated"

    pids = production.pids()
    again = production.run("deploy")
    assert again.exit_code == 0, again.output
    assert production.pids() == pids
    assert production.open_incidents() == []
    assert production.run("status").exit_code == 0
    assert production.run("tunnel", "status").exit_code == 0


def test_what_is_optional_or_out_of_order_makes_it_partial(production: Environment) -> None:
    """Cloudflare's token refused: 2. OpenAI out: 2, and a WARN incident. Both times the release serves."""
    production.cloudflare.fail_with(401)
    refused = production.run("deploy")
    assert refused.exit_code == 2, refused.output
    outcome = production.outcome("external.cloudflare")
    assert (outcome["code"], outcome["optional"]) == ("API_UNAUTHORIZED", True)
    assert "API_UNAUTHORIZED" in refused.stdout

    pids = production.pids()
    production.cloudflare.heal()
    production.openai.fail_with(503)
    out = production.run("deploy")
    assert out.exit_code == 2, out.output
    assert production.outcome("external.openai")["code"] == "API_UNAVAILABLE"
    [incident] = production.open_incidents()
    assert (incident["severity"], incident["category"]) == ("WARN", "API")
    assert "OpenAI" in incident["summary"]
    assert production.pids() == pids
    assert visit(production.public, production.hostname).status == 200


def test_a_key_that_stripe_refuses_leaves_everything_as_it_was(production: Environment) -> None:
    """Exit 1: nothing had been changed, so nothing is; what had been changed is put back, and answers as before."""
    _deploy(production)
    before, pids = _answers(production), production.pids()
    production.stripe.fail_with(401)
    _assert_refused(production, production.run("deploy"), "not needed")
    assert (production.pids(), _answers(production)) == (pids, before)

    code = production.stack.folder / "stack/backend/board_backend/__main__.py"
    code.write_text(code.read_text() + "# another release\n")
    production.stripe.on_request = lambda: until(
        lambda: production.pid("backend") not in {None, pids["backend"]}, "the new backend was started", 30
    )
    _assert_refused(production, production.run("deploy"), "done")
    assert {**production.pids(), "backend": None} == {**pids, "backend": None}, "who was not changed runs on"
    assert _answers(production) == before


def test_the_search_finds_a_token_that_is_told_to_others(world: Environment) -> None:
    """A product that gives cloudflared its token as an argument, and a manifest that gives it to the backend."""
    overlay = world.stack.folder / "flawless.production.toml"
    lines = overlay.read_text().splitlines(keepends=True)
    overlay.write_text("".join(one for one in lines if '"STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"' not in one))
    world.stack.mutation = _IN_ARGV
    _deploy(world)

    found = world.leaks()

    for place in (f"argv of {world.pid('tunnel')}", f"environment of {world.pid('backend')}"):
        assert f"TUNNEL_TOKEN: {place} (raw)" in found
    assert world.run("stop", "--all").exit_code == 0


_IN_ARGV = """
from flawless.manifest import tunnel
made = tunnel.as_service
def as_service(settings, root, environ):
    service = made(settings, root, environ)
    return service.model_copy(update={"command": (*service.command, "--token", settings.tunnel.token.reveal())})
tunnel.as_service = as_service
"""


def _deploy(production: Environment) -> None:
    done = production.run("deploy")
    assert done.exit_code == 0, done.output


def _assert_refused(production: Environment, done: Done, rollback: str) -> None:
    assert done.exit_code == 1, done.output
    report = production.report()
    assert report["failure"]["code"] == "API_UNAUTHORIZED"
    assert report["rollback"]["status"] == rollback, report["rollback"]


def _answers(production: Environment) -> list[tuple[int, bytes, str]]:
    """What the public name says, and which deploy says it."""
    return [
        _told(visit(production.public, production.hostname, path))
        for path in ("/", "/frontend/health", "/api/projects")
    ]


def _told(seen: Answer) -> tuple[int, bytes, str]:
    return seen.status, seen.body, seen.headers["x-flawless-deploy-id"]


def _asked(production: Environment) -> dict[str, bytes]:
    """What came to the public name."""
    requests = [one.asked for one in production.public.requests]
    return {
        f"request {at}": json.dumps([one.path, one.query, dict(one.headers)]).encode()
        for at, one in enumerate(requests)
    }
