"""What a page loads from its own host, however it is written, and what is no type for it."""

from __future__ import annotations

import time

import pytest

from flawless.checks.public.page import Asset, Kind, page_of
from flawless.core.answer import Answer

URL = "https://app.example.org/board/index.html?x=1"


def answer(body: str, kind: str = "text/html; charset=utf-8", status: int = 200) -> Answer:
    return Answer(status, kind, body.encode(), {}, URL)


def urls(body: str) -> list[str]:
    page = page_of(answer(body), URL)
    assert page is not None
    return [f"{one.kind} {one.url}" for one in page.assets]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<script src="/a.js"></script>', ["script https://app.example.org/a.js"]),
        ("<SCRIPT SRC=a.js></SCRIPT>", ["script https://app.example.org/board/a.js"]),
        ('<script type="module" src="../m.js?v=2#x">', ["script https://app.example.org/m.js?v=2"]),
        ('<script src="https://app.example.org/b.js">', ["script https://app.example.org/b.js"]),
        ('<script src="//app.example.org/c.js">', ["script https://app.example.org/c.js"]),
        ('<base href="/assets/"><script src="d.js">', ["script https://app.example.org/assets/d.js"]),
        ('<link rel="stylesheet" href="s.css">', ["style https://app.example.org/board/s.css"]),
        ('<link rel="modulepreload" href="/p.js">', ["script https://app.example.org/p.js"]),
        ('<script src="/a.js"></script><script src="/a.js">', ["script https://app.example.org/a.js"]),
        ('<script src="/first.js" src="/second.js">', ["script https://app.example.org/first.js"]),
    ],
)
def test_what_a_page_loads(body: str, expected: list[str]) -> None:
    """Resolved as a browser does, each once."""
    assert urls(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://cdn.example/x.js">',
        '<script src="http://app.example.org:81/x.js">',
        '<script src="data:text/javascript,1">',
        '<script src="http://[broken/x.js">',
        '<script type="application/json" src="/data.json">',
        '<script type="importmap" src="/map.json">',
        "<script>1</script>",
        '<script src="/cdn-cgi/challenge-platform/x.js">',
        '<link rel="icon" href="/x.ico">',
        '<link rel="stylesheet">',
        '<!-- <script src="/x.js"> -->',
    ],
)
def test_what_is_not_asked_for(body: str) -> None:
    """Files of others, data, what the edge puts in, what is no script or style."""
    assert urls(body) == []


def test_a_page_has_a_title() -> None:
    """The first one, on one line; what could move a cursor is shown."""
    page = page_of(answer("<title> My &amp;\n <b>board\x1b[2J</title><svg><title>no</title></svg>"), URL)
    assert page is not None
    assert page.title.startswith("My &")
    assert "\x1b" not in page.title
    assert "no" not in page.title


def test_what_is_no_page() -> None:
    """JSON, a script, nothing named."""
    for kind in ("application/json", "text/javascript", ""):
        assert page_of(answer("<title>x</title>", kind), URL) is None


HOSTILE = [
    "<![foo[ <script src=/x.js>",
    "<!DOCTYPE [<!ENTITY",
    "\x00<title>",
    *(
        one * 200_000
        for one in ("<", "<a ", "<script ", '<link "', "<script>", "<!--", "<!-- -", "</script", "<title>")
    ),
    *(f"<link {one * 400_000}" for one in ("a", " ", "a =", "\"'", "x='")),
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_markup_that_is_none_ends_no_check(body: str) -> None:
    """Whatever comes there is a page, or a part of one, in a time that grows with its length alone."""
    before = time.process_time()
    assert page_of(answer(body[:1_000_000]), URL) is not None
    assert time.process_time() - before < 2.0


def test_what_stands_in_a_script_is_no_tag() -> None:
    """Text of a program, up to the end of it; what comes behind counts again."""
    body = '<script>x = "<link rel=stylesheet href=/no.css>"</script ><link rel=stylesheet href=/yes.css>'
    assert urls(body) == ["style https://app.example.org/yes.css"]


SCRIPT = Asset("https://app.example.org/a.js", Kind.SCRIPT)
STYLE = Asset("https://app.example.org/a.css", Kind.STYLE)


@pytest.mark.parametrize("kind", ["text/javascript", "application/javascript; charset=utf-8", "Text/ECMAScript"])
def test_types_that_a_browser_takes_for_a_script(kind: str) -> None:
    """However it is written."""
    assert SCRIPT.wrong_type(answer("1", kind)) is None


@pytest.mark.parametrize(
    ("asset", "said", "why"),
    [
        (SCRIPT, answer("<p>", "text/html"), "https://app.example.org/a.js (script) comes as text/html"),
        (SCRIPT, answer("1", ""), "https://app.example.org/a.js (script) comes as nothing named"),
        (SCRIPT, answer("1", "text/css"), "https://app.example.org/a.js (script) comes as text/css"),
        (STYLE, answer("1", "text/javascript"), "https://app.example.org/a.css (style) comes as text/javascript"),
        (STYLE, answer("", "text/css", 404), "https://app.example.org/a.css (style) answers 404"),
    ],
)
def test_types_that_it_does_not(asset: Asset, said: Answer, why: str) -> None:
    """The file and what it came as."""
    assert asset.wrong_type(said) == why
