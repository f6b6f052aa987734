"""Which interfaces of others the manifest declares, as checks; or why one of them is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from flawless.checks.environment import address_of_users, told_address
from flawless.checks.form import WEBHOOK_SECRET
from flawless.checks.interfaces.api import Api, Provider
from flawless.checks.interfaces.cloudflare import (
    CLOUDFLARE,
    CloudflareAcceptsToken,
    CloudflareSeesTunnel,
    NameLeadsToTunnel,
)
from flawless.checks.interfaces.openai import OPENAI, OpenAIAcceptsKey
from flawless.checks.interfaces.stripe import STRIPE, StripeAcceptsKey, StripeSendsEvents
from flawless.core.answer import Http
from flawless.core.check import Check, Failed, Finding, Outcome, Skipped
from flawless.core.clock import Clock
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.core.settings import CloudflareSettings, ExternalInterface, OpenAISettings, StripeSettings
from flawless.manifest import Manifest
from flawless.manifest.tunnel import declared as declared_tunnel
from flawless.manifest.tunnel import hostname

REFUSALS: Final = {Reason.API_UNAUTHORIZED, Reason.API_FORBIDDEN, Reason.API_KEY_MODE, Reason.ENV_BLANK}
"""What the owner of the key has to mend; every other failure is an outage of theirs, or of the way there."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One that is asked: whether it accepts the key, then what needs that answer. `timeout` in seconds."""

    accepts: Check
    further: tuple[Check, ...]
    timeout: float
    strict: bool
    base_url: str

    def judged(self, finding: Finding) -> Finding:
        """An outage does not take back a good release, unless the manifest is strict about it."""
        failure = finding.failure
        tolerated = failure is not None and failure.reason not in REFUSALS and not self.strict
        return replace(finding, tolerated=tolerated)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the manifest declares: those that are asked, and the outcome of those that are not."""

    asked: tuple[Interface, ...]
    settled: tuple[Finding, ...]


def declared(manifest: Manifest, http: Http, clock: Clock) -> Declared:
    """Every interface that has a table in the manifest, in the catalog's order."""
    asked: list[Interface] = []
    settled: list[Finding] = []
    for found in (_stripe(manifest, http, clock), _openai(manifest, http, clock), _cloudflare(manifest, http, clock)):
        if isinstance(found, Interface):
            asked.append(found)
        elif found is not None:
            settled.append(found)
    return Declared(tuple(asked), tuple(settled))


def cloudflare_view(manifest: Manifest, http: Http, clock: Clock) -> tuple[Check, ...]:
    """The API's own view of the tunnel and of its name's record; none where no token is given."""
    settings = manifest.settings.external.cloudflare
    if settings is None or not settings.enabled or not settings.token:
        return ()
    return _of_tunnel(manifest, settings, _api(CLOUDFLARE, settings.token, manifest, settings, http, clock))


def _stripe(manifest: Manifest, http: Http, clock: Clock) -> Interface | Finding | None:
    settings = manifest.settings.external.stripe
    if settings is None:
        return None
    unasked = _unasked(STRIPE, StripeAcceptsKey.claim, settings.key, manifest, settings)
    if unasked is not None:
        return unasked
    api = _api(STRIPE, settings.key, manifest, settings, http, clock)
    form = WEBHOOK_SECRET.expected if WEBHOOK_SECRET.beginning.match(settings.webhook_secret.reveal()) else ""
    accepts = StripeAcceptsKey(api, address_of_users(manifest), form, settings.optional)
    return Interface(accepts, tuple(_webhook(manifest, settings, api)), settings.timeout, settings.strict, api.base_url)


def _webhook(manifest: Manifest, settings: StripeSettings, api: Api) -> Iterator[Check]:
    """Asked where events are expected, and where Stripe could send them."""
    address = _public_address(manifest)
    if settings.webhook_secret and address:
        yield StripeSendsEvents(api, address, settings.optional)


def _openai(manifest: Manifest, http: Http, clock: Clock) -> Interface | Finding | None:
    settings = manifest.settings.external.openai
    if settings is None:
        return None
    unasked = _unasked(OPENAI, OpenAIAcceptsKey.claim, settings.key, manifest, settings)
    if unasked is not None:
        return unasked
    api = _api(OPENAI, settings.key, manifest, settings, http, clock, _openai_headers(settings))
    return Interface(OpenAIAcceptsKey(api, settings.optional), (), settings.timeout, settings.strict, api.base_url)


def _openai_headers(settings: OpenAISettings) -> dict[str, str]:
    given = {"OpenAI-Organization": settings.organization, "OpenAI-Project": settings.project}
    return {name: value for name, value in given.items() if value}


def _cloudflare(manifest: Manifest, http: Http, clock: Clock) -> Interface | Finding | None:
    settings = manifest.settings.external.cloudflare
    if settings is None:
        return None
    unasked = _unasked(CLOUDFLARE, CloudflareAcceptsToken.claim, settings.token, manifest, settings)
    if unasked is not None:
        return unasked
    api = _api(CLOUDFLARE, settings.token, manifest, settings, http, clock)
    accepts = CloudflareAcceptsToken(api, settings.account, settings.optional)
    further = _of_tunnel(manifest, settings, api)
    return Interface(accepts, further, settings.timeout, settings.strict, api.base_url)


def _of_tunnel(manifest: Manifest, settings: CloudflareSettings, api: Api) -> tuple[Check, ...]:
    """A stack that names no tunnel has none to ask for."""
    if not settings.tunnel and not settings.account:
        return ()
    return (
        CloudflareSeesTunnel(api, settings.account, settings.tunnel, settings.optional),
        NameLeadsToTunnel(api, hostname(manifest.settings), settings.tunnel, settings.optional),
    )


def _api(
    provider: Provider,
    key: Secret,
    manifest: Manifest,
    settings: ExternalInterface,
    http: Http,
    clock: Clock,
    headers: dict[str, str] | None = None,
) -> Api:
    where = _where(manifest, provider)
    return Api(provider, key, http, clock, settings.timeout, where, settings.base_url.strip(), headers or {})


def _path(provider: Provider) -> str:
    return f"{provider.table}.{provider.noun}"


def _where(manifest: Manifest, provider: Provider) -> str:
    """The variable that holds the key, and the file it came from."""
    origin = manifest.origins.get(_path(provider))
    names = [name for name in origin.variables if name in manifest.variables] if origin else []
    if names:
        return " and ".join(f"{name} ({manifest.variables[name].source})" for name in names)
    return f"{_path(provider)} ({origin or manifest.path.name})"


def _unasked(
    provider: Provider, claim: str, key: Secret, manifest: Manifest, settings: ExternalInterface
) -> Finding | None:
    """The outcome of one that is disabled, or that has no key."""
    outcome: Outcome
    if not settings.enabled:
        outcome = Skipped(f"disabled: {settings.reason}")
    elif key:
        return None
    elif settings.optional:
        # `${NAME:-}` says that it may be absent; `${NAME}` says that it is wanted.
        wanted = any(one.path == _path(provider) for one in manifest.unresolved)
        outcome = Skipped(f"no {provider.noun} is set: {_where(manifest, provider)}", declared=wanted)
    else:
        outcome = _blank(provider, manifest)
    return Finding(provider.table, claim, outcome, 0.0, settings.optional)


def _blank(provider: Provider, manifest: Manifest) -> Failed:
    where = _where(manifest, provider)
    return Failed(
        Reason.ENV_BLANK,
        f"{provider.name} is declared, and no {provider.noun} of it is set",
        (f"{where} is blank",),
        (
            f"put the {provider.noun} into {where}: {provider.console}",
            f"or write optional = true, or enabled = false with a reason, under [{provider.table}] in flawless.toml",
        ),
    )


def _public_address(manifest: Manifest) -> str:
    """The address others reach the stack at; empty where they cannot."""
    settings = manifest.settings
    tunnel = declared_tunnel(settings)
    return f"https://{tunnel.hostname}" if tunnel is not None and tunnel.hostname else told_address(settings)
