"""A manifest with a tunnel and a public name, made in one call; and cloudflareds that nobody of ours has started."""

from __future__ import annotations

import subprocess

import pytest

from support.edge import Edge
from support.stacks import Stack, lives, stack, until
from support.tunnels import cloudflared, declare, frozen, hostname_of, system_service, until_connected, until_gone
from support.visitors import visit

__all__ = ["stack"]


@pytest.mark.parametrize("with_token", [False, True])
def test_a_declared_tunnel_leads_to_the_service_that_a_deploy_started(
    stack: Stack, public: Edge, tmp_path_factory: pytest.TempPathFactory, *, with_token: bool
) -> None:
    """The deploy's id comes back through the public name, in head and body; page, script and style have their types."""
    tunnel = declare(stack, public, with_token=with_token)
    table = stack.manifest.pop("tunnel")
    stack.manifest.pop("public")
    assert stack.deploy().exit_code == 0
    options = ["--token-file", "token"] if with_token else ["--config", table["config"]]
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "token").write_text(tunnel.token)
    name = hostname_of(stack)

    with cloudflared(public, "--metrics", table["metrics"], *options, "tunnel", "run", folder=folder) as process:
        until(lambda: visit(public, name).status == 200, "it has its rules")
        live = visit(public, name, "/health/live?nonce=1")
        types = [visit(public, name, path).content_type for path in ("/", "/app.js", "/site.css")]
        with frozen(process.pid):
            pass
        process.kill()
        until_gone(public)

    assert live.json()["deployId"] == live.headers["x-flawless-deploy-id"] == stack.report()["deploy_id"]
    assert types == ["text/html", "text/javascript", "text/css"]
    assert not lives(process.pid)


def test_a_service_manager_restarts_its_cloudflared_when_it_is_told_to(
    stack: Stack, public: Edge, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another process, the same configuration; each order is counted, and nothing of it is left."""
    declare(stack, public)
    table = stack.manifest["tunnel"]
    folder = tmp_path_factory.mktemp("foreign")

    with system_service(public, "--config", table["config"], "tunnel", "run", folder=folder) as service:
        first = service.pid
        subprocess.run(service.restart, check=True, env={"FLAWLESS_DEPLOY_ID": "none of its business"})
        second = service.pid
        assert not lives(first)
        public.wait_for(lambda: len(public.arrivals) == 2)
        until_connected(public)
        assert service.orders == 1

    assert first != second
    assert not lives(second)
