"""A folder with a manifest in it, and what came of reading it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from flawless.core.errors import ConfigInvalid, Problem
from flawless.manifest import Manifest, load

Load = Callable[..., Manifest]
Refuse = Callable[..., dict[str, Problem]]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Writes a manifest (and files beside it) and loads it."""

    def write_and_load(
        text: str,
        *,
        environ: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        environment: str | None = None,
    ) -> Manifest:
        for name, content in {"flawless.toml": text, **(files or {})}.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        return load(tmp_path, environment=environment, environ=environ or {})

    return write_and_load


@pytest.fixture
def refuse(read: Load) -> Refuse:
    """The problems of a manifest that must be refused, by path."""

    def problems_of(text: str, **more: object) -> dict[str, Problem]:
        with pytest.raises(ConfigInvalid) as caught:
            read(text, **more)
        assert caught.value.exit_code == 78
        assert caught.value.code == "CONFIG_INVALID"
        assert caught.value.next_steps
        return {problem.path: problem for problem in caught.value.problems}

    return problems_of
