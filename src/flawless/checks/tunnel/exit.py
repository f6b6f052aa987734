"""Why cloudflared ended, by its last words: its exit codes say little (0 after an unknown flag, 1 for most things).

The samples were recorded from the real program, release 2026.8.2. What is none of these stays the end of a process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from flawless.core.check import Failed
from flawless.core.plain import printable
from flawless.core.reason import Reason


@dataclass(frozen=True, slots=True)
class Words:
    """What it prints, what that means, and what to do. `may_pass`: another start may go better."""

    said: re.Pattern[str]
    reason: Reason
    cause: str
    step: str
    may_pass: bool = False


KNOWN: Final = (
    Words(
        re.compile(r"Provided Tunnel token is not valid"),
        Reason.TUNNEL_CREDENTIALS,
        "cloudflared takes the token for none",
        "copy it anew into the variable that [tunnel] token names: cloudflared tunnel token NAME",
    ),
    Words(
        re.compile(
            r"Failed to read token file|Tunnel credentials file '.*' (?:doesn't exist|is not a file)|invalid JSON"
        ),
        Reason.TUNNEL_CREDENTIALS,
        "cloudflared cannot read the credentials of the tunnel",
        "see the path in its configuration, and whose file that is: credentials-file",
    ),
    Words(
        re.compile(r"Error opening metrics server listener"),
        Reason.PORT_HELD_FOREIGN,
        "the address of cloudflared's metrics is taken",
        'give it another one in flawless.toml: [tunnel] metrics = "127.0.0.1:20249"',
    ),
    Words(
        re.compile(r"flag provided but not defined|Incorrect Usage|requires the ID or name of the tunnel"),
        Reason.TUNNEL_CONFIG_INVALID,
        "cloudflared does not take the arguments it was given",
        "see what it was started with: [tunnel] command in flawless.toml, and its version: cloudflared --version",
    ),
    Words(
        re.compile(r"Could not lookup srv records"),
        Reason.TUNNEL_NOT_CONNECTED,
        "cloudflared does not find Cloudflare's edge: its name cannot be looked up here",
        "see whether names are found at all: getent hosts region1.v2.argotunnel.com",
        may_pass=True,
    ),
    Words(
        re.compile(r"initial tunnel connection failed|connection with edge closed|context deadline exceeded"),
        Reason.TUNNEL_NOT_CONNECTED,
        "cloudflared gave up: the edge did not take its first connection",
        "see whether the edge can be reached: nc -vz region1.v2.argotunnel.com 7844",
        may_pass=True,
    ),
    # Last, because it stands behind the others' words as well.
    Words(
        re.compile(r"Couldn't start tunnel|error parsing YAML|Error validating ingress|ingress rule"),
        Reason.TUNNEL_CONFIG_INVALID,
        "cloudflared refuses its configuration",
        "see what it says: cloudflared tunnel ingress validate",
    ),
)
"""The first that is found in the last lines counts."""


def tunnel_exit(failed: Failed, tail: Sequence[str]) -> Failed:
    """The end of its process (`failed`), named by what it printed last; a stranger on its port stays that."""
    if failed.reason is not Reason.SERVICE_EXITED:
        return failed
    for words in KNOWN:
        said = next((line for line in reversed(tail) if words.said.search(line)), None)
        if said is not None:
            evidence = (f"it printed: {printable(said)[:300]}", failed.cause, *failed.evidence)
            steps = (words.step, "see what it printed: flawless logs tunnel -n 50", _explained(words.reason))
            known = Failed(words.reason, words.cause, evidence, steps)
            return replace(known, permanent=None if words.may_pass else True)
    return failed


def _explained(reason: Reason) -> str:
    return f"what the code means: flawless explain {reason}"
