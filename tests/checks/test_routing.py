"""The one question about a tunnel and its public name: answer, view and verdict belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flawless.checks.routing import LEAST, Routed, View, row_of
from flawless.core.check import Failed, Passed, Skipped
from flawless.core.reason import Reason
from flawless.core.tunnel import TABLE, Name, Outside, Public, Seen

DOWN = Failed(Reason.PUBLIC_UNREACHABLE, "nobody answers", ("refused",), ("look",))


class Eyes:
    """Sees what it is told to; `limits`: the time of each look."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        self.public = Seen(Public.UNREACHABLE, DOWN)

    async def look(self, limit: float) -> View:
        self.limits.append(limit)
        return View(None, Outside(Seen(Name.RESOLVES, Passed()), self.public))


@pytest.mark.anyio
async def test_a_look_is_given_time_to_see_something() -> None:
    """The moment before a deadline is too short, and a slow answer would be taken for none: what was seen stands."""
    eyes = Eyes()
    routed = Routed("app.example.org", eyes.look, has_tunnel=False)
    assert await routed.ask(10.0) == DOWN
    eyes.public = Seen(Public.OURS, Passed())
    assert await routed.ask(LEAST - 0.001) == DOWN
    assert isinstance(await routed.ask(LEAST), Passed)
    assert eyes.limits == [10.0, LEAST]


@pytest.mark.anyio
async def test_the_first_look_is_made_however_little_time_there_is() -> None:
    """There is nothing before it that could be told."""
    eyes = Eyes()
    assert await Routed("app.example.org", eyes.look, has_tunnel=False).ask(0.1) == DOWN


def test_a_failure_knows_the_row_of_its_verdict() -> None:
    """By the facts it carries; one of a process that ended carries none."""
    [row] = [row for row in TABLE if row.reason is Reason.TUNNEL_HUNG]
    assert row_of(replace(DOWN, facts={"tunnel": {"verdict": row.verdict}})) is row
    assert row_of(DOWN) is None


@pytest.mark.anyio
async def test_where_nothing_is_required_nothing_is_said_to_be_proved() -> None:
    """Optional checks speak for themselves; together they prove no release."""
    eyes = Eyes()
    eyes.public = Seen(Public.UNASKED, Skipped("no required check of the public address"))
    asked = await Routed("app.example.org", eyes.look, has_tunnel=False).ask(10.0)
    assert asked == Skipped("no required check of the public address")
