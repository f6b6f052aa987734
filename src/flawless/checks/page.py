"""What an HTML page is made of: its title, its own scripts and styles, and the types browsers take them with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

from flawless.core.answer import Answer
from flawless.core.plain import one_line

_HTML: Final = ("text/html", "application/xhtml+xml")
_JAVASCRIPT: Final = (
    "text/javascript",
    "application/javascript",
    "application/x-javascript",
    "text/ecmascript",
    "application/ecmascript",
)
_OF_THE_EDGE: Final = "/cdn-cgi/"
"""Where Cloudflare puts scripts of its own into a page that passes."""


class Kind(StrEnum):
    """What a page loads to work. The value is the word for it."""

    SCRIPT = "script"
    STYLE = "style"


_TAKEN: Final = {Kind.SCRIPT: _JAVASCRIPT, Kind.STYLE: ("text/css",)}


@dataclass(frozen=True, slots=True)
class Asset:
    """A script or style that a page loads from its own host."""

    url: str
    kind: Kind

    def wrong_type(self, answer: Answer) -> str | None:
        """How the answer is none that a browser takes for it; None when it is."""
        if not 200 <= answer.status < 300:
            return f"{self.url} ({self.kind}) answers {answer.status}"
        kind = _type_of(answer)
        return None if kind in _TAKEN[self.kind] else f"{self.url} ({self.kind}) comes as {kind or 'nothing named'}"


@dataclass(frozen=True, slots=True)
class Page:
    """A page as its visitors' browsers see it first."""

    title: str
    assets: tuple[Asset, ...]


def page_of(answer: Answer, url: str) -> Page | None:
    """The page that came from `url`; None when the answer is no HTML."""
    if _type_of(answer) not in _HTML:
        return None
    reader = _Reader(url)
    with suppress(AssertionError):  # what the library says to markup that no browser minds; what came before counts
        reader.feed(answer.body.decode("utf-8", "replace"))
        reader.close()
    own = [one for one in reader.assets if _is_own(one.url, url)]
    return Page(one_line(reader.title, 80), tuple(dict.fromkeys(own)))


def _type_of(answer: Answer) -> str:
    return answer.content_type.partition(";")[0].strip().lower()


def _is_own(url: str, page: str) -> bool:
    try:
        there, here = urlsplit(url), urlsplit(page)
    except ValueError:
        return False
    same = there.netloc.lower() == here.netloc.lower() and there.scheme in ("http", "https")
    return same and not there.path.startswith(_OF_THE_EDGE)


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.title = ""
        self.assets: list[Asset] = []
        self._base = url
        self._is_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}  # of an attribute written twice, the first
        self._is_title = tag == "title" and not self.title
        match tag:
            case "base" if given.get("href"):
                self._base = self._joined(given["href"]) or self._base
            case "script" if given.get("src") and _runs(given.get("type", "")):
                self._note(given["src"], Kind.SCRIPT)
            case "link" if given.get("href"):
                self._link(given["href"], given.get("rel", "").lower().split())

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - whichever it is, no title goes on behind it
        self._is_title = False

    def _link(self, href: str, relations: list[str]) -> None:
        if "modulepreload" in relations:
            self._note(href, Kind.SCRIPT)
        if "stylesheet" in relations:
            self._note(href, Kind.STYLE)

    def _note(self, address: str, kind: Kind) -> None:
        if (url := self._joined(address)) is not None:
            self.assets.append(Asset(url, kind))

    def _joined(self, address: str) -> str | None:
        try:
            return urljoin(self._base, address.strip()).partition("#")[0]
        except ValueError:
            return None


def _runs(kind: str) -> bool:
    """Whether a script of this `type` is run at all: data and templates are not."""
    return kind.strip().lower() in ("", "module", *_JAVASCRIPT)
