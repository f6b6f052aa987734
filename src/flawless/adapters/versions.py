"""What a run ran on: the versions in its report."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from flawless import __version__
from flawless.adapters import git


def versions(root: Path, *, uses_node: bool) -> dict[str, Any]:
    """`node` is asked only for a stack that uses it; `git_commit` is None outside a repository."""
    checkout = git.checkout(root)
    return {
        "flawless": __version__,
        "python": platform.python_version(),
        "node": _node() if uses_node else None,
        "os": platform.platform(),
        "git_commit": checkout.commit if checkout else None,
        "git_dirty": checkout.dirty if checkout else False,
    }


def _node() -> str | None:
    try:
        done = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().removeprefix("v") or None
