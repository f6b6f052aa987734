"""A manifest in a folder, read as the product reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flawless.manifest import Manifest, load


def manifest_in(
    folder: Path,
    text: str,
    *,
    env: str | None = None,
    environ: Mapping[str, str] | None = None,
    environment: str | None = None,
) -> Manifest:
    """Writes flawless.toml, and .env when `env` is given, and reads them; nothing of our own environment counts."""
    (folder / "flawless.toml").write_text(f'name = "shop"\n{text}', encoding="utf-8")
    if env is not None:
        (folder / ".env").write_text(env, encoding="utf-8")
    if environment:
        (folder / f"flawless.{environment}.toml").write_text("", encoding="utf-8")
    return load(folder, environment=environment, environ=environ or {})
