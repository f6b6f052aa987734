"""What the backend reads from its environment, once, at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Secrets stay out of `repr`, so that a logged settings object gives none away."""

    port: int
    database_url: str = field(repr=False)
    storage: Path = Path("storage")
    admin_password: str = field(default="", repr=False)
    deploy_id: str = ""
    commit: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """An empty DATABASE_URL is allowed: the process lives, and `/health/db` says what is missing."""
        return cls(
            port=int(environment.get("PORT", "3001")),
            database_url=environment.get("DATABASE_URL", ""),
            storage=Path(environment.get("STORAGE_DIR", "storage")),
            admin_password=environment.get("ADMIN_PASSWORD", ""),
            deploy_id=environment.get("FLAWLESS_DEPLOY_ID", ""),
            commit=environment.get("GIT_COMMIT", ""),
        )
