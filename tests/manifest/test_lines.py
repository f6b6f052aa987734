"""Lines of keys in TOML texts."""

from __future__ import annotations

import tomllib

from flawless.manifest.keys import to_dotted, walk
from flawless.manifest.lines import find_lines

TEXT = '''# first
top = 1
"quoted.key" = """
many
lines""" # five
[a.b]  # header
x.y = [ 1, # one
  { p = 'v', "q" = [2,
    3] },
]
date = 1979-05-27 07:32:00
float = 1.5e3
[[items]]
n = """"quotes""""
[[items]]
m = \'\'\'it's [not] {a} = "table"\'\'\'
[items.inner]
k = true
[a.'c d']
[x]
'''


def test_every_key_has_the_line_it_stands_on() -> None:
    """Quoted and dotted keys, tables in lists, texts over several lines, dates with a space."""
    lines = {to_dotted(keys): line for keys, line in find_lines(TEXT).items()}
    assert lines == {
        "top": 2,
        '"quoted.key"': 3,
        "a": 6,
        "a.b": 6,
        "a.b.x": 7,
        "a.b.x.y": 7,
        "a.b.x.y[0]": 7,
        "a.b.x.y[1]": 8,
        "a.b.x.y[1].p": 8,
        "a.b.x.y[1].q": 8,
        "a.b.x.y[1].q[0]": 8,
        "a.b.x.y[1].q[1]": 9,
        "a.b.date": 11,
        "a.b.float": 12,
        "items": 13,
        "items[0]": 13,
        "items[0].n": 14,
        "items[1]": 15,
        "items[1].m": 16,
        "items[1].inner": 17,
        "items[1].inner.k": 18,
        'a."c d"': 19,
        "x": 20,
    }


def test_the_keys_are_those_tomllib_finds() -> None:
    """One text, two readers, the same tree."""
    assert set(find_lines(TEXT)) == {keys for keys, _ in walk(tomllib.loads(TEXT)) if keys}
