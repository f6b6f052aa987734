"""The manifest for people and editors: resolved and redacted, with origins, and its JSON schema."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flawless.core.duration import format_duration, format_size
from flawless.core.secret import MASK, Secret
from flawless.core.settings import EMBEDDED, Settings
from flawless.manifest.keys import Keys, to_dotted, walk
from flawless.manifest.manifest import Manifest
from flawless.manifest.outline import range_of
from flawless.manifest.variables import has_credentials, is_secret_name

DEFAULT: Final = "default"
# A shorter secret inside of a longer text is left: masking "dev" would tear holes into ordinary words.
_SHORTEST_INSIDE: Final = 8


def to_display(manifest: Manifest, *, origin: bool = False) -> dict[str, Any]:
    """The settings resolved and redacted, as JSON values in the forms people write.

    With `origin` a flat table, dotted path to `{value, origin, variables}`: `variables` says which place gave each.
    """
    tree = _Redactor(manifest.sensitive).table(manifest.settings)
    if not origin:
        return tree
    leaves = {to_dotted(keys): value for keys, value in walk(tree) if _is_leaf(keys, value)}
    return {path: _with_origin(manifest, path, value) for path, value in leaves.items()}


def _is_leaf(keys: Keys, value: Any) -> bool:
    """Lists are shown whole, tables by what is in them."""
    inside_list = any(isinstance(key, int) for key in keys)
    return not inside_list and (not isinstance(value, dict) or not value)


def schema() -> dict[str, Any]:
    """The manifest's JSON schema (2020-12), for editors. Any value may also be a text with variables."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def _with_origin(manifest: Manifest, path: str, value: Any) -> dict[str, Any]:
    origin = manifest.origins.get(path)
    inside = [item for name, item in manifest.origins.items() if name == path or name.startswith(f"{path}[")]
    names = dict.fromkeys(name for item in inside for name in item.variables)
    places = {name: manifest.variables[name].source if name in manifest.variables else "not set" for name in names}
    return {"value": value, "origin": str(origin) if origin else DEFAULT, "variables": places}


class _Redactor:
    def __init__(self, sensitive: tuple[Secret, ...]) -> None:
        self._values = sorted((secret.reveal() for secret in sensitive), key=len, reverse=True)

    def table(self, model: BaseModel) -> dict[str, Any]:
        """A table of the manifest; what is absent is left out."""
        shown: dict[str, Any] = {}
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if value is not None:
                shown[field.alias or name] = self._value(value, field, name)
        return shown

    def _value(self, value: Any, field: FieldInfo, name: str) -> Any:
        match value:
            case BaseModel():
                return self.table(value)
            case Secret():
                return value.reveal() if value.reveal() in ("", EMBEDDED) else MASK
            case dict():
                return {key: self._value(item, field, key) for key, item in value.items()}
            case tuple() | list():
                return [self._value(item, field, name) for item in value]
            case str():
                return MASK if value and is_secret_name(name) else self._text(str(value))
            case _ if field.annotation is Any or isinstance(value, bool):
                return value
            case float():
                return format_duration(value)
            case _:
                return format_size(value) if range_of(field) else value

    def _text(self, text: str) -> str:
        if text in self._values or has_credentials(text):
            return MASK
        for value in self._values:
            if len(value) >= _SHORTEST_INSIDE:
                text = text.replace(value, MASK)
        return text
