"""Incidents as lines for a person: a page of them, and the whole story of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from flawless.cli.page import Line, Span, line, wrapped
from flawless.incidents.incident import Event, Incident, Severity, Story

_STYLES = {Severity.CRITICAL: "red bold", Severity.WARN: "yellow", Severity.INFO: "dim"}
_WHO = {"by": "by", "deploy_id": "deploy"}
_DETAILS_SHOWN_ELSEWHERE = frozenset({"stack", "code", "phase", "cause", "subject", "evidence"})


def page_lines(incidents: Sequence[Incident], width: int) -> Iterator[Line]:
    """Two lines an incident: what it is, and its summary."""
    for incident in incidents:
        state = "open" if incident.is_open else f"resolved {_moment(incident.resolved_at)}"
        facts = f"{incident.category:<7} {_moment(incident.created_at)}  {_times(incident.occurrences):<12}  {state}"
        yield line(_severity(incident), f"{facts}  ", Span(str(incident.id), "dim"))
        yield from wrapped(incident.summary, width, line("          "))


def story_lines(story: Story, width: int) -> Iterator[Line]:
    """The cause first, the next steps last."""
    yield from _head(story, width)
    yield from _evidence(story.incident, width)
    yield line("")
    yield line(Span("what happened", "bold"))
    for event in story.events:
        yield from _event(event, width)
    yield from _next_steps(story.incident, width)


def _head(story: Story, width: int) -> Iterator[Line]:
    incident = story.incident
    yield line(_severity(incident), f"{incident.category} incident ", Span(str(incident.id), "dim"))
    yield from wrapped(incident.summary, width, line("  "), "bold")
    for name, value in _facts(story):
        yield from wrapped(value, width, line(f"  {name:<13}"))


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    incident, details = story.incident, story.incident.details
    yield "since", f"{_moment(incident.created_at)}, {_times(incident.occurrences)}"
    if incident.is_open:
        yield "state", f"open, last changed {_moment(incident.updated_at)}"
    else:
        yield "state", f"resolved {_moment(incident.resolved_at)}: {incident.resolution_notes or 'without notes'}"
    if incident.deploy_id:
        yield "deploy", incident.deploy_id
    for name in ("stack", "phase"):
        if details.get(name):
            yield name, str(details[name])
    if details.get("code"):
        yield "reason", f"{details['code']} (flawless explain {details['code']})"
    if incident.caused_by:
        yield "caused by", str(incident.caused_by)
    if story.consequences:
        yield "consequences", ", ".join(map(str, story.consequences))


def _evidence(incident: Incident, width: int) -> Iterator[Line]:
    details = incident.details
    seen = [details["cause"]] if details.get("cause", incident.summary) != incident.summary else []
    seen += _texts(details.get("evidence", ()))
    seen += [f"{key}: {value}" for key, value in details.items() if key not in _DETAILS_SHOWN_ELSEWHERE]
    if not seen:
        return
    yield line("")
    yield line(Span("evidence", "bold"))
    for text in seen:
        yield from wrapped(str(text), width, line("  "))


def _event(event: Event, width: int) -> Iterator[Line]:
    who = [f" ({word} {event.metadata[key]})" for key, word in _WHO.items() if event.metadata.get(key)]
    first, *more = f"{event.message}{''.join(who)}".splitlines() or [""]
    yield from wrapped(first, width, line(f"  {_moment(event.created_at)}  {event.event_type:<18} "))
    for text in more:
        yield from wrapped(text, width, line("      "))


def _next_steps(incident: Incident, width: int) -> Iterator[Line]:
    steps = list(incident.next_steps)
    if incident.is_open:
        steps.append(f"when it is mended: flawless incidents resolve {incident.id} --notes TEXT")
    if steps:
        yield line("")
        yield line(Span("next steps", "bold"))
    for number, step in enumerate(steps, 1):
        yield from wrapped(step, width, line(f"  {number}. "))


def _severity(incident: Incident) -> Span:
    return Span(f"{incident.severity:<10}", _STYLES[incident.severity] if incident.is_open else "dim")


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "at an unknown time"


def _times(occurrences: int) -> str:
    return "seen once" if occurrences == 1 else f"seen {occurrences} times"


def _texts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
