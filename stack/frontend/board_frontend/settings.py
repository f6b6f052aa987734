"""What the frontend reads from its environment, once, at the start. It is given no secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    port: int
    backend_url: str
    deploy_id: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        return cls(
            port=int(environment.get("PORT", "3000")),
            backend_url=environment.get("BACKEND_URL", "http://127.0.0.1:3001"),
            deploy_id=environment.get("FLAWLESS_DEPLOY_ID", ""),
        )
