"""What an HTML page is made of: its title, its own scripts and styles, and the types browsers take them with."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
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
_READ: Final = 512 * 1024
"""Bytes of a page that are read for its files."""

# Each begins where the last one ended and takes all that is left where its own end is missing, as browsers do;
# possessive throughout, so that nothing is read twice.
_TAG: Final = re.compile(
    r"<!--(?:[^-]|-(?!->))*+(?:-->|\Z)"
    r"|<(?P<name>script|link|base|title)(?=[\s/>])(?P<attributes>(?:[^>\"']|\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))*+)(?:>|\Z)",
    re.IGNORECASE,
)
_SCRIPT_END: Final = re.compile(r"</script(?=[\s/>])", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"([^\s=>\"'/]++)(?:\s*+=\s*+(?:\"([^\"]*+)\"?|'([^']*+)'?|([^\s>\"']++)))?")
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
    reader.read(answer.body[:_READ].decode("utf-8", "replace"))
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


class _Reader:
    """Reads the tags that matter, in one pass from the front to the end: a page of somebody else's may be hostile, and
    the library's parser takes ten seconds for 9 KB of `<a <a <a`.
    """

    def __init__(self, url: str) -> None:
        self.title = ""
        self.assets: list[Asset] = []
        self._base = url

    def read(self, text: str) -> None:
        at = 0
        while (tag := _TAG.search(text, at)) is not None:
            at = tag.end()
            name = (tag["name"] or "").lower()
            self._note(name, _attributes(tag["attributes"] or ""))
            if name == "title" and not self.title:
                end = text.find("<", at)
                self.title = html.unescape(text[at : end if end >= 0 else len(text)])
            if name == "script":
                ended = _SCRIPT_END.search(text, at)
                at = ended.end() if ended else len(text)

    def _note(self, name: str, given: Mapping[str, str]) -> None:
        match name:
            case "base" if given.get("href"):
                self._base = self._joined(given["href"]) or self._base
            case "script" if given.get("src") and _runs(given.get("type", "")):
                self._add(given["src"], Kind.SCRIPT)
            case "link" if given.get("href"):
                self._link(given["href"], given.get("rel", "").lower().split())

    def _link(self, href: str, relations: list[str]) -> None:
        if "modulepreload" in relations:
            self._add(href, Kind.SCRIPT)
        if "stylesheet" in relations:
            self._add(href, Kind.STYLE)

    def _add(self, address: str, kind: Kind) -> None:
        if (url := self._joined(address)) is not None:
            self.assets.append(Asset(url, kind))

    def _joined(self, address: str) -> str | None:
        try:
            return urljoin(self._base, address.strip()).partition("#")[0]
        except ValueError:
            return None


def _attributes(text: str) -> dict[str, str]:
    """By name in small letters; of one that is written twice, the first."""
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(text):
        found.setdefault(name.lower(), html.unescape(next((one for one in values if one), "")))
    return found


def _runs(kind: str) -> bool:
    """Whether a script of this `type` is run at all: data and templates are not."""
    return kind.strip().lower() in ("", "module", *_JAVASCRIPT)
