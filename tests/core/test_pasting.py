"""A next step is pasted as it stands, so it has to name the environment it is about."""

from __future__ import annotations

import pytest

from flawless.core.pasting import for_environment, pasted


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("restart it: flawless tunnel restart", "restart it: flawless -e staging tunnel restart"),
        (
            "flawless stop tunnel && flawless start tunnel",
            "flawless -e staging stop tunnel && flawless -e staging start tunnel",
        ),
        ("what the code means: flawless explain DB_AUTH", "what the code means: flawless explain DB_AUTH"),
        ("flawless -e other deploy", "flawless -e other deploy"),
        ("see /usr/lib/flawless deploy scripts", "see /usr/lib/flawless deploy scripts"),
        ("a flawless statusbar", "a flawless statusbar"),
    ],
)
def test_a_command_of_ours_gets_the_environment(step: str, shown: str) -> None:
    """Those of a stack, and no other words."""
    assert pasted(step, "staging") == shown
    assert pasted(step, None) == step


def test_only_next_steps_of_a_tree_are_changed() -> None:
    """What a service printed stays what it printed."""
    tree = {
        "evidence": ["| run flawless deploy"],
        "next_steps": ("flawless deploy",),
        "phases": [{"checks": [{"next_step": "flawless logs api", "code": None}]}],
        "next_step": None,
    }
    assert for_environment(tree, "a b") == {
        "evidence": ["| run flawless deploy"],
        "next_steps": ["flawless -e 'a b' deploy"],
        "phases": [{"checks": [{"next_step": "flawless -e 'a b' logs api", "code": None}]}],
        "next_step": None,
    }
    assert for_environment(tree, None) is tree
