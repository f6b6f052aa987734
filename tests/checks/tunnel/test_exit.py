"""The last words of cloudflared, as they were recorded."""

from __future__ import annotations

import pytest

from flawless.checks.tunnel.exit import KNOWN, tunnel_exit
from flawless.core.check import Failed
from flawless.core.reason import Reason

ENDED = Failed(
    Reason.SERVICE_EXITED, "tunnel ended with exit status 1 after 0.1 s", ("| it",), ("look",), permanent=True
)

RECORDED = [
    ("Provided Tunnel token is not valid.", Reason.TUNNEL_CREDENTIALS),
    ("Failed to read token file: open /etc/token: no such file or directory", Reason.TUNNEL_CREDENTIALS),
    ("Tunnel credentials file '/c/x.json' doesn't exist or is not a file", Reason.TUNNEL_CREDENTIALS),
    ("Tunnel credentials file '/c/x.json' contained invalid JSON", Reason.TUNNEL_CREDENTIALS),
    ('ERR Error opening metrics server listener error="bind: address already in use"', Reason.PORT_HELD_FOREIGN),
    ("Incorrect Usage. flag provided but not defined: -frob", Reason.TUNNEL_CONFIG_INVALID),
    ('"cloudflared tunnel run" requires the ID or name of the tunnel to run', Reason.TUNNEL_CONFIG_INVALID),
    ("ERR Could not lookup srv records on _v2-origintunneld._tcp.argotunnel.com", Reason.TUNNEL_NOT_CONNECTED),
    ('ERR initial tunnel connection failed error="connection with edge closed"', Reason.TUNNEL_NOT_CONNECTED),
    ('ERR Couldn\'t start tunnel error="Rule #1 is matching all hostnames"', Reason.TUNNEL_CONFIG_INVALID),
]


@pytest.mark.parametrize(("line", "reason"), RECORDED, ids=[line[:30] for line, _ in RECORDED])
def test_a_recorded_line_names_its_reason(line: str, reason: Reason) -> None:
    """The line itself is the first evidence, and how the process ended stands behind it."""
    failed = tunnel_exit(ENDED, ["INF Starting tunnel", line, "INF bye"])
    assert failed.reason is reason
    assert failed.evidence[:2] == (f"it printed: {line}", ENDED.cause)
    assert failed.is_permanent is (reason is not Reason.TUNNEL_NOT_CONNECTED)


def test_every_known_word_was_recorded() -> None:
    """No pattern stands there that no line has shown."""
    assert all(any(words.said.search(line) for line, _ in RECORDED) for words in KNOWN)


def test_what_it_printed_besides_leaves_the_end_of_a_process() -> None:
    """Nothing is guessed, and a port that a stranger holds stays that."""
    assert tunnel_exit(ENDED, ["INF all is well"]) is ENDED
    stolen = Failed(Reason.PORT_STOLEN, "held", ("by pid 7",), ("look",))
    assert tunnel_exit(stolen, ["Provided Tunnel token is not valid."]) is stolen
