"""Nothing leaves the process before its secrets are taken out: known ones by value, others by their shape.

How a value is found. Wherever a spelling of 19 bytes or more stands, some group of four of its bytes begins at a
multiple of sixteen: for each remainder one telling group is remembered. Every sixteenth place of the text is read as a
32-bit number and intersected with those groups: one set operation for any number of secrets. Only where a group is met,
spellings are compared. Shorter spellings need a smaller stride, down to four for seven bytes; a few are searched for
one by one instead.

Line breaks and the codes of colours are left out of the comparison, so a secret that was wrapped, or of which a part
was highlighted, is found as well.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator

from flawless.core.spellings import NOISE, one_line, spellings

TYPE_CHECKING = False  # the module typing would be an eighth of a keeper's memory
if TYPE_CHECKING:
    from typing import TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
Span: TypeAlias = "tuple[int, int, bytes]"

MASK = b"****"
SHORT = 8  # below this many characters a value is a secret only where it stands as a field or in a URL
_HEAD = 7
_BLOCK = 3072  # a multiple of every stride
_STRIDES = (16, 12, 8, 4)
_NEEDLES = 90  # searching for a spelling through so many bytes takes as long as looking at one group
_CONTEXT = 64  # bytes already given out that a field's name may reach back
_TOKEN = 16_384  # a token of a known shape that is still unfinished after so many bytes is not waited for

# How keys of a kind begin, and how they go on. What one row begins with shares its first bytes: for those `re` looks
# faster than `in` does.
_SHAPES = (
    ((b"sk_live_", b"sk_test_"), rb"[A-Za-z0-9]{8,}"),
    ((b"rk_live_", b"rk_test_"), rb"[A-Za-z0-9]{8,}"),
    ((b"whsec_",), rb"[A-Za-z0-9+/=_-]{8,}"),
    ((b"sk-",), rb"[A-Za-z0-9_*-]{16,}"),  # OpenAI's refusals repeat the key with stars in its middle
    ((b"eyJ",), rb"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),
    ((b"AKIA", b"ASIA"), rb"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ((b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"[A-Za-z0-9]{16,}"),
    ((b"github_pat_",), rb"[A-Za-z0-9_]{16,}"),
    ((b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-"), rb"[A-Za-z0-9-]{8,}"),
    ((b"xapp-",), rb"[A-Za-z0-9-]{8,}"),
)
_PREFIXES = tuple(prefix for prefixes, _ in _SHAPES for prefix in prefixes)
# No letter before it: looked at only where the beginning was met.
_KEYS = tuple(
    re.compile(rb"(?:%b)(?<![A-Za-z0-9]%b)%b" % (b"|".join(prefixes), b"." * len(prefixes[0]), body))
    for prefixes, body in _SHAPES
)
_MASKED_PREFIX = re.compile(b"|".join(prefix for prefix in _PREFIXES if prefix != b"eyJ"))
# What must be kept of a match stands before the group that is masked.
_BEARER = re.compile(rb"earer (?<=[Bb]earer )((?=[^\s]*\d)[A-Za-z0-9._~+/=-]{8,}|[A-Za-z0-9._~+/=-]{16,})")
_USERINFO = re.compile(rb"://([^\s/?#\"'<>`\\@]*:[^\s/?#\"'<>`\\]*)@")
_BEGINNINGS = tuple({literal[:size] for literal in (*_PREFIXES, b"earer ", b"://") for size in range(1, len(literal))})
_BEGINNING = re.compile(rb"(?:" + b"|".join(map(re.escape, sorted(_BEGINNINGS, key=len, reverse=True))) + rb")\Z")
_UNFINISHED = re.compile(
    rb"(?:(?<![A-Za-z0-9])(?:" + b"|".join(_PREFIXES) + rb")[A-Za-z0-9._~+/=*-]*"
    rb"|earer [A-Za-z0-9._~+/=-]*|://[^\s/?#\"'<>`\\]*)\Z"
)
# By kind, the better the later: any group, one with a digit, letters together with digits. Of several the last: what
# values begin with is often an ordinary word, as in `postgresql://`.
_TELLING = tuple(
    map(re.compile, (rb"(?=....)", rb"(?=....)(?=.{0,3}1)", rb"(?=[a1]{4})(?=.{0,2}(?:a1|1a))")),
)
_WINDOW = 128  # so much of a spelling is looked at for telling groups
_BYTES = bytes(range(_WINDOW))  # a slice of one byte is shared, what `bytes` makes is not
_BREAKS = re.compile(rb"[\r\n]+")

_KINDS = bytes(ord("1") if chr(c).isdigit() else ord("a") if chr(c).isalpha() else ord(".") for c in range(128)).ljust(
    256, b"."
)
_WORD = r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|auth|authorization|cookie|apikey|session"
_KEY = r"(?:api|secret|private|access|signing|encryption|service|master|admin|auth|license|webhook)[_\-]?key"
_FIELD_NAME = re.compile(rf"(?:.*[^a-z])?(?:{_WORD}|{_KEY})|.*(?:password|secret|apikey)")
_ENVIRONMENT_NAME = re.compile(r"[A-Z0-9_]*(?:KEY|SECRET|TOKEN|PASSWORD)")
_PUBLIC_NAME = re.compile(r"NEXT_PUBLIC_.*|.*PUBLISHABLE.*|.*PUBLIC_?KEY.*")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FIELD_BEFORE = re.compile(
    rb"(?i)(?:pass|pwd|secret|token|key|auth|cookie|credential|session)[\w-]*(?:\\?[\"'])?\s*[:=]\s*(?:\\?[\"'])?\Z"
)
_FIELD_UNFINISHED = re.compile(_FIELD_BEFORE.pattern[:-2] + rb"([^\s\"',;&]{0,16})\Z")
_USERINFO_BEFORE = re.compile(rb"://(?:[^\s/@]*:)?\Z")
_USERINFO_KNOWN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#]*)@")
_ESCAPED_BYTE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Redactor:
    """Takes secrets out of text. `values` are the secrets as they are; it knows how else they may be written."""

    __slots__ = (
        "_forms",
        "_grams",
        "_heads",
        "_longest",
        "_masks",
        "_needles",
        "_openings",
        "_shorts",
        "_stride",
        "_values",
    )

    def __init__(self, values: Iterable[str]) -> None:
        self._values = frozenset(_with_parts(values))
        self._shorts = _shorts(self._values)
        self._forms: dict[bytes, list[bytes]] = {}  # by how they begin, sorted
        self._masks: dict[bytes, bytes] = {}
        self._heads: dict[int, bytes] = {}  # each of the first four groups, and where in spellings it stands
        self._openings: dict[bytes, int] = {}
        self._longest = 0
        for value in self._values:
            if _is_long(value):
                self._learn(value)
        forms = [form for begun in self._forms.values() for form in begun]
        self._stride = min(_STRIDES, key=lambda stride: _NEEDLES / stride + len(_too_short(forms, stride)))
        self._needles = _too_short(forms, self._stride)
        self._grams = _telling_groups(forms, self._stride)

    def including(self, more: Iterable[str]) -> Redactor:
        """A redactor that knows `more` secrets as well."""
        return Redactor([*self._values, *more])

    def text(self, value: str) -> str:
        return self.data(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def data(self, value: bytes) -> bytes:
        """The same without secrets. Lines stay lines."""
        spans, _ = self.spans(value)
        return b"".join(_rendered(value, spans, 0, len(value))) if spans else value

    def tree(self, value: JSON) -> JSON:
        """The same tree without secrets, those masked as well that only their key names as such."""
        match value:
            case dict():
                return {self.text(key): self._field(key, item) for key, item in value.items()}
            case list() | tuple():
                return [self.tree(item) for item in value]
            case str():
                return MASK.decode() if value.encode("utf-8", "surrogatepass") in self._shorts else self.text(value)
            case _:
                return value

    def stream(self) -> Stream:
        """For output that arrives in pieces."""
        return Stream(self)

    def spans(self, data: bytes) -> tuple[list[Span], int]:
        """What to mask, in order and apart; and where a spelling begins that the end of the data may have cut off."""
        joined = one_line(data)
        found, hold = self._by_value(joined)
        hold = _tail_start(data, len(joined) - hold)
        if found and len(joined) != len(data):
            found = _in_original(data, found)
        found += _by_shape(data)
        if self._shorts:
            found += self._by_field(data)
        return _merged(found), hold

    def may_show(self, tail: bytes) -> bool:
        """Whether this beginning of a spelling is so little of it that it may be seen: 4 characters and 20 %."""
        return len(tail) <= 4 and all(
            len(tail) - start <= self._openings.get(tail[start:], sys.maxsize) // 5 for start in range(len(tail))
        )

    @property
    def longest(self) -> int:
        """Size of the longest spelling, in bytes."""
        return self._longest

    def unfinished_field(self, data: bytes) -> int:
        """Where a short secret in a field may have been cut off by the end of the data."""
        match = _FIELD_UNFINISHED.search(data, max(0, len(data) - _CONTEXT)) if self._shorts else None
        if match and any(short.startswith(match[1]) for short in self._shorts):
            return match.start(1)
        return len(data)

    def _learn(self, value: str) -> None:
        raw = one_line(value.encode("utf-8", "surrogatepass"))
        for form in spellings(value):
            if len(form) >= _HEAD:
                self._add(form)
        self._masks[raw] = mask_of(raw)

    def _add(self, form: bytes) -> None:
        insort(self._forms.setdefault(form[:_HEAD], []), form)
        self._longest = max(self._longest, len(form))
        for remainder in range(4):
            _note(self._heads, form, remainder)
        for size in range(1, _HEAD):
            opening = form[:size]
            self._openings[opening] = min(self._openings.get(opening, sys.maxsize), len(form))

    def _by_value(self, joined: bytes) -> tuple[list[Span], int]:
        spans: list[Span] = []
        starts = _candidates(joined, 0, self._grams, self._stride)
        starts.update([at for needle in self._needles for at in _places(joined, needle)])
        for start in starts:
            form, _ = self._compared(joined, start)
            if form:
                spans.append((start, start + len(form), self._masks.get(form, MASK)))
        return spans, self._cut_off(joined)

    def _cut_off(self, joined: bytes) -> int:
        """Where the longest beginning of a spelling starts that runs to the end."""
        tail = max(0, len(joined) - self._longest + 1)
        starts = [start for start in _candidates(joined, tail, self._heads, 4) if self._compared(joined, start)[1]]
        return min(starts) if starts else self._short_hold(joined)

    def _compared(self, joined: bytes, start: int) -> tuple[bytes, bool]:
        forms = self._forms.get(joined[start : start + _HEAD])
        return _longest_of(forms, joined[start : start + self._longest]) if forms else (b"", False)

    def _short_hold(self, joined: bytes) -> int:
        size = len(joined)
        openings = self._openings
        return next((size - n for n in range(min(_HEAD - 1, size), 0, -1) if joined[-n:] in openings), size)

    def _by_field(self, data: bytes) -> Iterator[Span]:
        for short in self._shorts:
            for at in _places(data, short):
                if _stands_alone(data, at, at + len(short)):
                    yield at, at + len(short), MASK

    def _field(self, key: str, value: JSON) -> JSON:
        return _masked_tree(value) if names_secret(key) else self.tree(value)


class Stream:
    """Redacts output that arrives in pieces, wherever it is cut. What may become a secret waits for the next piece."""

    __slots__ = ("_pending", "_redactor", "_shown")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""
        self._shown = 0  # so many bytes of what is pending have been given out, as they are or masked

    def feed(self, chunk: bytes) -> bytes:
        """Takes the next piece, gives what is certain."""
        data = self._pending + chunk
        spans, hold = self._redactor.spans(data)
        start = min(hold, _unfinished(data), self._redactor.unfinished_field(data))
        if len(data) - start > 2 * self._redactor.longest + _TOKEN:  # a page of blank lines is no wrapped secret
            start = len(data)
        return self._give(data, spans, start, len(data) if self._may_go(data, start) else max(start, self._shown))

    def flush(self) -> bytes:
        """The rest, when nothing more comes."""
        data, self._pending = self._pending, b""
        spans, _ = self._redactor.spans(data)
        shown, self._shown = self._shown, 0
        return b"".join(_rendered(data, spans, shown, len(data)))

    def _may_go(self, data: bytes, start: int) -> bool:
        """A whole line does not wait for the sake of a few characters at its end."""
        return data.endswith(b"\n") and self._redactor.may_show(one_line(data[start:]))

    def _give(self, data: bytes, spans: list[Span], start: int, stop: int) -> bytes:
        output = b"".join(_rendered(data, spans, self._shown, stop))
        masked = max([end for begin, end, _ in spans if begin < stop], default=0)
        keep = min(start, max(0, len(data) - _CONTEXT))
        self._pending = data[keep:]
        self._shown = max(stop, masked, self._shown) - keep
        return output


def mask_of(value: bytes) -> bytes:
    """`sk_live_****1234` for a key of a known kind of at least 20 characters, `****` for everything else."""
    prefix = _MASKED_PREFIX.match(value)
    if prefix is None or len(value) < 20 or not value[-4:].isalnum():
        return MASK
    return prefix[0] + MASK + value[-4:]


def names_secret(name: str) -> bool:
    """Whether what is called so is secret whatever its value."""
    if _PUBLIC_NAME.fullmatch(name.upper()):
        return False
    return bool(_ENVIRONMENT_NAME.fullmatch(name) or _FIELD_NAME.fullmatch(_CAMEL.sub("_", name).lower()))


def _with_parts(values: Iterable[str]) -> Iterator[str]:
    """The values, the lines of those that have several, and the credentials inside URLs."""
    for value in values:
        yield value
        yield value.strip()
        yield from [line.strip() for line in value.splitlines() if _is_long(line) and not line.startswith("-----")]
        for userinfo in _USERINFO_KNOWN.findall(value):
            _, _, password = userinfo.partition(":")
            yield password
            yield _unquoted(password)


def _unquoted(text: str) -> str:
    raw = _ESCAPED_BYTE.sub(lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogatepass"))
    return raw.decode("utf-8", "surrogateescape") if raw.isascii() else raw.decode("utf-8", "replace")


def _is_long(value: str) -> bool:
    return len(value.replace("\n", "").replace("\r", "").strip()) >= SHORT


def _shorts(values: Iterable[str]) -> frozenset[bytes]:
    return frozenset(
        value.encode("utf-8", "surrogatepass") for value in values if value.strip() and not _is_long(value)
    )


def _too_short(forms: Iterable[bytes], stride: int) -> list[bytes]:
    """Those that may stand between two places that are looked at."""
    return [form for form in forms if len(form) < stride + 3]


def _telling_groups(forms: Iterable[bytes], stride: int) -> dict[int, bytes]:
    """For each form and remainder a group that ordinary text hardly has, and where in spellings it stands."""
    grams: dict[int, bytes] = {}
    for form in forms:
        if len(form) >= stride + 3:
            kinds = form[:_WINDOW].translate(_KINDS)
            offsets: dict[int, int] = {}
            for pattern in _TELLING:
                offsets.update([(match.start() % stride, match.start()) for match in pattern.finditer(kinds)])
            for offset in offsets.values():
                _note(grams, form, offset)
    return grams


def _note(grams: dict[int, bytes], form: bytes, offset: int) -> None:
    gram = int.from_bytes(form[offset : offset + 4], sys.byteorder)
    offsets = grams.get(gram, b"")
    if offset not in offsets:
        grams[gram] = offsets + _BYTES[offset : offset + 1]


def _candidates(joined: bytes, begin: int, grams: dict[int, bytes], stride: int) -> set[int]:
    """Where a spelling may begin, at `begin` or later."""
    starts: set[int] = set()
    if not grams:
        return starts
    for block in range(begin, len(joined), _BLOCK):
        stop = min(block + _BLOCK, block + (len(joined) - block & ~3))
        numbers = memoryview(joined)[block:stop].cast("I")[:: stride // 4]
        met = grams.keys() & numbers
        if met:
            places = [
                (at, number) for at, number in zip(range(block, stop, stride), numbers, strict=True) if number in met
            ]
            starts.update([at - offset for at, number in places for offset in grams[number] if at - offset >= begin])
    return starts


def _places(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def _longest_of(forms: list[bytes], text: bytes) -> tuple[bytes, bool]:
    """The longest of the sorted forms that the text begins with; and whether the text is the beginning of one."""
    at = bisect_right(forms, text)
    cut = at < len(forms) and forms[at].startswith(text)
    while at and not text.startswith(forms[at - 1]):
        # What is a beginning of the text is one of what the text and its neighbour share, too.
        text = _shared(text, forms[at - 1])
        at = bisect_right(forms, text, 0, at)
    return (forms[at - 1] if at else b""), cut


def _shared(one: bytes, other: bytes) -> bytes:
    return one[: next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), None)]


def _by_shape(data: bytes) -> Iterator[Span]:
    for pattern in _KEYS:
        yield from [(*match.span(), mask_of(match[0])) for match in pattern.finditer(data)]
    yield from [(*match.span(1), MASK) for match in _BEARER.finditer(data)]
    if b"@" in data:  # next to nothing to ask, and few lines have one
        yield from [(*match.span(1), MASK) for match in _USERINFO.finditer(data)]


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    before = data[max(0, start - _CONTEXT) : start]
    if data[end : end + 1] in (b"@", b":") and _USERINFO_BEFORE.search(before):
        return True
    return (end == len(data) or data[end : end + 1] in b" \t\r\n\"'\\,;&})]") and bool(_FIELD_BEFORE.search(before))


def _unfinished(data: bytes) -> int:
    """Where a token of a known shape, or the beginning of its prefix, runs to the end of the data."""
    size = len(data)
    if data.endswith((b"\n", b" ")) and not data.endswith(b"earer "):
        return size
    match = _UNFINISHED.search(data, max(0, size - _TOKEN, data.rfind(b"\n") + 1))
    if match:
        return match.start()
    if not data.endswith(_BEGINNINGS):
        return size
    begun = _BEGINNING.search(data, max(0, size - 16))
    return begun.start() if begun else size


def _tail_start(data: bytes, size: int) -> int:
    """Where the last `size` bytes that are neither line breaks nor colours begin."""
    start = len(data)
    if size and b"\x1b" in data:  # a slice might begin within a code
        return _place_in(data)(len(one_line(data)) - size)
    while size:
        start -= size
        size -= len(one_line(data[start : start + size]))
    return start


def _in_original(data: bytes, spans: list[Span]) -> list[Span]:
    """Places in the text without line breaks and colours, as places in the data."""
    place = _place_in(data)
    return [(place(start), place(end - 1) + 1, mask) for start, end, mask in spans]


def _place_in(data: bytes) -> Callable[[int], int]:
    left_out = [at for match in NOISE.finditer(data) for at in range(*match.span())]
    before = [at - count for count, at in enumerate(left_out)]
    return lambda at: at + bisect_right(before, at)


def _merged(spans: list[Span]) -> list[Span]:
    """What overlaps becomes one; a mask that shows something stays only where it stands for the whole."""
    merged: list[Span] = []
    for start, end, mask in sorted(spans, key=lambda span: (span[0], -span[1])):
        if merged and start < merged[-1][1]:
            first, last, kept = merged[-1]
            merged[-1] = (first, max(last, end), kept if end <= last else MASK)
        else:
            merged.append((start, end, mask))
    return merged


def _rendered(data: bytes, spans: list[Span], start: int, stop: int) -> Iterator[bytes]:
    at = start
    for begin, end, mask in spans:
        if end <= start or begin >= stop:
            continue
        yield data[at:begin]
        yield mask if begin >= start else MASK
        yield from [part + MASK for part in _BREAKS.findall(data, max(begin, at), end)]
        at = end
    yield data[at:stop]


def _masked_tree(value: JSON) -> JSON:
    match value:
        case dict():
            return {key: _masked_tree(item) for key, item in value.items()}
        case list() | tuple():
            return [_masked_tree(item) for item in value]
        case bool() | None | "":
            return value
        case _:
            return MASK.decode()
