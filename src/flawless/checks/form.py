"""The forms that well-known values have, and how to tell what stands in the wrong place. Never repeats a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from flawless.core.secret import Secret
from flawless.database.address import MalformedUrl, driver_arguments


@dataclass(frozen=True, slots=True)
class Form:
    """What a value should be, in words, and by its beginning."""

    what: str
    expected: str
    beginning: re.Pattern[str]


STRIPE_KEY: Final = Form(
    "a Stripe secret key", "sk_live_..., sk_test_..., rk_live_... or rk_test_...", re.compile(r"[sr]k_[a-z]+_")
)
WEBHOOK_SECRET: Final = Form("a Stripe webhook secret", "whsec_...", re.compile(r"whsec_"))
PUBLISHABLE_KEY: Final = Form("a Stripe publishable key", "pk_live_... or pk_test_...", re.compile(r"pk_[a-z]+_"))
OPENAI_KEY: Final = Form("an OpenAI key", "sk-...", re.compile(r"sk-"))
DATABASE_URL: Final = Form(
    "a PostgreSQL address",
    "postgresql://user:password@host:5432/database",
    re.compile(r"postgres(ql)?(\+\w+)?://", re.IGNORECASE),
)
ADDRESS: Final = Form("a web address", "https://host or http://host", re.compile(r"https?://[^\s/?#]", re.IGNORECASE))

_KINDS: Final = (STRIPE_KEY, WEBHOOK_SECRET, PUBLISHABLE_KEY, OPENAI_KEY, DATABASE_URL, ADDRESS)

BY_PATH: Final[Mapping[str, Form]] = {
    "external.stripe.key": STRIPE_KEY,
    "external.stripe.webhook_secret": WEBHOOK_SECRET,
    "external.openai.key": OPENAI_KEY,
    "database.url": DATABASE_URL,
    "database.direct_url": DATABASE_URL,
    "base_url": ADDRESS,
    "public.checks[].url": ADDRESS,
}
BY_NAME: Final[Mapping[str, Form]] = {
    "STRIPE_SECRET_KEY": STRIPE_KEY,
    "STRIPE_API_KEY": STRIPE_KEY,
    "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "STRIPE_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
    "OPENAI_API_KEY": OPENAI_KEY,
    "DATABASE_URL": DATABASE_URL,
    "DIRECT_URL": DATABASE_URL,
    "BASE_URL": ADDRESS,
}


def form_of(path: str) -> Form | None:
    """The form of what stands at a dotted path of the manifest, in whichever place of its list."""
    return BY_PATH.get(re.sub(r"\[\d+\]", "[]", path))


def deviation(form: Form, value: str, *, strict: bool) -> str | None:
    """How the value differs from its form; None when it does not.

    Only where the manifest itself uses the value (`strict`) a beginning that is not known is wrong: elsewhere it is an
    application's own affair, and only what is clearly another kind of value is refused.
    """
    if value != value.strip() or _is_quoted(value):
        return "there are quotes or spaces around it"
    if form is DATABASE_URL:
        return _database_deviation(value, strict=strict)
    if form is ADDRESS:
        return _address_deviation(value)
    if any(character.isspace() for character in value):
        return "there is a space or a line break in it"
    if form.beginning.match(value):
        return None
    other = _kind_of(value)
    return f"it begins like {other.what}" if other else "it begins otherwise" if strict else None


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def _kind_of(value: str) -> Form | None:
    return next((kind for kind in _KINDS if kind.beginning.match(value)), None)


def _database_deviation(value: str, *, strict: bool) -> str | None:
    if re.match(r"prisma(\+postgres)?:", value, re.IGNORECASE):
        return "it begins with prisma+postgres://, which is the address of a Prisma service and not of a database"
    if strict:
        try:
            driver_arguments(Secret(value), application="flawless check")
        except MalformedUrl as error:
            return error.cause
        return None
    other = _kind_of(value)
    if other is not None and other is not DATABASE_URL:
        return f"it begins like {other.what}"
    is_url = re.match(r"[a-z][a-z0-9+.-]*:", value, re.IGNORECASE)
    torn = value.lower().startswith("postgres") and not DATABASE_URL.beginning.match(value)
    return "it is no URL" if torn or not is_url else None


def _address_deviation(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "its host or port cannot be read"
    if parts.scheme not in {"http", "https"}:
        return "it does not begin with https:// or http://"
    if not host or any(character.isspace() for character in value):
        return "it has no host" if not host else "there is a space in it"
    return None
