"""An interface of somebody else, asked with plain GETs: what an answer means, and how little of it may be repeated.

The body of a refusal is never shown: OpenAI's repeats part of the key. What it says of itself is shown where it is a
word of the interface's own vocabulary (`invalid_api_key`), or a number.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from flawless.core.answer import Answer, Http
from flawless.core.check import Failed
from flawless.core.clock import Clock
from flawless.core.fault import CONNECTION_LIMITS
from flawless.core.plain import printable
from flawless.core.reason import Reason
from flawless.core.secret import Secret

PAUSE: Final = 0.25
"""Seconds before the one further question, where the interface names no time itself."""

_SENDABLE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_WORD: Final = re.compile(r"[a-z][a-z_]{1,60}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{6,80}")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+", re.IGNORECASE)
_ID_HEADERS: Final = ("request-id", "x-request-id", "cf-ray")
_SHARED: Final = 5
"""So many characters in a row that a word has in common with the key are too many to show it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Whose interface it is. `address`: the only host its key is sent to, unless the manifest names another.

    `prefix`: how every path begins, which a `base_url` may end with. `malformed`: error codes that call the key no key,
    with a status of 400.
    """

    name: str
    noun: str
    table: str
    address: str
    prefix: str
    console: str
    status_page: str
    permission: str
    malformed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object that was answered, with 200 or with 404."""

    path: str
    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """One interface as the manifest declares it. `where`: what holds its key. `timeout`: seconds."""

    provider: Provider
    key: Secret
    http: Http
    clock: Clock
    timeout: float
    where: str
    base_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is asked, without a slash at the end."""
        return self.base_url.rstrip("/").removesuffix(self.provider.prefix) or self.provider.address

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    def until(self, limit: float) -> float:
        """The moment up to which the questions of one attempt may go on."""
        return self.clock.monotonic() + limit

    async def get(self, path: str, until: float) -> Document | Failed:
        """Asks once. Redirects are not followed, so the key comes to no other host."""
        if not _SENDABLE.fullmatch(self.key.reveal()):
            return self._unsendable()
        limit = max(until - self.clock.monotonic(), 0.001)
        try:
            answer = await self.http.ask("GET", self.address + path, limit=limit, headers=self._sent())
        except TimeoutError:
            return self._timed_out(path)
        except ssl.SSLError as error:
            return self._distrusted(error)
        except socket.gaierror as error:
            return self._unresolved(error)
        except OSError as error:
            return self._lost(path, error)
        except ValueError:
            return self.unexpected(path, "something else than HTTP")
        return self._read(path, answer)

    def unexpected(self, path: str, what: str, *evidence: str) -> Failed:
        """What answers is not the interface, or not as it is known."""
        return self.failed(
            Reason.API_UNEXPECTED,
            f"{self.provider.name} does not answer as it should: {what}",
            (f"GET {self.host}{path} was answered with {what}", *evidence),
            (f"see what answers there: curl -sSI {self.address}", self._mend_address()),
        )

    def failed(
        self,
        reason: Reason,
        cause: str,
        evidence: Sequence[str],
        steps: Sequence[str],
        retry_after: float | None = None,
    ) -> Failed:
        steps = (*steps, f"what the code means: flawless explain {reason}")
        return Failed(reason, cause, (*evidence, *self._own_address()), steps, retry_after=retry_after)

    def refused(self, path: str, what: str, *evidence: str) -> Failed:
        """The key is no good, and asking again makes it no better."""
        one = self.provider
        return self.failed(
            Reason.API_UNAUTHORIZED,
            f"{one.name} refuses the {one.noun}",
            (f"GET {self.host}{path} {what}", *evidence),
            (
                f"put a {one.noun} that {one.name} accepts into {self.where}: {one.console}",
                "see where its value comes from: flawless config show --origin",
            ),
        )

    def _sent(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.key.reveal()}",
            "Accept": "application/json",
            "User-Agent": "flawless",
            **self.headers,
        }

    def _read(self, path: str, answer: Answer) -> Document | Failed:
        match answer.status:
            case 200 | 404:
                return self._document(path, answer)
            case 401:
                return self.refused(path, "answered 401", *self._told(answer))
            case 400 if set(_codes(answer)) & self.provider.malformed:
                return self.refused(path, "answered 400", *self._told(answer))
            case 403:
                return self._forbidden(path, answer)
            case 429:
                return self._limited(path, answer)
            case status if 300 <= status < 400:
                return self._redirected(path, answer)
            case status if status >= 500:
                return self._unavailable(path, answer)
            case status:
                return self.unexpected(path, f"status {status}", *self._told(answer))

    def _document(self, path: str, answer: Answer) -> Document | Failed:
        if not answer.is_whole:
            return self.unexpected(path, "a body without end", f"reading stopped after {len(answer.body)} bytes")
        body = _object(answer)
        if body is None:
            kind = _MEDIA_TYPE.match(answer.content_type)
            what = f"{answer.status} and {kind[0] if kind else 'no content type'}, which is no JSON object"
            return self.unexpected(path, what)
        return Document(path, answer.status, body)

    def _forbidden(self, path: str, answer: Answer) -> Failed:
        one = self.provider
        return self.failed(
            Reason.API_FORBIDDEN,
            f"{one.name} knows the {one.noun} and does not let it in",
            (f"GET {self.host}{path} answered 403", *self._told(answer)),
            (
                f"give the {one.noun} the permission {one.permission}: {one.console}",
                f"or put another one into {self.where}; where its value comes from: flawless config show --origin",
            ),
        )

    def _limited(self, path: str, answer: Answer) -> Failed:
        """It knows who asks, so the key is good."""
        one = self.provider
        asked = self._retry_after(answer)
        told = "without a Retry-After" if asked is None else f"with Retry-After: {asked:.0f} s"
        return self.failed(
            Reason.API_RATE_LIMITED,
            f"{one.name} accepts the {one.noun} and answers no more questions for now",
            (f"GET {self.host}{path} answered 429 {told}", *self._told(answer)),
            ("wait, then: flawless deploy", f"see the limits of the account: {one.console}"),
            retry_after=self._fitting(asked),
        )

    def _unavailable(self, path: str, answer: Answer) -> Failed:
        asked = self._retry_after(answer)
        return self.failed(
            Reason.API_UNAVAILABLE,
            f"{self.provider.name} is out of order",
            (f"GET {self.host}{path} answered {answer.status}", *self._told(answer)),
            self._when_it_is_back(),
            retry_after=PAUSE if asked is None else self._fitting(asked),
        )

    def _redirected(self, path: str, answer: Answer) -> Failed:
        """Where it pointed to is said as a host: the rest of an address may hold anything."""
        place = _host_of(answer.headers.get("location", ""))
        return self.unexpected(
            path, f"a redirect to {place}", f"status {answer.status}; it was not followed, and no key was sent there"
        )

    def _timed_out(self, path: str) -> Failed:
        return self.failed(
            Reason.API_TIMEOUT,
            f"{self.provider.name} gives no answer in time",
            (f"GET {self.host}{path} was not answered in full within {self.timeout:g} s",),
            (*self._when_it_is_back(), f"more time, under [{self.provider.table}] in flawless.toml: timeout"),
            retry_after=PAUSE,
        )

    def _distrusted(self, error: ssl.SSLError) -> Failed:
        said = getattr(error, "verify_message", "") or error.reason or "the handshake failed"
        return self.failed(
            Reason.API_TLS,
            f"{self.host} does not prove that it is {self.provider.name}",
            (f"TLS with {self.host}: {printable(str(said))}", "nothing was sent to it"),
            (
                f"see its certificate: openssl s_client -connect {self._host_and_port()} </dev/null",
                "a proxy in between has an authority of its own: name it in SSL_CERT_FILE, then: flawless deploy",
            ),
        )

    def _unresolved(self, error: socket.gaierror) -> Failed:
        name = urlsplit(self.address).hostname
        return self.failed(
            Reason.API_DNS,
            f"the name {name} is not known here",
            (f"looking up {name}: {error.strerror or 'no answer'}",),
            (f"see whether it is known: getent hosts {name}", self._mend_address()),
        )

    def _lost(self, path: str, error: OSError) -> Failed:
        name = errno.errorcode.get(error.errno or 0, "")
        said = f"{name}{': ' if name else ''}{printable(error.strerror or str(error))}"
        if error.errno in CONNECTION_LIMITS:
            cause = f"this machine cannot open another connection: {said}"
            return self.failed(
                Reason.HOST_LIMITS, cause, (f"while asking {self.host}",), ("raise the limit: ulimit -n 4096",)
            )
        return self.failed(
            Reason.API_UNAVAILABLE,
            f"{self.provider.name} cannot be reached",
            (f"GET {self.host}{path}: {said}",),
            (*self._when_it_is_back(), f"see whether {self.host} can be reached: curl -sSI {self.address}"),
            retry_after=PAUSE,
        )

    def _unsendable(self) -> Failed:
        one = self.provider
        return self.failed(
            Reason.API_UNAUTHORIZED,
            f"the {one.noun} of {one.name} cannot be one",
            ("it holds a line break, a space at its end or a letter that no header can carry; nothing was sent",),
            (f"copy it again, from {one.console} into {self.where}: flawless config show --origin",),
        )

    def _when_it_is_back(self) -> tuple[str, ...]:
        return (f"see whether {self.provider.name} has an outage: {self.provider.status_page}", _AGAIN)

    def _mend_address(self) -> str:
        table = self.provider.table
        if self.base_url:
            return f"mend base_url under [{table}] in flawless.toml"
        return "see what stands between this machine and the internet (DNS, a proxy), then: flawless deploy"

    def _own_address(self) -> Iterator[str]:
        if self.base_url:
            yield f"asked at {self.address}, the base_url of [{self.provider.table}]"

    def _host_and_port(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.hostname}:{parts.port or 443}"

    def _retry_after(self, answer: Answer) -> float | None:
        """Seconds from now, whether it names them or a date."""
        text = answer.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            return max((parsedate_to_datetime(text) - self.clock.now()).total_seconds(), 0.0)
        except (ValueError, TypeError):
            return None

    def _fitting(self, asked: float | None) -> float | None:
        """A wait that is longer than a question may take would hold up the deploy."""
        return asked if asked is not None and asked <= self.timeout else None

    def _told(self, answer: Answer) -> list[str]:
        """What a refusal says of itself, as far as it can be no part of the key."""
        words = [word for word in _words(answer) if self._is_safe(word)]
        ids = [f"{name} {one}" for name in _ID_HEADERS if (one := answer.headers.get(name)) and self._is_safe_id(one)]
        return [*([f"it says {', '.join(words)}"] if words else []), *ids]

    def _is_safe_id(self, text: str) -> bool:
        return bool(_ID.fullmatch(text)) and self._is_safe(text)

    def _is_safe(self, word: str) -> bool:
        key = self.key.reveal()
        return not any(word[at : at + _SHARED] in key for at in range(max(len(word) - _SHARED + 1, 1)))


_AGAIN: Final = "when it answers again: flawless deploy"


def _object(answer: Answer) -> Mapping[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _words(answer: Answer) -> Iterator[str]:
    """`type` and `code` of Stripe's and OpenAI's errors, the numbers of Cloudflare's."""
    error = (_object(answer) or {}).get("error")
    for key in ("type", "code"):
        word = error.get(key) if isinstance(error, dict) else None
        if isinstance(word, str) and _WORD.fullmatch(word):
            yield word
    yield from (f"error {code}" for code in _codes(answer))


def _codes(answer: Answer) -> list[int]:
    errors = (_object(answer) or {}).get("errors")
    found = [one.get("code") for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    return [code for code in found if type(code) is int and 0 < code < 10**6][:5]


def _host_of(location: str) -> str:
    try:
        parts = urlsplit(location)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{printable(place)[:100]}" if place else "another path of its own"
