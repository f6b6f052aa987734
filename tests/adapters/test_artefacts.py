"""Artefacts that are really built: the file is there afterwards, or the tool's own last lines say why not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flawless.adapters.artefacts import BuildableArtefact
from flawless.adapters.commands import Command
from flawless.checks.artefacts import ArtefactFresh
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.redaction import Redactor
from flawless.core.settings import ArtefactSettings

pytestmark = pytest.mark.anyio

SECRET = "canary-of-a-secret-0123456789"


def artefact(root: Path, code: str, *, program: str = sys.executable, limit: float = 20) -> BuildableArtefact:
    argv = (program, "-c", code)
    settings = ArtefactSettings(path="out.js", sources=("in.ts",), build=argv)
    command = Command(argv, root, {"PATH": os.defpath, "TOKEN": SECRET})
    return BuildableArtefact("client", ArtefactFresh("client", root, settings), command, limit, Redactor([SECRET]))


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


async def test_built(tmp_path: Path) -> None:
    """The command runs in its directory, and the artefact is fresh."""
    (tmp_path / "in.ts").write_text("")
    assert isinstance(await artefact(tmp_path, "open('out.js', 'w')").build(), Passed)
    assert (tmp_path / "out.js").is_file()


async def test_a_build_that_fails(tmp_path: Path) -> None:
    """ARTEFACT_BUILD_FAILED with the tool's last lines, its secrets taken out."""
    code = "import os, sys; print('schema.prisma: line 3', os.environ['TOKEN']); sys.exit(7)"
    failure = failed(await artefact(tmp_path, code).build())
    assert failure.reason is Reason.ARTEFACT_BUILD_FAILED
    assert failure.cause.endswith("ended with exit code 7")
    assert failure.evidence == ("| schema.prisma: line 3 ****",)
    assert SECRET not in repr(failure)


async def test_a_build_that_makes_nothing(tmp_path: Path) -> None:
    """Exit code 0 without the file is a failure, and not the advice to build again."""
    failure = failed(await artefact(tmp_path, "print('done')").build())
    assert failure.reason is Reason.ARTEFACT_MISSING
    assert "ended well, and still: client: out.js is missing" in failure.cause
    assert "| done" in failure.evidence
    assert "mend artefacts.client" in failure.next_steps[0]


async def test_a_build_that_leaves_it_stale(tmp_path: Path) -> None:
    """An artefact that is as old as before is a failure too."""
    (tmp_path / "out.js").write_text("")
    os.utime(tmp_path / "out.js", (1, 1))
    (tmp_path / "in.ts").write_text("")
    assert failed(await artefact(tmp_path, "pass").build()).reason is Reason.ARTEFACT_STALE


async def test_a_build_that_hangs(tmp_path: Path) -> None:
    """A build that takes too long is ended."""
    failure = failed(await artefact(tmp_path, "import time; time.sleep(60)", limit=0.5).build())
    assert failure.reason is Reason.ARTEFACT_BUILD_FAILED
    assert "did not end within 0.5 s (timeouts.build)" in failure.cause


async def test_a_tool_that_is_not_there(tmp_path: Path) -> None:
    """A build command that is not installed is TOOL_MISSING, with where it was looked for."""
    failure = failed(await artefact(tmp_path, "", program="no-such-tool").build())
    assert failure.reason is Reason.TOOL_MISSING
    assert any("looked for in" in line for line in failure.evidence)


async def test_one_that_cannot_be_built(tmp_path: Path) -> None:
    """Without a command nothing is built."""
    check = ArtefactFresh("client", tmp_path, ArtefactSettings(path="out.js"))
    one = BuildableArtefact("client", check, None, 1, Redactor([]))
    assert not one.can_be_built
    with pytest.raises(ValueError, match="no build command"):
        await one.build()
