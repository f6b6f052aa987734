"""Deploys that must pass: what is well, what is slow, what only looks bad, what has not changed."""

from __future__ import annotations

from support.stacks import Stack


def test_a_stack_of_two_comes_up_and_both_serve(stack: Stack) -> None:
    """The verdict is success, both services answer, and the report names what runs."""
    stack.backend()
    stack.frontend()

    done = stack.deploy()

    assert done.exit_code == 0, done.output
    report = stack.report()
    assert report["result"] == "success"
    assert {one["name"]: one["pid"] for one in report["services"]} == {
        name: stack.pid(name) for name in ("backend", "frontend")
    }
    assert stack.ask("backend")["deployId"] == report["deploy_id"]
    assert report["health"]["live"]["service"] in {"backend", "frontend"}
