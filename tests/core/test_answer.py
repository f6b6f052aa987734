"""An answer, told to a person: what it says of itself, and never the body."""

from __future__ import annotations

import pytest

from flawless.core.answer import Answer

PAGE = b"<!doctype html><html><head><TITLE lang=en>503 &lt;Backend&gt;\n unavailable</TITLE></head><body>secret</body>"


@pytest.mark.parametrize(
    ("kind", "body", "gist"),
    [
        ("text/html", PAGE, 'a page titled "503 <Backend> unavailable"'),
        ("text/html", b"<title>" + b"x" * 90 + b"</title>", f'a page titled "{"x" * 77}..."'),
        ("text/html", b"<title>\x1b[2J</title>", 'a page titled "\\x1b[2J"'),
        ("text/html", b"<!doctype html>secret", "21 bytes that are no JSON"),
        ("text/plain", b"secret", "6 bytes that are no JSON"),
        (
            "application/json",
            b'{"status": "degraded", "dump": "secret", "ready": false}',
            '{"status": "degraded", "ready": false}',
        ),
        ("application/json", b'{"dump": "secret"}', "JSON with 1 keys"),
        ("application/json", b'["secret"]', "JSON of 10 bytes"),
        ("application/json", b'{"error": "' + b"x" * 90 + b'"}', '{"error": "' + "x" * 77 + '..."}'),
        ("application/json", b" ", "(empty)"),
    ],
)
def test_an_answer_is_told_without_its_body(kind: str, body: bytes, gist: str) -> None:
    """A page's title, the telling keys of a document, else how much there is; nothing a terminal obeys."""
    answer = Answer(503, kind, body, {}, "127.0.0.1:3000")
    assert answer.describe() == f"127.0.0.1:3000 answered 503 {kind}: {gist}"
