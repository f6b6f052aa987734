"""A next step is pasted as it stands, so it has to name the environment it is about."""

from __future__ import annotations

import pytest

from flawless.core.pasting import flags_of, pasted, with_flags


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("restart it: flawless tunnel restart", "restart it: flawless -e staging tunnel restart"),
        ("flawless stop api && flawless start api", "flawless -e staging stop api && flawless -e staging start api"),
        ("what the code means: flawless explain DB_AUTH", "what the code means: flawless explain DB_AUTH"),
        ("flawless -e other deploy", "flawless -e other deploy"),
        ("see /usr/lib/flawless deploy scripts", "see /usr/lib/flawless deploy scripts"),
        ("a flawless statusbar", "a flawless statusbar"),
    ],
)
def test_a_command_of_ours_gets_the_environment(step: str, shown: str) -> None:
    """Those of a stack, and no other words."""
    assert pasted(step, "-e staging") == shown
    assert pasted(step, "") == step


def test_only_next_steps_of_a_tree_are_changed() -> None:
    """What a service printed stays what it printed."""
    tree = {
        "evidence": ["| run flawless deploy"],
        "next_steps": ("flawless deploy",),
        "phases": [{"checks": [{"next_step": "flawless logs api", "code": None}]}],
        "next_step": None,
    }
    assert with_flags(tree, flags_of(None, "a b")) == {
        "evidence": ["| run flawless deploy"],
        "next_steps": ["flawless -e 'a b' deploy"],
        "phases": [{"checks": [{"next_step": "flawless -e 'a b' logs api", "code": None}]}],
        "next_step": None,
    }
    assert with_flags(tree, flags_of(None, None)) is tree


def test_a_manifest_of_another_name_is_named_too() -> None:
    """As it was named: pasted in the same folder."""
    assert pasted("flawless db remove", flags_of("other.toml", None)) == "flawless -c other.toml db remove"
    assert flags_of("conf/x y.toml", "prod") == "-c 'conf/x y.toml' -e prod"
