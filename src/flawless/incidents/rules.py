"""Which failure opens which incident: pure, from a report's failure to an `Opening`.

The category is the code's family. What fails a deploy is CRITICAL, but for what a person did (INFO) and what only
stopped the tool itself (WARN): then nothing is known to be broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flawless.core.plain import one_line
from flawless.incidents.fingerprint import fingerprint, subject_of
from flawless.incidents.incident import Category, Opening, Severity

CATEGORIES: Final[Mapping[str, Category]] = {
    "DB": Category.DB,
    "MIGRATE": Category.DB,
    "TUNNEL": Category.TUNNEL,
    "PUBLIC": Category.TUNNEL,
    "API": Category.API,
    **dict.fromkeys(("ENV", "CONFIG", "PORT", "DISK", "ARTEFACT", "TOOL", "SERVICE"), Category.DEPLOY),
    **dict.fromkeys(("LOCK", "DEPLOY"), Category.DEPLOY),
}
"""By the family of a reason code; HOST, and any family yet to come, is OTHER."""

MILD: Final[Mapping[str, Severity]] = {
    "DEPLOY_INTERRUPTED": Severity.INFO,
    "DEPLOY_KILLED": Severity.WARN,
    "LOCK_HELD": Severity.INFO,
    "DB_SLOW": Severity.WARN,
}
"""The codes that are not CRITICAL."""

OUTAGES: Final = frozenset({"DB_REFUSED", "DB_DNS", "DB_TIMEOUT", "DB_LOST", "DB_STARTING"})
"""A database that cannot be reached; services that need it fail because of it."""

LONGEST_SUMMARY: Final = 200


def category_of(code: str) -> Category:
    """`API_KEY_MODE` stands in the environment, but is about an interface."""
    return CATEGORIES.get(code.partition("_")[0], Category.OTHER)


def severity_of(code: str) -> Severity:
    return MILD.get(code, Severity.CRITICAL)


def opening_of(
    failure: Mapping[str, Any], *, stack: str, deploy_id: str | None = None, severity: Severity | None = None
) -> Opening:
    """The incident of a failure with `code`, `cause`, `evidence`, `next_steps` and, from a report, `phase`."""
    code, cause = str(failure["code"]), str(failure["cause"])
    category, subject = category_of(code), subject_of(cause)
    details = {"stack": stack, "code": code, "subject": subject, "cause": cause}
    details |= {key: failure[key] for key in ("phase", "evidence") if failure.get(key)}
    return Opening(
        severity=severity or severity_of(code),
        category=category,
        summary=one_line(cause, LONGEST_SUMMARY),
        fingerprint=fingerprint(stack, category, code, subject),
        details=details,
        next_steps=tuple(failure.get("next_steps", ())),
        deploy_id=deploy_id,
    )


def failure_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome of the report (CONTRACTS 5) as a failure: its cause is the first line of its evidence."""
    cause, *evidence = outcome["evidence"]
    steps = outcome.get("next_steps") or [outcome["next_step"]]
    return {"code": outcome["code"], "cause": cause, "evidence": evidence, "next_steps": list(steps)}


def root_of(openings: Sequence[Opening]) -> Opening | None:
    """Of faults seen at the same time, the one that explains the rest: no network, else no database."""
    for is_root in (_is_offline, _is_outage):
        roots = [opening for opening in openings if is_root(opening)]
        if roots:
            return roots[0]
    return None


def is_consequence(opening: Opening, root: Opening) -> bool:
    """Offline explains all that goes over the network; a lost database explains what services do without it."""
    if opening is root:
        return False
    if _is_offline(root):
        return opening.category in {Category.DB, Category.TUNNEL, Category.API} or _is_of_service(opening)
    return _is_of_service(opening) or _is_outage(opening)


def _is_offline(opening: Opening) -> bool:
    return opening.details.get("code") == "HOST_OFFLINE"


def _is_outage(opening: Opening) -> bool:
    return opening.details.get("code") in OUTAGES


def _is_of_service(opening: Opening) -> bool:
    return str(opening.details.get("code")).startswith("SERVICE_")
