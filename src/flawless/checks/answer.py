"""What an HTTP answer has to look like: status, JSON, required services. Pure; no request is made here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flawless.core.answer import Answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer must be: one of these statuses (none: any 2xx), this JSON, these services healthy."""

    status: tuple[int, ...] = ()
    json: Any = None
    required: tuple[str, ...] = ()

    @property
    def needs_json(self) -> bool:
        return self.json is not None or bool(self.required)


def deploy_id_of(answer: Answer) -> str | None:
    """The deploy that the answer says it comes from: `deployId` in its JSON, or a header; None when it says none."""
    body = _json(answer)
    if isinstance(body, Mapping) and isinstance(body.get("deployId"), str):
        return str(body["deployId"])
    return answer.headers.get("x-flawless-deploy-id")


def complaints(wanted: Wanted, answer: Answer) -> Sequence[str]:
    """Everything that is not as wanted, a sentence each; none when the answer passes."""
    return list(_complaints(wanted, answer))


def _complaints(wanted: Wanted, answer: Answer) -> Iterator[str]:
    expected = wanted.status or tuple(range(200, 300))
    body = _json(answer)
    # A health route may say "not yet" with 503 and tell why in its body, so the body's reasons come first.
    if body is not None or answer.status in expected:
        yield from _mismatches(wanted.json, body, "")
        yield from _unhealthy(wanted.required, body)
    if answer.status not in expected:
        yield f"status {answer.status}, not {_any(wanted.status) if wanted.status else 'a 2xx'}"


def _json(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def matches(wanted: Any, found: Any) -> bool:
    """A subset match: an object must hold at least the wanted keys, a list means any of its items."""
    return not list(_mismatches(wanted, found, ""))


def _mismatches(wanted: Any, found: Any, path: str) -> Iterator[str]:
    match wanted:
        case None:
            return
        case Mapping():
            if not isinstance(found, Mapping):
                yield f"{path or 'the body'} is {_shown(found)}, not an object"
                return
            for key, value in wanted.items():
                place = f"{path}.{key}" if path else str(key)
                if key in found:
                    yield from _mismatches(value, found[key], place)
                else:
                    yield f"{place} is missing"
        case list() | tuple():
            if not any(matches(one, found) for one in wanted):
                yield f"{path or 'the body'} is {_shown(found)}, not {_any(wanted)}"
        case _:
            # True == 1 in Python, and not in JSON.
            if isinstance(wanted, bool) is not isinstance(found, bool) or wanted != found:
                yield f"{path or 'the body'} is {_shown(found)}, not {_shown(wanted)}"


def _unhealthy(required: Sequence[str], body: Any) -> Iterator[str]:
    """`degraded.enabled`, then each required service that is not healthy; both dialects of the field are read."""
    if not isinstance(body, Mapping):
        if required:
            yield "the body is not an object"
        return
    degraded = body.get("degraded")
    if isinstance(degraded, Mapping) and degraded.get("enabled") is True:
        yield f"degraded.enabled is true{_reasons(degraded)}"
    services = body.get("services")
    for name in required:
        one = services.get(name) if isinstance(services, Mapping) else None
        if not isinstance(one, Mapping):
            yield f"services.{name} is missing"
        elif not _is_healthy(one):
            yield f"services.{name} is not healthy{_reasons(one)}"


def _is_healthy(service: Mapping[str, Any]) -> bool:
    """`healthy` or `ok`, whichever dialect it speaks; where it speaks both, neither may say no."""
    said = [service[word] for word in ("healthy", "ok") if word in service]
    return bool(said) and all(one is True for one in said)


def reasons_of(body: Any) -> Sequence[str]:
    """What an unhealthy answer gives as its reasons."""
    found = body.get("degradedReasons") if isinstance(body, Mapping) else None
    return [str(reason)[:200] for reason in found] if isinstance(found, list) else []


def _reasons(found: Mapping[str, Any]) -> str:
    said = next((found[key] for key in ("error", "lastError", "reason", "reasons", "message") if found.get(key)), None)
    return f": {str(said)[:200]}" if said else ""


def _any(values: Sequence[Any]) -> str:
    return " or ".join(_shown(value) for value in values)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]
