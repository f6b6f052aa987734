"""The manifest as it is shown: resolved, redacted, with origins; its schema and its reference."""

from __future__ import annotations

import json
from pathlib import Path

from flawless.manifest import schema, settings_reference, to_display
from flawless.manifest.outline import outline, secret_shapes

from .conftest import Load

SAMPLE = (Path(__file__).parent / "sample.toml").read_text(encoding="utf-8")
CANARIES = {
    "DATABASE_URL": "postgresql://shop:canary-db-1@h/d",
    "STRIPE_SECRET_KEY": "canary-stripe-2",
    "STRIPE_WEBHOOK_SECRET": "canary-hook-3",
    "OPENAI_API_KEY": "canary-openai-4",
    "ADMIN_PASSWORD": "canary-admin-5",
    "CLOUDFLARE_API_TOKEN": "canary-cf-6",
    "SLACK_URL": "slack://canary-slack-7",
}


def test_nothing_secret_is_shown(read: Load) -> None:
    """From a variable, as part of another text, or written into the manifest itself."""
    service = '[services.x]\nrole = "worker"\ncommand = ["x", "--key=${OPENAI_API_KEY}"]\n'
    more = service + 'env = { API_TOKEN = "canary-literal-8" }\n'
    manifest = read(SAMPLE + more, environ=CANARIES)
    shown = json.dumps([to_display(manifest), to_display(manifest, origin=True)]) + repr([manifest, manifest.settings])
    assert "canary" not in shown
    assert to_display(manifest)["services"]["x"]["command"] == ["x", "--key=****"]


def test_values_are_shown_resolved_in_the_forms_people_write(read: Load) -> None:
    """Durations and sizes with units, the kind of database in plain words."""
    shown = to_display(read('name = "a"\n[database]\nurl = "embedded"\nlatency_warning = 1.5'))
    assert shown["database"] == {"url": "embedded", "direct_url": "", "tables": [], "latency_warning": "1500ms"}
    assert (shown["logs"]["max_size"], shown["timeouts"]["database"]) == ("10MB", "20s")


def test_every_value_says_where_it_came_from(read: Load) -> None:
    """File and line, the variables and who gave them, or that it is a default."""
    manifest = read(SAMPLE, environ={"FLAWLESS_TIMEOUT_STOP": "3s"}, files={".env": "\nPORT=3005\n"})
    shown = to_display(manifest, origin=True)
    assert shown["services.backend.port"] == {
        "value": 3005,
        "origin": "flawless.toml:34",
        "variables": {"PORT": ".env:2"},
    }
    assert shown["base_url"]["variables"] == {"BASE_URL": "not set"}
    assert shown["timeouts.build"]["origin"] == "default"
    assert shown["timeouts.stop"] == {
        "value": "3s",
        "origin": "process environment",
        "variables": {"FLAWLESS_TIMEOUT_STOP": "process environment"},
    }
    assert shown["services.backend.command"]["origin"] == "flawless.toml:32"


def test_the_schema_knows_every_key() -> None:
    """JSON, closed to unknown keys, with the descriptions."""
    document = schema()
    text = json.dumps(document)
    assert document["additionalProperties"] is False
    assert all(json.dumps(entry.name) in text for entry in outline())


def test_the_reference_has_a_row_for_every_key() -> None:
    """Every setting has its type, its default, its range and a meaning."""
    page = settings_reference()
    for entry in outline():
        assert f"| `{entry.name}` |" in page
        assert entry.field.description, entry.shape
    assert '| `stop` | duration | `"15s"` | 10ms to 1h |' in page
    assert "FLAWLESS_TIMEOUT_BACKEND_READY" in page


def test_the_places_of_secrets_are_known_from_the_types() -> None:
    """What is masked follows the settings, not a list beside them."""
    assert set(secret_shapes()) == {
        ("database", "url"),
        ("database", "direct_url"),
        ("tunnel", "token"),
        ("external", "stripe", "key"),
        ("external", "stripe", "webhook_secret"),
        ("external", "openai", "key"),
        ("external", "cloudflare", "token"),
        ("admin", "password"),
        ("notify", "urls", "[]"),
    }
