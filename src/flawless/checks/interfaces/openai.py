"""The question to OpenAI: does it accept the key? The list of models is read, and no model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flawless.checks.interfaces.api import Api, Provider
from flawless.core.check import Failed, Outcome, Passed

OPENAI: Final = Provider(
    "OpenAI",
    "key",
    "external.openai",
    "https://api.openai.com",
    "/v1",
    "https://platform.openai.com/api-keys",
    "https://status.openai.com",
    "Models: read",
)


@dataclass(frozen=True, slots=True)
class OpenAIAcceptsKey:
    """The list of models is shown to the key, for the organization and the project of the manifest."""

    api: Api
    optional: bool = False

    id = "external.openai"
    claim = "OpenAI accepts the key"

    async def ask(self, limit: float) -> Outcome:
        found = await self.api.get("/v1/models", self.api.until(limit))
        if isinstance(found, Failed):
            return found
        models = found.body.get("data")
        if found.body.get("object") != "list" or not isinstance(models, list):
            return self.api.unexpected(found.path, f"status {found.status} and no list of models")
        named = [name.partition("-")[2].lower() for name in self.api.headers]
        place = f", for this {' and '.join(named)}" if named else ""
        return Passed((f"{self.api.host} answered {found.path} with 200", f"{len(models)} models{place}"))
