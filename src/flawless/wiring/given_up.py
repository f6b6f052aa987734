"""A service that was given up is an incident, opened by the next command and ended by the order that starts it again.

Nobody watches keepers, so whoever comes next looks at their records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flawless.adapters import given_up
from flawless.adapters.given_up import GivenUp
from flawless.core.ids import uuid7_of
from flawless.core.reason import Reason
from flawless.incidents.rules import opening_of
from flawless.wiring.logs import ServiceLogs

if TYPE_CHECKING:
    from flawless.core.service import Running
    from flawless.wiring.stack import Stack

LINES: Final = 10
"""Of what the service printed last, as evidence."""


def tell(stack: Stack, found: Iterable[GivenUp]) -> None:
    """Opens an incident for each of these, of which nobody was told. The caller holds the deploy lock.

    What a full disk keeps from being written is told by the command after this one.
    """
    with suppress(OSError):
        for one in found:
            given_up.note(stack.state, one, str(_opened(stack, one)))


def end(stack: Stack, names: Collection[str] | None, *, by: str) -> None:
    """These services, or all, were started by an order and are ready: their incidents are over."""
    for name in given_up.services(stack.state) if names is None else names:
        told = given_up.told(stack.state, name)
        if told is not None:
            stack.incidents.resolve(UUID(told.incident), f"{name} was started again and is ready", by=by)
            given_up.forget(stack.state, name)


def _opened(stack: Stack, one: GivenUp) -> UUID:
    running = stack.keeper(one.service).recorded()
    failure = _failure(stack, one.service, running)
    opening = opening_of(failure, stack=stack.name, deploy_id=running.deploy_id if running else None)
    id_ = uuid7_of(one.at, f"{stack.state} {one.service} {one.mark}")
    return stack.incidents.open(opening, id_)


def _failure(stack: Stack, name: str, running: Running | None) -> dict[str, Any]:
    because = running.reason if running and running.reason else "crashed again and again"
    return {
        "code": Reason.SERVICE_GAVE_UP,
        "cause": f"{name} {because}; it is not started any more",
        "evidence": [*_seen(running), *_printed(stack, name)],
        "next_steps": [f"see why it ended: flawless logs {name} -n 50", f"once mended: flawless start {name}"],
    }


def _seen(running: Running | None) -> Iterator[str]:
    if running is None:
        return
    yield f"given up at {running.since}, after {running.restarts} restarts since the last order"
    if running.last_exit is not None:
        yield f"it {running.last_exit.sentence}, at {running.last_exit.at or 'an unknown time'}"


def _printed(stack: Stack, name: str) -> Iterator[str]:
    logs = ServiceLogs(stack.service_logs, [name], last=LINES)
    try:
        yield from (f"it printed: {line}" for printed in logs.recent() for line in printed.lines)
    finally:
        logs.close()
