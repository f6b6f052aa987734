"""Values that stand where a real one should: `changeme`, `sk_test_xxx`, `your-key-here`, `<password>`, `TODO`.

Each form is bound to word ends or to the whole value, so that no random key is taken for one by chance: brackets count
where the whole value is in them, or a whole part of an address.
"""

from __future__ import annotations

import re
from typing import Final

_THINGS: Final = (
    "api|app|auth|client|database|db|domain|email|host|hostname|id|key|name|openai|own|pass|password|port|project|"
    "pwd|secret|service|stripe|tenant|token|url|user|username|value|webhook"
)
_SAYS: Final = rf"(?:[a-z0-9]+[-_ ])*(?:{_THINGS}|here|your)(?:[-_ ][a-z0-9]+)*"
_BRACKETED: Final = re.compile(rf"<[^<>]+>|\[{_SAYS}\]|\{{\{{?{_SAYS}\}}?\}}", re.IGNORECASE)
_KEY: Final = re.compile(r"(?:[sr]k|pk|whsec)(?:[-_][a-z]+)*[-_](?=[<\[{])", re.IGNORECASE)
_PARTS: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_YOURS: Final = re.compile(rf"(?:^|[^a-z0-9])your[-_ ](?:[a-z0-9]+[-_ ])*(?:{_THINGS}|here)(?![a-z0-9])", re.IGNORECASE)
_HERE: Final = re.compile(
    r"(?:^|[-_ ])(?:key|secret|token|password|value|id|url)[-_ ](?:goes[-_ ])?here$"
    rf"|^(?:insert|put|paste|enter|add)[-_ ](?:[a-z0-9]+[-_ ])*(?:{_THINGS}|here)(?![a-z0-9])",
    re.IGNORECASE,
)
_CHANGE: Final = re.compile(r"(?:^|[^a-z0-9])(?:change|replace)[-_ ]?(?:me|this|it)(?![a-z])", re.IGNORECASE)
_CROSSED_OUT: Final = re.compile(
    r"(?:^|[-_./ ])(?:x{3,}|[*•…]{3,}|\.{3,}|…)(?:[-_./ ].*|[*•…].*|[a-z0-9]{0,4})?$", re.IGNORECASE
)
_WORDS: Final = re.compile(
    r"(?:todo|fixme|tbd)(?:[:!. ].*)?|undefined|placeholder|dummy|"
    r"(?:[a-z0-9]+[-_])*(?:example|placeholder|dummy)(?:[-_](?:key|secret|token|password|value|api|\d+))*",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"https?://", re.IGNORECASE)
_YOUR_ADDRESS: Final = re.compile(
    r"https?://(?:[a-z0-9-]+\.)*your-?(?:app|company|domain|host|name|project|shop|site)\b", re.IGNORECASE
)
_URL_WITH_USER: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)


def placeholder_in(value: str) -> str | None:
    """What kind of placeholder the value is, in words that do not repeat it; None when it may be real."""
    text = value.strip()
    if any(_BRACKETED.fullmatch(part) for part in _parts(text)):
        return "a text in brackets that says what belongs there"
    if _URL_WITH_USER.match(text):
        return None  # `changeme` may be the database's real password: the database says
    if _ADDRESS.match(text):
        return "the address of an example" if _YOUR_ADDRESS.match(text) else None
    if _YOURS.search(text) or _HERE.search(text):
        return "an invitation to put your own value there"
    if _CHANGE.search(text):
        return "an invitation to change it"
    if _CROSSED_OUT.search(text):
        return "a value that is crossed out"
    if _WORDS.fullmatch(text):
        return "the word of a template"
    return None


def _parts(text: str) -> list[str]:
    """The value, without the beginning of a key; of an address its user, password, host, segments and parameters.

    Not `urlsplit`, which takes `[YOUR-PASSWORD]` for a broken IPv6 address and refuses the whole.
    """
    found = _PARTS.fullmatch(text)
    if found is None:
        return [_KEY.sub("", text, count=1)]
    authority, *segments = re.split(r"[/?#]", found["rest"])
    user, _, place = authority.rpartition("@")
    name, _, password = user.partition(":")
    host = re.sub(r":[^:\]]*$", "", place)
    parameters = [one.partition("=")[2] for segment in segments for one in segment.split("&")]
    return [name, password, place, host, *segments, *parameters]
