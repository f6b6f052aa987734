"""A manifest with a tunnel and a public name, made in one call; cloudflared is started as the product starts it."""

from __future__ import annotations

import pytest

from support.edge import Edge
from support.stacks import Stack, lives, stack, until
from support.tunnels import HOSTNAME, cloudflared, declare, frozen, until_gone
from support.visitors import visit

__all__ = ["stack"]


@pytest.mark.parametrize("with_token", [False, True])
def test_a_declared_tunnel_leads_to_the_service_that_a_deploy_started(
    stack: Stack, public: Edge, tmp_path_factory: pytest.TempPathFactory, *, with_token: bool
) -> None:
    """The deploy's id comes back through the public name, in head and body; page, script and style have their types."""
    stack.service("frontend", "answer=site", "echo", role="frontend")
    tunnel = declare(stack, public, with_token=with_token)
    table = stack.manifest.pop("tunnel")
    stack.manifest.pop("public")
    assert stack.deploy().exit_code == 0
    options = ["--token-file", "token"] if with_token else ["--config", table["config"]]
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "token").write_text(tunnel.token)

    with cloudflared(public, "--metrics", table["metrics"], *options, "tunnel", "run", folder=folder) as process:
        until(lambda: visit(public, HOSTNAME).status == 200, "it has its rules")
        live = visit(public, HOSTNAME, "/health/live?nonce=1")
        types = [visit(public, HOSTNAME, path).content_type for path in ("/", "/app.js", "/site.css")]
        with frozen(process.pid):
            pass
        process.kill()
        until_gone(public)

    assert live.json()["deployId"] == live.headers["x-flawless-deploy-id"] == stack.report()["deploy_id"]
    assert types == ["text/html", "text/javascript", "text/css"]
    assert not lives(process.pid)
