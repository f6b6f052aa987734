"""From files to a `Manifest`: read, lay over, put the variables in, validate, say everything that is wrong at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError

from flawless.core.errors import ConfigInvalid, Problem
from flawless.core.secret import Secret
from flawless.core.settings import EMBEDDED, ServiceSettings, Settings, TcpProbe, TimeoutSettings
from flawless.manifest.document import Document, read_document
from flawless.manifest.environment import DATABASE_URL, inherited_from
from flawless.manifest.interpolation import Missing, interpolate, names_in
from flawless.manifest.keys import Keys, look_up, to_dotted, walk
from flawless.manifest.location import find_manifest, find_overlay
from flawless.manifest.manifest import Manifest, Origin, Unresolved
from flawless.manifest.outline import holds_secret
from flawless.manifest.problems import Source, breach_to_problem, to_problems
from flawless.manifest.rules import find_breaches
from flawless.manifest.variables import PROCESS, Setting, Variable, is_secret_name, read_env_files, resolve

TIMEOUT: Final = "FLAWLESS_TIMEOUT_"
PREDEFINED: Final = {"FLAWLESS_PYTHON": sys.executable}


@dataclass(slots=True)
class _Draft:
    """The manifest while it is put together. `literal` stays as written, `data` gets the variables."""

    literal: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, Origin] = field(default_factory=dict)
    files: dict[str, list[Setting]] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    missing: dict[Keys, tuple[Missing, ...]] = field(default_factory=dict)
    masked: set[Keys] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def source(self) -> Source:
        secrets = [variable.value for variable in self.variables.values() if isinstance(variable.value, Secret)]
        return Source(self.data, self.origins, self.missing, self.masked, secrets)

    def value_of(self, name: str) -> str | None:
        variable = self.variables.get(name)
        return variable.reveal() if variable else None


def load(
    start: Path, *, file: Path | None = None, environment: str | None = None, environ: Mapping[str, str]
) -> Manifest:
    """Reads the manifest for a folder. ConfigInvalid, with every problem, when it cannot be read or is invalid."""
    path = find_manifest(start, file)
    documents = [read_document(path, path.name)]
    if environment:
        overlay = find_overlay(path, environment)
        documents.append(read_document(overlay, overlay.name))
    draft = _Draft()
    for document in documents:
        _lay_over(draft, document)
    env_files = _env_files(draft)
    draft.files = read_env_files(path.parent, env_files, draft.problems)
    _resolve_variables(draft, environ)
    draft.data = _put_variables_in(draft)
    _apply_timeouts(draft, environ)
    settings = _validate(draft)
    return Manifest(
        settings=settings,
        path=path,
        root=path.parent,
        environment=environment or None,
        secrets=_secrets(draft),
        sensitive=_sensitive(draft, settings),
        variables=draft.variables,
        origins={to_dotted(keys): origin for keys, origin in draft.origins.items()},
        overrides=tuple(_overrides(draft, path.parent, env_files)),
        unresolved=tuple(_unresolved(draft, settings)),
        files=tuple(document.name for document in documents),
        env_files=env_files,
        env_names=frozenset(draft.files),
        inherited=inherited_from(environ),
    )


def _lay_over(draft: _Draft, document: Document) -> None:
    """Tables are merged; lists and scalars replace what stood there, with its lines."""
    waiting: list[tuple[Keys, dict[str, Any], dict[str, Any]]] = [((), draft.literal, document.data)]
    replaced: set[Keys] = set()
    while waiting:
        above, base, table = waiting.pop()
        for key, value in table.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                waiting.append(((*above, key), base[key], value))
            else:
                base[key] = value
                replaced.add((*above, key))
    kept = {keys: origin for keys, origin in draft.origins.items() if not _is_within(keys, replaced)}
    new = {keys: Origin(document.name, line) for keys, line in document.lines.items() if _is_within(keys, replaced)}
    draft.origins = kept | new


def _is_within(keys: Keys, places: set[Keys]) -> bool:
    return any(keys[:end] in places for end in range(1, len(keys) + 1))


def _env_files(draft: _Draft) -> tuple[str, ...]:
    """The files to read; a wrong type is left to the validation."""
    files = look_up(draft.literal, ("env", "files"))
    if files is None:
        return (".env",)
    names = _texts(files)
    for index, name in enumerate(files if isinstance(files, list) else ()):
        if isinstance(name, str) and "${" in name:
            keys = ("env", "files", index)
            draft.problems.append(
                draft.source().problem(keys, "a variable", "a plain name, as no variable is known yet")
            )
    return tuple(name for name in names if "${" not in name)


def _resolve_variables(draft: _Draft, environ: Mapping[str, str]) -> None:
    """Every variable of the `.env` files, and those of the process that the manifest names."""
    declared = {*_texts(look_up(draft.literal, ("env", "secrets"))), *_listed(draft), *_used_as_secrets(draft)}
    names = [*draft.files, *_texts(look_up(draft.literal, ("env", "require"))), *sorted(declared)]
    for _, value in walk(draft.literal):
        names += names_in(value) if isinstance(value, str) else ()
    for name in dict.fromkeys(names):
        variable = resolve(name, draft.files, environ, secret=name in declared)
        if variable is None and name in PREDEFINED:
            variable = Variable(PREDEFINED[name], "predefined")
        if variable is not None:
            draft.variables[name] = variable


def _listed(draft: _Draft) -> set[str]:
    """What services list as their secrets."""
    services = draft.literal.get("services")
    tables = services.values() if isinstance(services, dict) else ()
    return {name for table in tables if isinstance(table, dict) for name in _texts(table.get("secrets"))}


def _used_as_secrets(draft: _Draft) -> set[str]:
    """Variables that are the whole of a secret value: whatever their name, they are secrets."""
    return {
        names[0]
        for keys, value in walk(draft.literal)
        if isinstance(value, str) and holds_secret(keys) and value.startswith("${") and value.endswith("}")
        if len(names := names_in(value)) == 1 and value.count("}") == 1
    }


def _put_variables_in(draft: _Draft) -> dict[str, Any]:
    def put_in(keys: Keys, value: Any) -> Any:
        match value:
            case dict():
                return {key: put_in((*keys, key), item) for key, item in value.items()}
            case list():
                return [put_in((*keys, index), item) for index, item in enumerate(value)]
            case str():
                return _put_in_text(draft, keys, value)
            case _:
                return value

    data = put_in((), draft.literal)
    assert isinstance(data, dict)
    return data


def _put_in_text(draft: _Draft, keys: Keys, template: str) -> str:
    try:
        result = interpolate(template, draft.value_of)
    except ValueError as error:
        draft.problems.append(draft.source().problem(keys, "a reference that cannot be read", str(error)))
        return template
    if "\0" in result.text:
        draft.problems.append(draft.source().problem(keys, "a NUL byte", "a text without one"))
    if result.names and keys in draft.origins:
        origin = draft.origins[keys]
        draft.origins[keys] = Origin(origin.file, origin.line, result.names)
    if result.missing:
        draft.missing[keys] = result.missing
    if any(isinstance(draft.variables[name].value, Secret) for name in result.names if name in draft.variables):
        draft.masked.add(keys)
    return result.text


def _apply_timeouts(draft: _Draft, environ: Mapping[str, str]) -> None:
    """FLAWLESS_TIMEOUT_<NAME> stands above the manifest; a name that is none of ours is an error."""
    names = sorted({name for name in (*environ, *draft.files) if name.startswith(TIMEOUT)})
    known = {TIMEOUT + key.upper(): key for key in TimeoutSettings.model_fields}
    timeouts = draft.data.setdefault("timeouts", {})
    for name in names:
        variable = resolve(name, draft.files, environ, secret=False)
        if variable is None:
            continue
        if name not in known:
            draft.problems.append(_unknown_timeout(name, variable, list(known)))
        elif isinstance(timeouts, dict):
            draft.variables[name] = variable
            draft.origins["timeouts", known[name]] = Origin(variable.source, None, (name,))
            timeouts[known[name]] = variable.reveal()


def _unknown_timeout(name: str, variable: Variable, known: list[str]) -> Problem:
    close = difflib.get_close_matches(name, known, 1)
    suggestion = f"did you mean {close[0]}?" if close else None
    return Problem(name, "unknown timeout", f"known: {', '.join(known)}", suggestion, variable.source)


def _validate(draft: _Draft) -> Settings:
    source = draft.source()
    problems = list(draft.problems)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(draft.data)
    except ValidationError as error:
        problems += to_problems(error, source)
    problems += [breach_to_problem(breach, source) for breach in find_breaches(draft.data, draft.literal)]
    if problems or settings is None:
        raise ConfigInvalid(
            sorted(dict.fromkeys(problems), key=lambda problem: (problem.file or "", problem.line or 0))
        )
    return _inherit(settings)


def _inherit(settings: Settings) -> Settings:
    """Defaults that stand in another table: stop_timeout, the interfaces' timeout, the probe of a bare port."""
    services = {name: _complete(service, settings) for name, service in settings.services.items()}
    external = {
        name: interface.model_copy(update={"timeout": settings.timeouts.external})
        for name, interface in settings.external
        if interface is not None and "timeout" not in interface.model_fields_set
    }
    return settings.model_copy(update={"services": services, "external": settings.external.model_copy(update=external)})


def _complete(service: ServiceSettings, settings: Settings) -> ServiceSettings:
    update: dict[str, Any] = {}
    if "stop_timeout" not in service.model_fields_set:
        update["stop_timeout"] = settings.timeouts.stop
    if not service.ready and service.port is not None:
        update["ready"] = (TcpProbe(tcp=True),)
    return service.model_copy(update=update) if update else service


def _secrets(draft: _Draft) -> dict[str, Secret]:
    return {
        name: variable.value
        for name, variable in draft.variables.items()
        if isinstance(variable.value, Secret) and variable.value
    }


def _sensitive(draft: _Draft, settings: Settings) -> tuple[Secret, ...]:
    """The secrets, those written into the manifest itself, and the passwords inside of URLs."""
    found = [*_secrets(draft).values(), *_written_secrets(settings)]
    passwords = [Secret(password) for secret in found for password in _passwords_in(secret)]
    return tuple(dict.fromkeys(secret for secret in (*found, *passwords) if secret and secret.reveal() != EMBEDDED))


def _written_secrets(settings: Settings) -> Iterable[Secret]:
    yield from _secrets_in(settings)
    for service in settings.services.values():
        yield from (Secret(value) for name, value in service.env.items() if is_secret_name(name))


def _secrets_in(value: object) -> Iterable[Secret]:
    match value:
        case Secret():
            yield value
        case BaseModel():
            yield from (secret for _, item in value for secret in _secrets_in(item))
        case dict():
            yield from (secret for item in value.values() for secret in _secrets_in(item))
        case tuple():
            yield from (secret for item in value for secret in _secrets_in(item))


def _passwords_in(secret: Secret) -> Iterable[str]:
    try:
        password = urlsplit(secret.reveal()).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def _overrides(draft: _Draft, root: Path, env_files: tuple[str, ...]) -> Iterable[str]:
    """One line for each variable with differing values. The file changed last is named: it is what was edited."""
    times = {file: (root / file).stat().st_mtime_ns for file in env_files if (root / file).is_file()}
    latest = max(times, key=lambda file: times[file], default="")
    for name, variable in draft.variables.items():
        if variable.overridden:
            lost = ", ".join(
                f"{place} (the file that was edited)" if place.rpartition(":")[0] == latest else place
                for place in variable.overridden
            )
            yield f"{name}: {variable.source} wins over {lost}"


def _unresolved(draft: _Draft, settings: Settings) -> Iterable[Unresolved]:
    """What the preflight checks have to say; an interface that is disabled needs nothing."""
    disabled = {("external", name) for name, interface in settings.external if interface and not interface.enabled}
    for keys, missing in draft.missing.items():
        if keys[:2] not in disabled:
            yield from (Unresolved(to_dotted(keys), one.name, one.message, one.blank) for one in missing)
    embedded = settings.database is not None and settings.database.embedded
    for service, table in settings.services.items():
        for index, name in enumerate(table.secrets or ()):
            variable = draft.variables.get(name)
            if not (variable and variable.value) and not (embedded and name == DATABASE_URL):
                path = to_dotted(("services", service, "secrets", index))
                yield Unresolved(path, name, "", blank=variable is not None)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


__all__ = ["PREDEFINED", "PROCESS", "TIMEOUT", "load"]
