"""The question that all observations of a tunnel and of the public name answer together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from flawless.core.check import Concern, Failed, Finding, Outcome, Passed
from flawless.core.tunnel import TABLE, Local, Outside, Process, Public, Row, Seen, Verdict, judge

OBSERVATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "configuration": ("tunnel.configured", "cloudflared has what it is started with"),
    "process": ("tunnel.process", "cloudflared runs"),
    "metrics": ("tunnel.metrics", "its metrics port answers"),
    "kind": ("tunnel.identity", "it carries the tunnel that the manifest means"),
    "connection": ("tunnel.connected", "it is connected to the edge"),
    "file": ("tunnel.current", "it runs with its configuration as it is on disk"),
    "route": ("tunnel.route", "its live rule for the public name leads to this stack"),
    "origin": ("tunnel.origin", "the address that the rule names answers"),
}
"""Each observation of this machine, as the check that it is: its id and its claim."""

LEAST: Final = 2.0
"""Seconds that a look needs: in less, a slow answer is taken for none, and what was seen before says more."""


_BY_HAND: Final = "restart it as it was started, for example: sudo systemctl restart cloudflared"


@dataclass(frozen=True, slots=True)
class View:
    """All that was seen at one time. `local` is None where no tunnel is declared.

    `findings`: the outcome of each observation by itself, optional public checks among them.
    """

    local: Local | None
    outside: Outside
    findings: Sequence[Finding] = ()


@dataclass
class Routed:
    """Claims that the public name leads to this release. `view` and `verdict` are those of the last answer.

    `may_restart`: whether the manifest says how a cloudflared of somebody else's is restarted.
    """

    hostname: str
    look: Callable[[float], Awaitable[View]]
    has_tunnel: bool
    may_restart: bool = False
    optional: bool = False
    view: View | None = field(default=None, init=False)
    verdict: Verdict | None = field(default=None, init=False)
    _last: Outcome | None = field(default=None, init=False)

    @property
    def id(self) -> str:
        return "tunnel.routing" if self.has_tunnel else "public.routing"

    @property
    def claim(self) -> str:
        return f"{self.hostname} leads to this release"

    async def ask(self, limit: float) -> Outcome:
        """Looks, unless there is less time than that needs: then the answer is the last one."""
        if self._last is None or limit >= LEAST:
            self._last = await self._looked(limit)
        return self._last

    async def _looked(self, limit: float) -> Outcome:
        self.view = await self.look(limit)
        self.verdict = None if self.view.local is None else judge(self.view.local, self.view.outside, self.hostname)
        if self.verdict is None:
            return _outcome(self.view.outside)
        facts = {"tunnel": to_facts(self.view, self.verdict)}
        if self.verdict.failed is None:
            return replace(_passed(self.view.outside), facts=facts)
        is_foreign = self.view.local is not None and self.view.local.process.state is Process.FOREIGN
        failed = self._of_others(self.verdict.failed) if is_foreign else self.verdict.failed
        return replace(failed, facts=facts)

    def _of_others(self, failed: Failed) -> Failed:
        """Its output is not ours to show, nor is it ours to restart where the manifest has no command for that."""
        steps = [step for step in failed.next_steps if "logs tunnel" not in step]
        if not self.may_restart and any("tunnel restart" in step for step in steps):
            steps = [_BY_HAND, *(step for step in steps if "tunnel restart" not in step)]
        return replace(failed, next_steps=tuple(steps))


def observed(local: Local | None, *, is_proved: bool) -> Iterator[Finding]:
    """Each observation of this machine by itself. Proof from outside makes what looks wrong here a warning."""
    for name, (id_, claim) in OBSERVATIONS.items() if local is not None else ():
        outcome = getattr(local, name).outcome
        yield Finding(id_, claim, _softened(outcome) if is_proved else outcome, 0.0)


def _softened(outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Failed):
        return outcome
    return Passed((outcome.cause, *outcome.evidence), Concern(outcome.reason, outcome.next_steps[0]))


def to_facts(view: View, verdict: Verdict | None) -> Mapping[str, Any]:
    """The report's `tunnel`: the verdict's name, and the state of each observation."""
    parts = [part for part in (view.local, view.outside) if part is not None]
    seen = {one.name: getattr(part, one.name) for part in parts for one in fields(part)}
    return {
        "verdict": verdict.row.verdict if verdict else None,
        "observations": {name: str(one.state) for name, one in seen.items() if isinstance(one, Seen)},
    }


def row_of(failed: Failed) -> Row | None:
    """The row of the verdict that made this failure; the last look may have been another one, cut short."""
    name = failed.facts.get("tunnel", {}).get("verdict")
    return next((row for row in TABLE if row.verdict == name), None)


def _outcome(outside: Outside) -> Outcome:
    """Without a tunnel the public name speaks for itself; a name that leads nowhere says more than a silent address.

    Where only optional checks are declared nothing is proved, and nothing is said to be.
    """
    if outside.public.state is Public.OURS:
        return _passed(outside)
    outcomes = (outside.name.outcome, outside.public.outcome)
    return next((one for one in outcomes if isinstance(one, Failed)), outside.public.outcome)


def _passed(outside: Outside) -> Passed:
    return outside.public.outcome if isinstance(outside.public.outcome, Passed) else Passed()
