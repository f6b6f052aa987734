"""flawless config shows the manifest as it was understood, without a secret in it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from cli.conftest import Say

CANARY = "sk_live_abcdefghijklmnop1234"
MANIFEST = """
name = "shop"
[env]
require = ["STRIPE_SECRET_KEY"]
[services.backend]
role = "backend"
command = ["node", "server.js", "--key", "${STRIPE_SECRET_KEY}"]
port = "${PORT:-3001}"
env = { "MODE" = "x" }
"""


@pytest.fixture(autouse=True)
def project_with_manifest(project: Path) -> None:
    (project / "flawless.toml").write_text(MANIFEST)
    (project / ".env").write_text(f"STRIPE_SECRET_KEY={CANARY}\n")


def test_what_is_shown_is_toml_with_every_value(flawless: Say) -> None:
    """Resolved values and defaults, in the form they are written in."""
    shown = tomllib.loads(flawless("config", "show").out)
    assert shown["services"]["backend"]["port"] == 3001
    assert shown["services"]["backend"]["env"] == {"MODE": "x"}
    assert shown["timeouts"]["database"] == "20s"
    assert flawless("config").out == flawless("config", "show").out


@pytest.mark.parametrize("words", [("show",), ("show", "--origin"), ("show", "--json"), ("show", "--origin", "--json")])
def test_no_secret_is_shown(flawless: Say, words: tuple[str, ...]) -> None:
    """Not even in the middle of an argv."""
    said = flawless("config", *words)
    assert CANARY not in said.out + said.err
    assert "****" in said.out


def test_the_origin_of_each_value_is_told(flawless: Say, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and line, or default; which place gave the variable; which place won over which."""
    monkeypatch.setenv("PORT", "3005")
    (project / ".env").write_text(f"STRIPE_SECRET_KEY={CANARY}\nPORT=3004\n")
    shown = flawless("config", "show", "--origin").out
    assert "services.backend.port = 3005  # flawless.toml:8; PORT from process environment" in shown
    assert 'services.backend.host = "127.0.0.1"  # default' in shown
    assert any(line.startswith("# ") and "PORT" in line and ".env" in line for line in shown.splitlines())


def test_a_valid_manifest_is_said_to_be_valid(flawless: Say, project: Path) -> None:
    """With counts, and the variables that are not set yet."""
    (project / ".env").write_text("")
    said = flawless("config", "validate")
    assert said.exit_code == 0
    assert said.out.startswith("valid: flawless.toml, 1 service, ")
    assert "not set yet: STRIPE_SECRET_KEY" in said.out
    assert flawless("config", "validate", "--json").document["valid"] is True


def test_every_problem_is_said_at_once(flawless: Say, project: Path) -> None:
    """Exit code 78; each problem with its path; as text on standard error, as JSON on standard output."""
    (project / "flawless.toml").write_text('nam = "shop"\n[services.backend]\nrole = "back"\ncommand = ["x"]\n')
    said = flawless("config", "validate")
    assert (said.exit_code, said.out) == (78, "")
    assert "nam:" in said.err
    assert "services.backend.role:" in said.err
    assert json.loads(flawless("config", "validate", "--json").out)["error"]["exit_code"] == 78


def test_the_schema_is_a_json_schema(flawless: Say) -> None:
    """On standard output, ready for an editor."""
    assert json.loads(flawless("config", "schema").out)["$schema"].endswith("2020-12/schema")
    assert flawless("config", "schema", "--json").document["title"] == "Settings"
