"""How many answers prove a public name, and how many may be lost: the numbers behind N of M.

An answer is one of four. OURS proves itself to be of this release. A BLIP is none at all: made by the edge (502, 504,
52x, 530), a connection that was lost, a time-out. FOREIGN is somebody else's. HARD is one that no second one heals: a
cached copy, a wall, a redirect to elsewhere, a certificate that proves nothing, our own word that we are not healthy.

A foreign answer is never tolerated: one is proof that the name leads to somebody else, too. So what has to be large is
the number of answers. What is missed is a second connector that happens to get none of n requests, (1 - share)^n:

    share        n = 20       n = 60       n = 120
    1/2          1e-6         9e-19        8e-37
    1/4          0.3 %        3e-8         1e-15
    1/10         12 %         0.18 %       3.2e-6

20 would let every eighth gate pass a connector with a tenth of the traffic; 120 begin to look like an attack to what
stands in front of a site. So a host is asked 60 times in one look, however many checks share them (`[public]
requests`), at least 20 each; the count of what cloudflared here was handed finds a twin of any share besides
(`outside`). One foreign answer fails the look; should a gate ask again, twice as many answers without one are needed:
over the 20 or so attempts of a gate the chance stays below (1 - share)^n + 20 (1 - share)^2n, which is the table above
again.

Blips are tolerated up to a tenth and one: 7 of 60, 3 of 20. With 4 % of requests lost for a moment a look of 60 has
more than that in 26 of 10,000 cases, one of 20 in 74; then the gate asks again, and three looks in a row fail in 2e-8
(4e-7) of them. A second connector that loses all it gets (502) is found by the same count from a share of a third on
(but for 1e-4 of the looks); with a tenth or less it cannot be told from a bad line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from flawless.core.answer import Answer
from flawless.core.tunnel import Public

LEAST: Final = 20
"""Answers without which nothing is proved, however slow they are; and asked before the share is told."""

ROUND: Final = 5
"""Requests at once. When all of the first round are lost, the rest is not sent."""


class Weight(StrEnum):
    """What an answer says of the name."""

    OURS = "ours"
    BLIP = "blip"
    FOREIGN = "foreign"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request: its weight, the state it would stand for, what is said of it."""

    weight: Weight
    state: Public
    said: str
    answer: Answer | None = None
    steps: tuple[str, ...] = ()


@dataclass(slots=True)
class Sample:
    """The replies of one look. `strict`: every one of `wanted` must come, as somebody else has answered before."""

    wanted: int
    strict: bool = False
    replies: list[Reply] = field(default_factory=list)
    sent: int = 0
    _counted: Counter[Weight] = field(default_factory=Counter, repr=False)

    def send(self) -> bool:
        """Whether one more is asked for; counted as sent."""
        more = self.sent < self.wanted and not self.is_decided
        self.sent += more
        return more

    def add(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._counted[reply.weight] += 1

    def of(self, weight: Weight) -> list[Reply]:
        return [one for one in self.replies if one.weight is weight]

    @property
    def is_decided(self) -> bool:
        """Whether further answers could not make it pass. A share is told from at least 20."""
        counted = self._counted
        if counted[Weight.HARD] or counted[Weight.BLIP] > tolerated(self.wanted):
            return True
        if counted[Weight.FOREIGN]:
            return len(self.replies) >= LEAST
        return len(self.replies) >= ROUND and not counted[Weight.OURS]

    @property
    def is_whole(self) -> bool:
        """Whether enough has come: all of it or, where time was short and nothing is held against the name, 20."""
        return len(self.replies) >= (self.wanted if self.strict else min(LEAST, self.wanted))

    def state(self, *, through_tunnel: bool) -> Public:
        """The one state of the name. What is neither all ours nor all foreign is MIXED behind a tunnel."""
        ours, foreign, hard = (self.of(weight) for weight in (Weight.OURS, Weight.FOREIGN, Weight.HARD))
        if foreign:
            return Public.MIXED if ours and through_tunnel else most(foreign)
        if hard:
            return most(hard)
        if not ours:
            return most(self.of(Weight.BLIP))
        blips = len(self.replies) - len(ours)
        # Lost now and then is no sign of a tunnel that is not there: nothing is restarted for it.
        return Public.OURS if self.is_whole and blips <= tolerated(len(self.replies)) else Public.UNREACHABLE


def tolerated(answers: int) -> int:
    """How many of so many may be lost."""
    return answers // 10 + 1


def most(replies: list[Reply]) -> Public:
    """The state that most of them stand for; nothing at all is a name that cannot be reached."""
    counted = Counter(one.state for one in replies)
    return counted.most_common(1)[0][0] if counted else Public.UNREACHABLE
