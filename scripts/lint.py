"""Everything CI checks beside the tests: the one list. Run as `python3 bootstrap.py lint`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = "from importlinter.cli import lint_imports_command as lint_imports; lint_imports()"
CHECKS: dict[str, list[str]] = {
    "lint": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy"],
    "layers": ["-c", IMPORTS],  # import-linter has no `python -m`, and scripts of an environment do not survive a move
    "lock": ["scripts/lock.py", "--check"],
    "docs": ["scripts/docs.py", "--check"],
}


def main() -> int:
    for name, command in CHECKS.items():
        sys.stdout.write(f"{name}: python {shlex.join(command)}\n")
        sys.stdout.flush()
        if code := subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
