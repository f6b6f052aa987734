"""The questions about variables: there, filled, real, well formed, strong enough, of the right mode.

Each variable is said once, by the first question it fails, with its name and the place it came from; never its value.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from flawless.checks.form import BY_NAME, DATABASE_URL, Form, deviation, form_of
from flawless.checks.placeholder import placeholder_in
from flawless.core.check import Concern, Failed, Outcome, Passed
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.core.settings import ExternalInterface, Settings
from flawless.manifest import Manifest, Unresolved
from flawless.manifest.tunnel import declared

PASSWORD_LENGTH: Final = 12
"""Characters an admin password has at least (CONTRACTS 7)."""

_INTERFACES: Final = ("stripe", "openai", "cloudflare")
_SECRET_PATHS: Final = (
    "database.url",
    "database.direct_url",
    "tunnel.token",
    "external.stripe.key",
    "external.stripe.webhook_secret",
    "external.openai.key",
    "external.cloudflare.token",
    "admin.password",
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value the stack is going to use: a variable, or a text of the manifest itself. `path`: what uses it."""

    name: str
    value: Secret
    source: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


def given(manifest: Manifest) -> list[Given]:
    """Every value that is required, secret or used by the manifest, and not blank; values of what is disabled aside."""
    uses: dict[str, str] = {}
    literals = []
    for path, value in _used(manifest):
        origin = manifest.origins.get(path)
        names = origin.variables if origin else ()
        if len(names) == 1 and names[0] in manifest.variables and manifest.variables[names[0]].reveal() == value:
            uses.setdefault(names[0], path)
        else:
            literals.append(Given(path, Secret(value), str(origin or manifest.path.name), path))
    variables = [
        Given(name, _as_secret(variable.value), variable.source, uses.get(name, ""))
        for name, variable in manifest.variables.items()
        if name in _wanted(manifest) and variable.reveal().strip()
    ]
    return [*variables, *literals]


def _as_secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _wanted(manifest: Manifest) -> set[str]:
    """The variables whose values matter."""
    required = set(manifest.settings.env.require)
    disabled = tuple(f"external.{name}." for name in _INTERFACES if _is_disabled(manifest.settings, name))
    used: set[str] = set()
    unused: set[str] = set()
    for path, origin in manifest.origins.items():
        (unused if disabled and path.startswith(disabled) else used).update(origin.variables)
    return required | used | (set(manifest.secrets) - (unused - used - required))


def _is_disabled(settings: Settings, name: str) -> bool:
    interface: ExternalInterface | None = getattr(settings.external, name)
    return interface is not None and not interface.enabled


def _used(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Values by the dotted path that uses them: those that are there in full."""
    settings = manifest.settings
    half = {one.path for one in manifest.unresolved}
    for path in _SECRET_PATHS:
        if path.startswith("external.") and _is_disabled(settings, path.split(".")[1]):
            continue
        value = _at(settings, path)
        if isinstance(value, Secret) and value and path not in half and not _is_embedded(settings, path):
            yield path, value.reveal()
    if settings.base_url.strip() and "base_url" not in half:
        yield "base_url", settings.base_url
    for index, check in enumerate(settings.public.checks if settings.public else ()):
        if (path := f"public.checks[{index}].url") not in half:
            yield path, check.url


def _at(settings: Settings, path: str) -> object:
    value: object = settings
    for key in path.split("."):
        value = getattr(value, key, None)
    return value


def _is_embedded(settings: Settings, path: str) -> bool:
    return path == "database.url" and settings.database is not None and settings.database.embedded


@dataclass(frozen=True, slots=True)
class VariablesPresent:
    """Every variable that is required, or that the manifest refers to without a default, is set."""

    manifest: Manifest

    id = "env.required"
    claim = "every required variable is set"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        required = [name for name in self.manifest.settings.env.require if name not in self.manifest.variables]
        referred = [one for one in _unresolved(self.manifest) if not one.blank]
        names = list(dict.fromkeys([*required, *(one.name for one in referred)]))
        if not names:
            return Passed((f"{len(self.manifest.settings.env.require)} required, all set",))
        return Failed(
            Reason.ENV_MISSING,
            f"{_count(names, 'required variable')} not set: {', '.join(names)}",
            (*(self._about(name, referred) for name in names), self._looked_in()),
            (f"set {_them(names)} in {_file(self.manifest)}: {' '.join(f'{name}=...' for name in names)}",),
        )

    def _about(self, name: str, referred: Sequence[Unresolved]) -> str:
        places = [one for one in referred if one.name == name]
        wanted = ", ".join(one.path for one in places) or "env.require"
        message = next((f": {one.message}" for one in places if one.message), "")
        close = difflib.get_close_matches(name, sorted(self.manifest.env_names), 1, 0.85)
        similar = f"; {close[0]} is set, did you mean that?" if close else ""
        return f"{name} is wanted by {wanted}{message}{similar}"

    def _looked_in(self) -> str:
        files = [
            file if (self.manifest.root / file).is_file() else f"{file} (no such file)"
            for file in self.manifest.env_files
        ]
        return f"looked in: {', '.join([*files, 'the process environment'])}"


@dataclass(frozen=True, slots=True)
class VariablesFilled:
    """No required variable is blank."""

    manifest: Manifest

    id = "env.filled"
    claim = "no required variable is blank"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        variables = self.manifest.variables
        required = [name for name in self.manifest.settings.env.require if name in variables]
        blank = [name for name in required if not variables[name].reveal().strip()]
        blank += [one.name for one in _unresolved(self.manifest) if one.blank]
        keyless = dict(_keyless(self.manifest))
        names = list(dict.fromkeys([*blank, *keyless]))
        if not names:
            return Passed()
        sources = {name: variables[name].source if name in variables else "the manifest" for name in names} | keyless
        return Failed(
            Reason.ENV_BLANK,
            f"{_count(names, 'required variable')} blank: {', '.join(names)}",
            tuple(f"{name} is there in {sources[name]}, with nothing or only spaces behind it" for name in names),
            tuple(f"give {name} a value in {sources[name]}" for name in names),
        )


@dataclass(frozen=True, slots=True)
class VariablesReal:
    """No value is a placeholder."""

    manifest: Manifest

    id = "env.real"
    claim = "no variable holds a placeholder"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        found = [(one, kind) for one in given(self.manifest) if (kind := placeholder_in(one.value.reveal()))]
        if not found:
            return Passed()
        names = [one.name for one, _ in found]
        return Failed(
            Reason.ENV_PLACEHOLDER,
            f"{_count(names, 'variable')} still a placeholder: {', '.join(names)}",
            tuple(f"{one} holds {kind}" for one, kind in found),
            tuple(f"put the real value of {one.name} into {one.source}" for one, _ in found),
        )


@dataclass(frozen=True, slots=True)
class VariablesFormed:
    """Values whose form is known have it."""

    manifest: Manifest

    id = "env.formed"
    claim = "values whose form is known have it"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        found = list(self._deviations())
        if not found:
            return Passed()
        names = [one.name for one, _, _ in found]
        return Failed(
            Reason.ENV_MALFORMED,
            f"{_count(names, 'value')} not in the expected form: {', '.join(names)}",
            tuple(f"{one} should be {form.what}, {form.expected}; {how}" for one, form, how in found),
            tuple(f"put {form.what} ({form.expected}) into {one.name} in {one.source}" for one, form, _ in found),
        )

    def _deviations(self) -> Iterator[tuple[Given, Form, str]]:
        for one in real(self.manifest):
            form = form_of(one.path) or BY_NAME.get(one.name)
            if form is None or (form is DATABASE_URL and not one.path and self._has_own_database):
                continue
            how = deviation(form, one.value.reveal(), strict=self._is_strict(one))
            if how is not None:
                yield one, form, how

    @property
    def _has_own_database(self) -> bool:
        """The embedded database's address stands in place of any DATABASE_URL."""
        database = self.manifest.settings.database
        return database is not None and database.embedded

    def _is_strict(self, one: Given) -> bool:
        """A proxy of one's own in front of an interface may take keys of any form."""
        interface = one.path.split(".")[1] if one.path.startswith("external.") else ""
        return bool(one.path) and not (interface and _at(self.manifest.settings, f"external.{interface}.base_url"))


@dataclass(frozen=True, slots=True)
class PasswordStrong:
    """The admin password is long enough for the routes it opens."""

    manifest: Manifest

    id = "env.strong"
    claim = f"the admin password has at least {PASSWORD_LENGTH} characters"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        passwords = [one for one in real(self.manifest) if one.path == "admin.password" or one.name == "ADMIN_PASSWORD"]
        weak = [one for one in passwords if len(one.value.reveal()) < PASSWORD_LENGTH]
        if not weak:
            return Passed() if passwords else Passed(("no admin password is set: the ops routes are closed",))
        return Failed(
            Reason.ENV_WEAK,
            f"the admin password is shorter than {PASSWORD_LENGTH} characters: {', '.join(one.name for one in weak)}",
            tuple(f"{one}: the ops routes stay closed (503) with it" for one in weak),
            (f"put the output of this into {weak[0].name} in {weak[0].source}: openssl rand -base64 24",),
        )


@dataclass(frozen=True, slots=True)
class KeyModeRight:
    """A test key is not used in production, nor a live key on a developer's machine."""

    manifest: Manifest

    id = "env.mode"
    claim = "test keys and live keys are where they belong"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        address = address_of_users(self.manifest)
        wrong = [one for one in self._keys() if address is not None and is_misplaced(_mode(one), address)]
        if address is None or not wrong:
            return Passed()
        mode, other = ("test", "live") if address.is_public else ("live", "test")
        where = "a production address" if address.is_public else "an address of this machine alone"
        return Failed(
            Reason.API_KEY_MODE,
            f"{', '.join(one.name for one in wrong)}: a {mode} key, and base_url is {where} ({address.host})",
            tuple(f"{one} begins with {_mode_prefix(one)}; base_url is on {address.host}" for one in wrong),
            (
                f"put the {other} key into {wrong[0].name} in {wrong[0].source}, or mend base_url",
                "a stack that is no production: flawless -e staging deploy, with a flawless.staging.toml",
            ),
        )

    def _keys(self) -> list[Given]:
        names = {"STRIPE_SECRET_KEY", "STRIPE_API_KEY"}
        keys = [one for one in real(self.manifest) if one.path == "external.stripe.key" or one.name in names]
        return [one for one in keys if _mode(one)]


@dataclass(frozen=True, slots=True)
class OverridesSaid:
    """No variable has two values: the file that was edited is the one that counts."""

    manifest: Manifest

    id = "env.overridden"
    claim = "no variable is given twice with different values"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - what is asked for is at hand
        if not self.manifest.overrides:
            return Passed()
        step = "see which place each value came from: flawless config show --origin"
        return Passed(self.manifest.overrides, Concern(Reason.ENV_OVERRIDDEN, step))


_NOT_PRODUCTION: Final = re.compile(
    r"(?:^|[.-])(?:stag(?:e|ing)|test(?:ing)?|dev(?:elop(?:ment)?)?|preview|qa|uat|sandbox|demo|local|beta)\d*(?:[.-]|$)"
)
_INTERNAL: Final = (".test", ".local", ".internal", ".lan", ".localhost", ".invalid", ".home.arpa")
_TEMPORARY: Final = (".trycloudflare.com", ".ngrok.io", ".ngrok.app", ".ngrok-free.app", ".ts.net", ".loca.lt")
_PRODUCTION_NAMES: Final = {"", "production", "prod", "live", "main"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where users find the stack, as far as a name can tell. What is neither public nor local is not judged."""

    host: str
    is_public: bool
    is_local: bool

    @property
    def is_unknown(self) -> bool:
        return not self.is_public and not self.is_local

    @classmethod
    def of(cls, url: str, environment: str | None) -> Address | None:
        try:
            parts = urlsplit(url.strip())
            host = (parts.hostname or "").rstrip(".")
        except ValueError:
            return None
        if not host:
            return None
        production = (environment or "").lower() in _PRODUCTION_NAMES
        return cls(host, parts.scheme == "https" and production and _is_public(host), _is_loopback(host))


def told_address(settings: Settings) -> str:
    """The address that people are told, where it is one that others can reach."""
    address = Address.of(settings.base_url, None)
    return settings.base_url.strip() if address is not None and not address.is_local else ""


def address_of_users(manifest: Manifest) -> Address | None:
    """Where users are; None when it cannot be told, as with a public name in front of a loopback base_url."""
    settings = manifest.settings
    variable = manifest.variables.get("BASE_URL")
    text = settings.base_url or (variable.reveal() if variable else "")
    address = Address.of(text, manifest.environment)
    tunnel = declared(settings)
    fronted = settings.public is not None or (tunnel is not None and tunnel.hostname)
    return None if address is None or (address.is_local and fronted) else address


def is_misplaced(mode: str, address: Address) -> bool:
    """A test key where the public is, or a live one on this machine alone; what is neither is not judged."""
    return bool(mode) and not address.is_unknown and (mode == "test") == address.is_public


def _is_public(host: str) -> bool:
    """A name that anybody could have under a real top-level domain, and that no word calls a trial."""
    if _ip(host) is not None or "." not in host:
        return False
    return not _NOT_PRODUCTION.search(host) and not host.endswith((*_INTERNAL, *_TEMPORARY))


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def real(manifest: Manifest) -> list[Given]:
    """What is no placeholder: a placeholder is said once, and not as malformed, weak or of the wrong mode too."""
    return [one for one in given(manifest) if placeholder_in(one.value.reveal()) is None]


def _mode(one: Given) -> str:
    return mode_of(one.value.reveal())


def mode_of(key: str) -> str:
    """The mode that a key of Stripe says in its first letters; empty where it says none."""
    found = re.match(r"[sr]k_(test|live)_", key.strip())
    return found[1] if found else ""


def _mode_prefix(one: Given) -> str:
    return one.value.reveal().strip()[:8]


def _unresolved(manifest: Manifest) -> Iterable[Unresolved]:
    """What the manifest refers to in vain; an interface that is disabled or optional answers for itself."""
    for one in manifest.unresolved:
        interface = _at(manifest.settings, ".".join(one.path.split(".")[:2]))
        if not isinstance(interface, ExternalInterface) or (interface.enabled and not interface.optional):
            yield one


def _keyless(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Keys of interfaces that are wanted and blank though no variable is missing, each with its place."""
    missing = {one.path for one in manifest.unresolved}
    for path in ("external.stripe.key", "external.openai.key", "external.cloudflare.token"):
        interface = _at(manifest.settings, path.rpartition(".")[0])
        is_wanted = isinstance(interface, ExternalInterface) and interface.enabled and not interface.optional
        if is_wanted and not _at(manifest.settings, path) and path not in missing:
            yield path, str(manifest.origins.get(path, manifest.path.name))


def _file(manifest: Manifest) -> str:
    return manifest.env_files[-1] if manifest.env_files else "the environment"


def _count(names: Sequence[str], what: str) -> str:
    return f"1 {what} is" if len(names) == 1 else f"{len(names)} {what}s are"


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
