"""FAILURE 15 on real files: missing and stale, with the source that is newer and what makes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flawless.checks.artefacts import ArtefactFresh
from flawless.core.check import Failed, Passed
from flawless.core.reason import Reason
from flawless.core.settings import ArtefactSettings

pytestmark = pytest.mark.anyio


def make(root: Path, name: str, at: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.utime(path, (at, at))


def artefact(root: Path, path: str, *sources: str, build: tuple[str, ...] = ()) -> ArtefactFresh:
    return ArtefactFresh("client", root, ArtefactSettings(path=path, sources=sources, build=build, directory="backend"))


async def failed(check: ArtefactFresh) -> Failed:
    outcome = await check.ask(5)
    assert isinstance(outcome, Failed), outcome
    return outcome


async def test_missing(tmp_path: Path) -> None:
    """A file that is not there is ARTEFACT_MISSING; without a build command that is said."""
    failure = await failed(artefact(tmp_path, "dist/index.js"))
    assert failure.reason is Reason.ARTEFACT_MISSING
    assert failure.cause == "client: dist/index.js is missing"
    assert failure.evidence == (
        f"nothing is there: {tmp_path}/dist/index.js",
        "it is not built: artefacts.client has no `build`",
    )


async def test_missing_with_a_build_command(tmp_path: Path) -> None:
    """With a build command a deploy makes it; the line to paste stands beside."""
    failure = await failed(artefact(tmp_path, "dist/index.js", build=("npx", "prisma", "generate")))
    assert "flawless deploy builds it: npx prisma generate" in failure.evidence
    assert failure.next_steps == ("flawless deploy", f"by hand: cd {tmp_path}/backend && npx prisma generate")


async def test_stale(tmp_path: Path) -> None:
    """A newer source is named, with how much newer it is; of several the newest."""
    for name, at in (("out.js", 1000), ("src/a.ts", 900), ("src/deep/b.ts", 8200), ("src/c.ts", 1100)):
        make(tmp_path, name, at)
    for pattern in ("src/**", "src/**/*.ts", "src", "src/deep/*.ts", f"{tmp_path}/src/**"):
        failure = await failed(artefact(tmp_path, "out.js", pattern))
        assert failure.reason is Reason.ARTEFACT_STALE
        assert failure.cause == "client: out.js is older than src/deep/b.ts"
        assert failure.evidence[0] == "src/deep/b.ts was changed 2 h after it was made"


async def test_fresh(tmp_path: Path) -> None:
    """As new as its sources is fresh; folders and patterns are as new as their newest file."""
    for name, at in (("a.ts", 1000), ("out.js", 1000), ("dist/old.js", 10), ("dist/x/new.js", 1001)):
        make(tmp_path, name, at)
    for path in ("out.js", "dist", "dist/**", "dist/*/*.js"):
        assert await artefact(tmp_path, path, "a.ts").ask(5) == Passed(
            (f"{path} is there, and newer than its sources",)
        )
    assert (await failed(artefact(tmp_path, "dist/*.js", "a.ts"))).reason is Reason.ARTEFACT_STALE


async def test_a_link_to_nothing_is_missing(tmp_path: Path) -> None:
    """A dangling link is no file, and an empty folder holds none."""
    (tmp_path / "out.js").symlink_to("gone")
    (tmp_path / "dist").mkdir()
    assert (await failed(artefact(tmp_path, "out.js"))).reason is Reason.ARTEFACT_MISSING
    assert (await failed(artefact(tmp_path, "dist"))).reason is Reason.ARTEFACT_MISSING


async def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    """Of a source that is not there no freshness follows: a warning."""
    make(tmp_path, "out.js", 1000)
    outcome = await artefact(tmp_path, "out.js", "schema.prisma").ask(5)
    assert isinstance(outcome, Passed)
    assert outcome.concern is not None
    assert "schema.prisma" in outcome.evidence[0]


async def test_odd_names(tmp_path: Path) -> None:
    """A project folder may be called [shop]*."""
    root = tmp_path / "[shop]*"
    make(root, "out.js", 1000)
    make(root, "src/a b.ts", 2000)
    assert (await failed(artefact(root, "out.js", "src/*"))).cause.endswith("older than src/a b.ts")
