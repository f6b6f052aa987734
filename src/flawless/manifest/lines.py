"""On which line of a TOML text every key stands. tomllib does not say, and no dependency is worth it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from flawless.manifest.keys import Keys

# A text without an end goes to the end of its line or file: scanning it again from every quote would take minutes.
_TOKEN: Final = re.compile(
    r'''(?P<skip>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<text>"""(?:\\.|[^\\])*?(?:"{3,5}(?!")|\Z)|\'\'\'.*?(?:'{3,5}(?!')|\Z)
          |"(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)|'[^'\n]*(?:'|(?=\n)|\Z))
      | (?P<mark>[\[\]{}=,.])
      | (?P<word>[^\s\[\]{}=,.#"']+|["'])''',
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def nesting_of(text: str) -> int:
    """How deep the brackets of a text go, valid TOML or not; asked before a parser that recurses."""
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        if token["mark"] in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token["mark"] in ("]", "}"):
            depth = max(0, depth - 1)
    return deepest


def find_lines(text: str) -> dict[Keys, int]:
    """The line of every key, table and list item of a text that tomllib has accepted."""
    return _Finder(_tokens(text)).run()


def _tokens(text: str) -> list[_Token]:
    tokens, line = [], 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "skip":
            tokens.append(_Token(kind, match.group(), line))
        line += match.group().count("\n")
    tokens.append(_Token("newline", "\n", line))
    return tokens


@dataclass(slots=True)
class _Finder:
    tokens: list[_Token]
    at: int = 0
    table: Keys = ()
    lines: dict[Keys, int] = field(default_factory=dict)
    items: dict[Keys, int] = field(default_factory=dict)

    def run(self) -> dict[Keys, int]:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind == "newline":
                self.at += 1
            elif token.text == "[":
                self._header()
            else:
                self._pair(self.table)
        return self.lines

    def _header(self) -> None:
        line = self.tokens[self.at].line
        many = self.tokens[self.at + 1].text == "["
        self.at += 2 if many else 1
        names = self._names("]")
        self.at += 1 if many else 0
        self.table = self._open(names, line)
        if many:
            self.items[self.table] = self.items.get(self.table, -1) + 1
            self.table = (*self.table, self.items[self.table])
            self.lines[self.table] = line

    def _open(self, names: list[str], line: int) -> Keys:
        """The keys of a header. A name on the way that is a list of tables stands for its newest item."""
        keys: Keys = ()
        for name in names[:-1]:
            keys = (*keys, name)
            self.lines.setdefault(keys, line)
            keys = (*keys, self.items[keys]) if keys in self.items else keys
        keys = (*keys, names[-1])
        self.lines.setdefault(keys, line)
        return keys

    def _pair(self, table: Keys) -> None:
        line = self.tokens[self.at].line
        for name in self._names("="):
            table = (*table, name)
            self.lines.setdefault(table, line)
        self._value(table)

    def _names(self, end: str) -> list[str]:
        """The parts of a dotted key, up to and over the mark that ends it."""
        names = []
        while (token := self.tokens[self.at]).text != end:
            if token.text != ".":
                names.append(_unquote(token.text) if token.kind == "text" else token.text)
            self.at += 1
        self.at += 1
        return names

    def _value(self, keys: Keys) -> None:
        match self.tokens[self.at].text:
            case "[":
                self._list(keys)
            case "{":
                self._inline_table(keys)
            case _:
                while (token := self.tokens[self.at]).kind != "newline" and token.text not in (",", "]", "}"):
                    self.at += 1

    def _list(self, keys: Keys) -> None:
        self.at += 1
        index = 0
        while (token := self.tokens[self.at]).text != "]":
            if token.text == "," or token.kind == "newline":
                self.at += 1
                continue
            self.lines[*keys, index] = token.line
            self._value((*keys, index))
            index += 1
        self.at += 1

    def _inline_table(self, keys: Keys) -> None:
        self.at += 1
        while (token := self.tokens[self.at]).text != "}":
            if token.text == "," or token.kind == "newline":
                self.at += 1
            else:
                self._pair(keys)
        self.at += 1


def _unquote(text: str) -> str:
    import tomllib

    name = tomllib.loads(f"name = {text}")["name"]
    assert isinstance(name, str)
    return name
