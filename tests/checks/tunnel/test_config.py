"""FAILURES 36 and 44 before anything is started: a token or a file, whole, with a rule for the public name."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flawless.checks.tunnel.config import Tunnel, TunnelConfigured, Unusable, declared, expected, read
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from support.connectors import HOSTNAME, OTHER, TUNNEL
from support.manifests import manifest_in

pytestmark = pytest.mark.anyio

RULES = f"""
ingress:
  - hostname: {HOSTNAME}
    service: http://127.0.0.1:3000
  - service: http_status:404
"""


def token_of(**told: Any) -> str:
    return base64.b64encode(json.dumps(told).encode()).decode()


def write(folder: Path, text: str = RULES, *, tunnel: str = TUNNEL, credentials: str = "") -> Tunnel:
    """A configuration with its credentials, and the tunnel of a manifest that names it."""
    (folder / "creds.json").write_text(credentials or json.dumps({"TunnelID": TUNNEL, "TunnelSecret": "c2VjcmV0"}))
    (folder / "config.yml").write_text(f"tunnel: {tunnel}\ncredentials-file: {folder / 'creds.json'}\n{text}")
    return Tunnel(HOSTNAME, folder / "config.yml", origins=(("127.0.0.1", 3000),))


async def ask(tunnel: Tunnel) -> Outcome:
    return await TunnelConfigured(tunnel).ask(5)


async def failed(tunnel: Tunnel, reason: Reason) -> Failed:
    outcome = await ask(tunnel)
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason is reason
    return outcome


async def test_a_whole_file(tmp_path: Path) -> None:
    """File, tunnel, credentials and the line of the rule are the evidence; the id is known to others."""
    tunnel = write(tmp_path)
    outcome = await ask(tunnel)
    assert isinstance(outcome, Passed), outcome
    assert f"{tmp_path}/config.yml:5: {HOSTNAME} -> http://127.0.0.1:3000" in outcome.evidence
    assert "c2VjcmV0" not in repr(outcome)
    assert expected(tunnel) == TUNNEL


async def test_a_token(tmp_path: Path) -> None:
    """Its tunnel is known from it; the rules come from Cloudflare, so no file is asked for one."""
    token = token_of(a="acc", s="c2VjcmV0", t=TUNNEL)
    tunnel = Tunnel(HOSTNAME, None, Secret(token))
    outcome = await ask(tunnel)
    assert isinstance(outcome, Passed), outcome
    assert token not in repr(outcome)
    assert expected(tunnel) == TUNNEL


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        base64.b64encode(b"not json").decode(),
        token_of(),
        token_of(a="acc", s="x", t="no id"),
        token_of(a="acc", s="", t=TUNNEL),
        token_of(a="acc", s="x", t=5),
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(b"[" * 100_000).decode(),
        "cloudflared tunnel run --token abc",
    ],
)
async def test_no_token(token: str) -> None:
    """What cloudflared would take and never connect with is refused here; it is not shown."""
    failure = await failed(Tunnel(HOSTNAME, None, Secret(token)), Reason.TUNNEL_CONFIG_INVALID)
    assert token not in repr(failure)
    assert any("cloudflared tunnel token" in step for step in failure.next_steps)


async def test_neither_token_nor_file(tmp_path: Path) -> None:
    """TUNNEL_CONFIG_MISSING names the file that was looked for, and both ways out."""
    failure = await failed(Tunnel(HOSTNAME, tmp_path / "config.yml"), Reason.TUNNEL_CONFIG_MISSING)
    assert f"not there: {tmp_path}/config.yml" in failure.evidence
    assert "[tunnel] token" in failure.next_steps[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3", "config.yml:4: it is no YAML"),
        ("- a\n- b", "config.yml:3: it is no YAML"),
        ("ingress: http://localhost", "config.yml:3: `ingress` is no list of rules"),
        ("ingress:\n  - hostname: a.b\n    service: http://localhost:1/x\n  - service: http_status:404", ":4: rule 1"),
        (f"ingress:\n  - hostname: {HOSTNAME}\n    service: http://localhost:1", ":4: the last rule"),
        ("x: " + "[" * 1000, "it is no YAML: RecursionError"),
    ],
)
async def test_a_broken_file(text: str, said: str, tmp_path: Path) -> None:
    """TUNNEL_CONFIG_INVALID, with file and line."""
    failure = await failed(write(tmp_path, text), Reason.TUNNEL_CONFIG_INVALID)
    assert said in "\n".join(failure.evidence)
    assert str(tmp_path / "config.yml") in failure.next_steps[0]


def test_what_is_no_configuration(tmp_path: Path) -> None:
    """A list, a huge file and bytes that are no text are refused, each with its reason."""
    file = tmp_path / "config.yml"
    for data, said in ((b"- a", "no YAML mapping"), (b"#" * 70_000, "larger than 64 KiB"), (b"a: 1\n\xff", "UTF-8")):
        file.write_bytes(data)
        with pytest.raises(Unusable, match=said):
            read(file)


async def test_a_bomb_is_read_in_no_time(tmp_path: Path) -> None:
    """References to references cost nothing, as nothing walks through them."""
    bomb = "\n".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9 if at else ['x'])}]" for at in range(30))
    failure = await failed(write(tmp_path, bomb), Reason.TUNNEL_NO_RULE)
    assert len(repr(failure)) < 2000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
async def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """Another user's file is named as such."""
    tunnel = write(tmp_path)
    (tmp_path / "config.yml").chmod(0)
    failure = await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)
    assert "Permission denied" in failure.evidence[0]


async def test_no_tunnel_in_the_file(tmp_path: Path) -> None:
    """A file without `tunnel` starts nothing; with a token of its own it does."""
    tunnel = write(tmp_path, RULES, tunnel='""')
    assert "tunnel: <id>" in (await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)).next_steps[0]
    with (tmp_path / "config.yml").open("a") as file:
        file.write("token-file: /run/secrets/token\n")
    assert isinstance(await ask(tunnel), Passed)


async def test_credentials(tmp_path: Path) -> None:
    """Missing, no JSON, or of another tunnel: each is said with the file's name, and never a part of it."""
    tunnel = write(tmp_path, credentials="c2VjcmV0")
    assert "creds.json" in (await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)).cause
    (tmp_path / "creds.json").write_text(json.dumps({"TunnelID": OTHER, "TunnelSecret": "c2VjcmV0"}))
    other = await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)
    assert OTHER in "\n".join(other.evidence)
    assert "c2VjcmV0" not in repr(other)
    (tmp_path / "creds.json").unlink()
    assert "creds.json" in (await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)).evidence[0]


async def test_credentials_beside_the_file(tmp_path: Path) -> None:
    """Without `credentials-file` they are <id>.json beside it, as cloudflared has it."""
    tunnel = write(tmp_path)
    (tmp_path / "config.yml").write_text(f"tunnel: {TUNNEL}\n{RULES}")
    assert f"{tmp_path}/{TUNNEL}.json" in (await failed(tunnel, Reason.TUNNEL_CONFIG_INVALID)).evidence[0]
    (tmp_path / "creds.json").rename(tmp_path / f"{TUNNEL}.json")
    assert isinstance(await ask(tunnel), Passed)


async def test_a_name_in_place_of_the_id(tmp_path: Path) -> None:
    """`tunnel: shop` has its id from the credentials."""
    assert expected(write(tmp_path, tunnel="shop")) == TUNNEL


async def test_two_ids_in_the_manifest(tmp_path: Path) -> None:
    """A file of one tunnel and [external.cloudflare] with another contradict each other."""
    tunnel = write(tmp_path)
    both = Tunnel(HOSTNAME, tunnel.config, tunnel=OTHER)
    failure = await failed(both, Reason.TUNNEL_CONFIG_INVALID)
    assert OTHER in failure.cause
    assert TUNNEL in failure.evidence[0]
    assert expected(both) == OTHER


@pytest.mark.parametrize(
    "rules",
    [
        "ingress:\n  - hostname: other.example.org\n    service: http://127.0.0.1:1\n  - service: http_status:404",
        f"ingress:\n  - hostname: {HOSTNAME}\n    path: ^/api\n    service: http://a:1\n  - service: http_status:404",
    ],
)
async def test_no_rule_for_the_name(rules: str, tmp_path: Path) -> None:
    """TUNNEL_NO_RULE with the very lines to add, and before which line."""
    failure = await failed(write(tmp_path, rules), Reason.TUNNEL_NO_RULE)
    lines = (tmp_path / "config.yml").read_text().splitlines()
    last = lines.index("  - service: http_status:404") + 1
    assert failure.next_steps == (
        f"add before the last rule, {tmp_path}/config.yml:{last}:",
        f"- hostname: {HOSTNAME}",
        "  service: http://127.0.0.1:3000",
    )


async def test_no_rules_at_all(tmp_path: Path) -> None:
    """Every request would get 503: the whole table is there to be pasted."""
    failure = await failed(write(tmp_path, ""), Reason.TUNNEL_NO_RULE)
    assert failure.next_steps[1:] == (
        "ingress:",
        f"- hostname: {HOSTNAME}",
        "  service: http://127.0.0.1:3000",
        "- service: http_status:404",
    )


async def test_the_catch_all_may_serve_the_name(tmp_path: Path) -> None:
    """One rule for everything leads to the service as well."""
    assert isinstance(await ask(write(tmp_path, "ingress:\n  - service: http://127.0.0.1:3000")), Passed)


async def test_no_hostname(tmp_path: Path) -> None:
    """A tunnel without a public name is for nobody."""
    tunnel = write(tmp_path)
    failure = await failed(Tunnel("", tunnel.config), Reason.TUNNEL_CONFIG_INVALID)
    assert "[tunnel] hostname" in failure.next_steps[0]


MANIFEST = """
[tunnel]
hostname = "App.Example.org."
config = "conf/config.yml"
[external.cloudflare]
tunnel = "ABC"
[services.worker]
role = "worker"
command = ["a"]
port = 9
[services.backend]
role = "backend"
command = ["a"]
port = 3001
[services.frontend]
role = "frontend"
command = ["a"]
port = 3000
host = "0.0.0.0"
"""


def test_what_a_manifest_declares(tmp_path: Path) -> None:
    """Name, file beside the manifest, id, and the services that may be behind it: the frontend before the backend."""
    tunnel = declared(manifest_in(tmp_path, MANIFEST))
    assert tunnel is not None
    assert (tunnel.hostname, tunnel.config, tunnel.tunnel) == (HOSTNAME, tmp_path / "conf/config.yml", "abc")
    assert tunnel.origins == (("0.0.0.0", 3000), ("127.0.0.1", 3001))
    assert tunnel.rule == (f"- hostname: {HOSTNAME}", "  service: http://127.0.0.1:3000")


def test_a_token_needs_no_file(tmp_path: Path) -> None:
    """With a token the default file counts for nothing; without a tunnel there is nothing to ask."""
    text = '[tunnel]\nhostname = "a.b"\ntoken = "abc"'
    tunnel = declared(manifest_in(tmp_path, text))
    assert tunnel is not None
    assert tunnel.config is None
    assert declared(manifest_in(tmp_path, "")) is None
    assert declared(manifest_in(tmp_path, '[tunnel]\nprovider = "none"')) is None
