"""Secrets are found by value, however they are written and wherever the text is cut."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flawless.core import secret
from flawless.core.redaction import MASK, Redactor, mask_of, names_secret

KEY = "sk_live_51HcanaryCANARY1234"
ODD = "pä ss'w\"or/d&<+é>\\%$`\x07 \0.*[z"
LINES = "-----BEGIN KEY-----\nMIIcanary+/line0ne\nAbCdEfsecondLine2==\n-----END KEY-----"
SECRETS = (
    KEY,
    ODD,
    LINES,
    "hunter2hunter2",
    "aaaaaaaa",
    "(.*)+[^x]|$^",
    "日本語のパスワード",
    "postgres://u:s3cr3tpw@h/db",
)


def _b64(value: str, offset: int) -> str:
    """As it stands in the encoding of a longer text; the characters that neighbours share are left out."""
    encoded = base64.b64encode(b"x" * offset + value.encode()).decode().rstrip("=")
    return encoded[-(-8 * offset // 6) : 8 * (offset + len(value.encode())) // 6]


def _url_b64(value: str, offset: int) -> str:
    return _b64(value, offset).replace("+", "-").replace("/", "_")


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "url": urllib.parse.quote,
    "url, nothing safe": lambda v: urllib.parse.quote(v, safe=""),
    "url in lower case": lambda v: "".join(
        f"%{b:02x}" if not chr(b).isalnum() or b > 127 else chr(b) for b in v.encode()
    ),
    "url, all": lambda v: "".join(f"%{b:02X}" for b in v.encode()),
    "url plus": urllib.parse.quote_plus,
    **{f"base64 at {offset}": partial(_b64, offset=offset) for offset in range(3)},
    **{f"base64 url-safe at {offset}": partial(_url_b64, offset=offset) for offset in range(3)},
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    "json": lambda v: json.dumps(v)[1:-1],
    "json in utf-8": lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    "json in json": lambda v: json.dumps(json.dumps(v))[3:-3],
    "html": html.escape,
    "html without quotes": lambda v: html.escape(v, quote=False),
    "repr": lambda v: repr(v)[1:-1],
    "repr of bytes": lambda v: repr(v.encode())[2:-1],
    "shell": lambda v: shlex.quote(v).strip("'"),
    "\\u": lambda v: "".join(
        f"\\u{int.from_bytes(v.encode('utf-16-be')[i : i + 2], 'big'):04x}"
        for i in range(0, len(v.encode("utf-16-be")), 2)
    ),
    "\\x": lambda v: "".join(f"\\x{b:02x}" for b in v.encode()),
}
NAMES = sorted(ENCODINGS)
ORDINARY = Redactor([KEY, ODD, "ZZZZZZZZZ"])
SECRET_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="*\r\n"), min_size=8, max_size=40).filter(
    lambda value: len(value.strip()) >= 8
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", SECRETS)
def test_every_encoding_is_found(name: str, value: str) -> None:
    """A secret is found in each of its spellings, and nothing beside it is touched."""
    form = ENCODINGS[name](value)
    shown = Redactor(SECRETS).text(f"before {form} after")
    assert form not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "****" in shown


@settings(max_examples=150)
@given(SECRET_VALUES, st.sampled_from(NAMES), st.text(max_size=30), st.text(max_size=30))
def test_no_text_gives_a_secret_away(value: str, name: str, before: str, after: str) -> None:
    """Whatever stands around it, the secret is gone, and a second pass changes nothing."""
    redactor = Redactor([value])
    form = ENCODINGS[name](value)
    shown = redactor.text(before + form + after)
    assume(form not in before + "****" + after)
    assert form not in shown
    assert redactor.text(shown) == shown


@settings(max_examples=100)
@given(st.text("abcdefghijklmnop \n\r0123456789", max_size=200))
def test_text_without_a_secret_stays(text: str) -> None:
    """Nothing is masked where nothing was, whole or in a stream."""
    assert ORDINARY.text(text) == text
    stream = ORDINARY.stream()
    assert stream.feed(text.encode()) + stream.flush() == text.encode()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [KEY, ODD, "hunter2hunter2"])
def test_a_secret_across_two_chunks_is_found(name: str, value: str) -> None:
    """At every point where a chunk may end, and none of it is given out before it is certain."""
    redactor = Redactor([KEY, ODD, "hunter2hunter2"])
    form = ENCODINGS[name](value).encode()
    text = b"<< " + form + b" >>\n"
    for cut in range(len(text) + 1):
        stream = redactor.stream()
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == redactor.data(text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [KEY, ODD, "hunter2hunter2"])
def test_a_secret_across_two_lines_is_found(name: str, value: str) -> None:
    """Wrapped anywhere, whole or in a stream of lines; at most 4 characters and 20 % were seen before."""
    redactor = Redactor([KEY, ODD, "hunter2hunter2"])
    form = ENCODINGS[name](value).encode()
    for cut in range(1, len(form)):
        first, second = b"<< " + form[:cut] + b"\n", form[cut:] + b" >>\n"
        shown = redactor.data(first + second)
        assert shown.count(b"\n") == 2
        assert form not in shown.replace(b"\n", b"")
        assert shown.replace(b"\n", b"").replace(b"*", b"").replace(b"sk_live_1234", b"") == b"<<  >>"
        stream = redactor.stream()
        pieces = stream.feed(first) + stream.feed(second) + stream.flush()
        seen = pieces.split(b"\n")[0].removeprefix(b"<< ")
        assert not form.startswith(seen.rstrip(b"*")) or len(seen.rstrip(b"*")) <= min(4, len(form) // 5)
        assert pieces.endswith((b"**** >>\n", b"1234 >>\n"))


@pytest.mark.parametrize("size", [8, 9, 10, 11, 12, 14, 15, 16, 18, 19, 20, 40])
@pytest.mark.parametrize("others", [(), ("hunter2hunter2",), tuple(f"Passw0rd{n}" for n in range(20)), (KEY * 3,)])
def test_a_secret_is_found_wherever_it_stands(size: int, others: tuple[str, ...]) -> None:
    """At every place of the text, whatever its length and that of those beside it, at the very end too."""
    value = "".join(chr(ord("a") + 7 * at % 26) for at in range(size))
    redactor = Redactor([value, *others])
    for name in ("raw", "url, all", "base64 at 0", "base64 at 1", "base64 at 2", "hex", "\\u"):
        form = ENCODINGS[name](value).encode()
        for place in range(20):
            assert redactor.data(b"." * place + form) == b"." * place + MASK
            assert redactor.data(b"." * place + form + b" and\nmore") == b"." * place + MASK + b" and\nmore"


@pytest.mark.parametrize("value", ["hunter2hunter2", KEY, "Ab3dEf6h", "only-letters-in-this-one"])
def test_a_secret_is_found_in_a_long_text(value: str) -> None:
    """Wherever a text is divided to be searched."""
    redactor = Redactor([value, "hunter2hunter2", "postgresql://app:s3cr3t-pw@db/shop"])
    text = b"-" * 50_000
    for place in (
        *range(4000, 50_000, 4111),
        *range(12_288 - len(value), 12_290),
        *range(3072 - len(value), 3074),
        50_000,
    ):
        shown = redactor.data(text[:place] + value.encode() + text[place:])
        assert shown == text[:place] + mask_of(value.encode()) + text[place:]


def test_a_text_full_of_what_a_secret_holds() -> None:
    """What is met everywhere hides no secret, and is none itself."""
    redactor = Redactor(["canary-0000-of", "hunter2hunter2"])
    text = b"0" * 30_000
    for place in range(3000, 3100):
        assert redactor.data(text[:place] + b"canary-0000-of" + text[place:]) == text[:place] + MASK + text[place:]


def test_hundreds_of_secrets_are_told_apart() -> None:
    """Of many that are alike each is found, and what only begins like one stays."""
    values = [f"sk-{number:04d}-{number * 7919 % 9973:04d}-end" for number in range(300)]
    redactor = Redactor(values)
    assert redactor.text(" ".join(values)) == " ".join(["****"] * len(values))
    near = " ".join(value[:-1] + "x" for value in values)
    assert redactor.text(near) == near


def test_byte_by_byte_is_the_same() -> None:
    """A stream that is fed single bytes gives what the whole gives."""
    redactor = Redactor(SECRETS)
    text = f"GET {KEY}\n{LINES} and {ODD} aaaaaaaaaaaa sk-{'q' * 30} x postgres://u:pw@h\n".encode()
    stream = redactor.stream()
    streamed = b"".join([stream.feed(text[at : at + 1]) for at in range(len(text))]) + stream.flush()
    # A chain of overlapping secrets that comes in pieces has a mask for each piece.
    assert re.sub(rb"\*+", b"*", streamed) == re.sub(rb"\*+", b"*", redactor.data(text))


def test_a_line_without_a_secret_does_not_wait() -> None:
    """Whole lines leave at once, though their last character could begin a secret."""
    stream = Redactor([KEY, "hunter2hunter2"]).stream()
    for line in (b"ends with s\n", b"ends with sk_l\n", b"plain\n", b"with h\r\n"):
        assert stream.feed(line) == line


def test_only_what_may_be_a_secret_waits() -> None:
    """What is held back begins where a spelling may begin, and is shorter than the spelling."""
    stream = Redactor(["hunter2hunter2"]).stream()
    assert stream.feed(b"to hunter2hun") == b"to "
    assert stream.feed(b"ky dory") == b"hunter2hunky dory"
    assert stream.feed(b" hunter2hunter") == b" "
    assert stream.flush() == b"hunter2hunter"


def test_overlapping_and_nested_secrets() -> None:
    """The longest counts; what overlaps becomes one mask; nothing of either is left."""
    redactor = Redactor(["abcdefgh", "xxabcdefghyy", "ghyyzzzzzz"])
    assert redactor.text("1 abcdefgh 2") == "1 **** 2"
    assert redactor.text("1 xxabcdefghyy 2") == "1 **** 2"
    assert redactor.text("1 xxabcdefghyyzzzzzz 2") == "1 **** 2"
    assert Redactor(["abcabcabc"]).text("abcabcabcabcabc") == "****"


def test_masks_show_at_most_four_characters() -> None:
    """Only keys of a known kind of 20 characters and more show their end."""
    assert Redactor([KEY]).text(KEY) == "sk_live_****1234"
    assert mask_of(b"sk_live_short") == MASK
    assert mask_of(b"x" * 40) == MASK
    assert secret.MASK.encode() == MASK


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk_live_abcdefghijkl5678.", "key sk_live_****5678."),
        ("rk_test_abcdefghijkl5678", "rk_test_****5678"),
        ("whsec_abcdefghijklmn5678", "whsec_****5678"),
        ("Incorrect API key provided: sk-proj-abc************wxyz.", "Incorrect API key provided: sk-****wxyz."),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ****"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def x", "jwt **** x"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIA****MNOP"),
        ("ghp_abcdefghijklmnopqrst", "ghp_****qrst"),
        ("xoxb-1234567890-abcdefghij", "xoxb-****ghij"),
        ("postgresql://app:pw@db/shop", "postgresql://****@db/shop"),
        ("gho_abcdefghijklmnopqrst and ghu_abcdefghijklmnopqrst", "gho_****qrst and ghu_****qrst"),
        ("ghs_abcdefghijklmnopqrst,ghr_abcdefghijklmnopqrst", "ghs_****qrst,ghr_****qrst"),
        ("github_pat_abcdefghijklmnop_qrst", "github_pat_****qrst"),
        ("ASIAABCDEFGHIJKLMNOP", "ASIA****MNOP"),
        ("sk_test_abcdefghijkl5678 rk_live_abcdefghijkl5678", "sk_test_****5678 rk_live_****5678"),
        ("xapp-1-abcdefghijklmnop xoxs-1234567890-abcdefghij", "xapp-****mnop xoxs-****ghij"),
        ("authorization: bearer abcdefghijklmnopqrst", "authorization: bearer ****"),
        ("redis://:p@ss@h", "redis://****@h"),
    ],
)
def test_known_kinds_are_found_without_their_value(text: str, shown: str) -> None:
    """Keys by their shape and credentials in URLs, whole or cut anywhere."""
    redactor = Redactor([])
    assert redactor.text(text) == shown
    assert redactor.text(shown) == shown
    for cut in range(len(text)):
        stream = redactor.stream()
        assert (stream.feed(text[:cut].encode()) + stream.feed(text[cut:].encode()) + stream.flush()).decode() == shown


@pytest.mark.parametrize(
    "text",
    [
        "risk-assessment-of-the-whole-thing",
        "Bearer token missing",
        "http://127.0.0.1:3001/a@b",
        '{"url":"http://localhost:3000","mail":"a@b.example"}',
        "sk_live_ and sk- and eyJ",
        "ask_live_performance_data_now",
        "task-list-of-the-whole-team 0AKIAABCDEFGHIJKLMNOP AKIAABCDEFGHIJKLMNOPq",
        "xeyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc xghp_abcdefghijklmnopqrst",
        "forbearer abc, mail a@b.example, http://host:80/@home",
    ],
)
def test_what_only_looks_like_a_key_stays(text: str) -> None:
    """A word that begins like a key is no key."""
    assert Redactor([]).text(text) == text


def test_short_values_only_where_they_are_a_field() -> None:
    """Under 8 characters a value is masked as a field, as a whole value and in a URL, and left alone in prose."""
    redactor = Redactor(["admin", "hunter2"])
    assert redactor.text("the admin said: password=hunter2, hunter2s") == "the admin said: password=****, hunter2s"
    assert redactor.text('{"api_key": "admin"}') == '{"api_key": "****"}'
    assert redactor.text("https://admin@h/") == "https://****@h/"
    assert redactor.tree(["admin", "the admin"]) == ["****", "the admin"]
    stream = redactor.stream()
    assert stream.feed(b"password=hun") + stream.feed(b"ter2 x\n") == b"password=**** x\n"


def test_a_tree_is_redacted_by_value_and_by_name() -> None:
    """Keys, values and lists; a name that says secret is enough; numbers, truth and nothing stay."""
    tree = Redactor([KEY]).tree(
        {
            KEY: [KEY, 1, None, True],
            "apiKey": "x",
            "STRIPE_SECRET_KEY": "y",
            "headers": {"Set-Cookie": ["a"], "X-Admin-Password": "b", "authorization": "c"},
            "tokenStatus": "active",
            "tokenValid": True,
            "token": None,
            "NEXT_PUBLIC_KEY": "shown",
        }
    )
    assert tree == {
        "sk_live_****1234": ["sk_live_****1234", 1, None, True],
        "apiKey": "****",
        "STRIPE_SECRET_KEY": "****",
        "headers": {"Set-Cookie": ["****"], "X-Admin-Password": "****", "authorization": "****"},
        "tokenStatus": "active",
        "tokenValid": True,
        "token": None,
        "NEXT_PUBLIC_KEY": "shown",
    }


@pytest.mark.parametrize(
    "name", ["password", "db_password", "accessToken", "client-secret", "x-api-key", "OPENAI_API_KEY"]
)
def test_names_that_say_secret(name: str) -> None:
    """In any of the usual ways to write a name."""
    assert names_secret(name)


@pytest.mark.parametrize("name", ["key", "tokens_used", "author", "primary_key", "databaseUrl", "secretary", "passed"])
def test_names_that_do_not(name: str) -> None:
    """A part of a word is no word."""
    assert not names_secret(name)


def test_the_password_in_a_url_is_a_secret_of_its_own() -> None:
    """Also when it was escaped in the URL."""
    redactor = Redactor(["postgresql://app:p%40ssw0rd-x@db/shop"])
    assert redactor.text("role p@ssw0rd-x and p%40ssw0rd-x") == "role **** and ****"


def test_a_line_of_a_key_is_a_secret() -> None:
    """A part of a file of several lines may stand alone in a log."""
    assert Redactor([LINES]).text("got AbCdEfsecondLine2== here") == "got **** here"


def test_including_knows_both() -> None:
    """The old and the new."""
    assert Redactor(["first-secret"]).including(["second-secret"]).text("first-secret second-secret") == "**** ****"


def test_blank_values_are_no_secrets() -> None:
    """An empty or blank value must not wreck every line."""
    text = "a        b password= \n\n\n\n\n\n\n\n\n"
    assert Redactor(["", "        ", "\n" * 9]).text(text) == text


COLOURED = "canaryABC123xyz"


@pytest.mark.parametrize("code", ["\x1b[0m", "\x1b[m\x1b[K", "\x1b[38;5;196m", "\x1b[1;31m\r\n\x1b[0m"])
@pytest.mark.parametrize("at", range(1, len(COLOURED)))
def test_a_secret_with_a_colour_in_its_middle_is_found(code: str, at: int) -> None:
    """Whoever looks for a word highlights it, in the middle of a secret too; what a person would read is gone."""
    shown = Redactor([COLOURED]).text(f"before {COLOURED[:at]}{code}{COLOURED[at:]} after")
    assert re.sub(r"[\r\n]+\**", "", shown) == "before **** after"


@pytest.mark.parametrize("at", range(1, 34))
def test_a_coloured_secret_is_found_wherever_the_output_is_cut(at: int) -> None:
    """Within a code as well."""
    stream = Redactor([COLOURED]).stream()
    data = f"a {COLOURED[:5]}\x1b[1;31m{COLOURED[5:9]}\x1b[0m{COLOURED[9:]}\x1b[K b\n".encode()
    assert stream.feed(data[:at]) + stream.feed(data[at:]) + stream.flush() == b"a ****\x1b[K b\n"


def test_colours_that_hide_nothing_stay() -> None:
    """A log keeps what its service made of it, also what is begun and never ended."""
    data = b"\x1b[32mok\x1b[0m ready\x1b[1\nnext \x1b"
    assert Redactor([COLOURED]).data(data) == data


def test_a_secret_that_holds_a_colour_itself_is_found() -> None:
    """Of whatever it is made."""
    value = "pass\x1b[0mword-of-4711"
    for written in (value, "password-of-4711"):
        assert Redactor([value]).text(f"x {written} y") == "x **** y"
