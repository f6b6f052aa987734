"""Which failure opens which incident, and when two faults are the same."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from flawless.core.reason import Reason
from flawless.incidents.fingerprint import subject_of
from flawless.incidents.incident import Category, Severity
from flawless.incidents.rules import category_of, is_consequence, opening_of, root_of, severity_of
from incidents.conftest import failure

TABLE = {
    "DB_REFUSED": (Category.DB, Severity.CRITICAL),
    "DB_TABLE_MISSING": (Category.DB, Severity.CRITICAL),
    "DB_SLOW": (Category.DB, Severity.WARN),
    "MIGRATE_FAILED": (Category.DB, Severity.CRITICAL),
    "ENV_MISSING": (Category.DEPLOY, Severity.CRITICAL),
    "CONFIG_INVALID": (Category.DEPLOY, Severity.CRITICAL),
    "PORT_HELD_FOREIGN": (Category.DEPLOY, Severity.CRITICAL),
    "DISK_FULL": (Category.DEPLOY, Severity.CRITICAL),
    "ARTEFACT_STALE": (Category.DEPLOY, Severity.CRITICAL),
    "TOOL_MISSING": (Category.DEPLOY, Severity.CRITICAL),
    "SERVICE_EXITED": (Category.DEPLOY, Severity.CRITICAL),
    "LOCK_HELD": (Category.DEPLOY, Severity.INFO),
    "DEPLOY_KILLED": (Category.DEPLOY, Severity.WARN),
    "DEPLOY_INTERRUPTED": (Category.DEPLOY, Severity.INFO),
    "DEPLOY_ROLLBACK_FAILED": (Category.DEPLOY, Severity.CRITICAL),
    "TUNNEL_NOT_RUNNING": (Category.TUNNEL, Severity.CRITICAL),
    "PUBLIC_DNS": (Category.TUNNEL, Severity.CRITICAL),
    "API_UNAUTHORIZED": (Category.API, Severity.CRITICAL),
    "API_KEY_MODE": (Category.API, Severity.CRITICAL),
    "HOST_OFFLINE": (Category.OTHER, Severity.CRITICAL),
    "NEVER_HEARD_OF": (Category.OTHER, Severity.CRITICAL),
}


@pytest.mark.parametrize("code", TABLE)
def test_a_code_decides_category_and_severity(code: str) -> None:
    """A row of the table for each family, and for each code that is not CRITICAL."""
    assert (category_of(code), severity_of(code)) == TABLE[code]


def test_every_family_has_a_row() -> None:
    """A new family of codes is decided here, not by chance."""
    assert {code.partition("_")[0] for code in Reason} <= {code.partition("_")[0] for code in TABLE}


SAME = [
    ("backend exited with status 3 after 2.1 s (pid 812)", "backend exited with status 3 after 19.7 s (pid 90112)"),
    ("the deploy 20261123T141502Z-3f9c2a was killed", "the deploy 20261124T090000Z-aa00bb was killed"),
    ("lock held since 2026-11-23T14:15:02.123Z by pid 7", "lock held since 2026-11-24T01:02:03Z by pid 70001"),
    ("incident 019ac0de-0000-7000-8000-000000000001 waits", "incident 019ac0de-ffff-7000-8000-00000000abcd waits"),
    ("killed at 14:15:02 in commit 3f9c2ab", "killed at 09:00 in commit 00ffee1"),
    ("3 of 5 answers were wrong in 250 ms", "4 of 9 answers were wrong in 1.5 s"),
]
OTHER = [
    ("nothing accepts connections at 127.0.0.1:5432", "nothing accepts connections at 127.0.0.1:5433"),
    ("nothing accepts connections at 127.0.0.1:5432", "nothing accepts connections at 10.0.0.7:5432"),
    ("nothing accepts connections at 10.0.0.10:22", "nothing accepts connections at 10.0.0.10:23"),
    ("no route to 3f9c2ab.example.org", "no route to 00ffee1.example.org"),
    ("port 3000 is held by nginx", "port 3001 is held by nginx"),
    ("backend exited", "frontend exited"),
    ("backend2 exited", "backend3 exited"),
    ("STRIPE_SECRET_KEY is missing", "OPENAI_API_KEY is missing"),
    ("db1.example.org cannot be resolved", "db2.example.org cannot be resolved"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_time_pid_and_id_do_not_make_another_fault(one: str, other: str) -> None:
    """The same fault seen again has the same fingerprint, by whatever deploy."""
    openings = [opening_of(failure(cause=cause), stack="shop", deploy_id=cause[:4]) for cause in (one, other)]
    assert openings[0].fingerprint == openings[1].fingerprint


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_service_port_host_and_variable_make_another_fault(one: str, other: str) -> None:
    """What the fault is about tells it from others."""
    assert subject_of(one) != subject_of(other)


def test_another_code_category_or_stack_is_another_fault() -> None:
    """Two stacks on one database do not share incidents."""
    of = [
        opening_of(failure(), stack="shop"),
        opening_of(failure("DB_TIMEOUT"), stack="shop"),
        opening_of(failure(), stack="blog"),
    ]
    assert len({opening.fingerprint for opening in of}) == 3


def test_offline_is_the_cause_of_all_that_goes_over_the_network() -> None:
    """Five failures at once are one cause and four consequences; a full disk is its own."""
    codes = ["API_TIMEOUT", "DB_DNS", "HOST_OFFLINE", "TUNNEL_NOT_CONNECTED", "PUBLIC_DNS", "DISK_FULL"]
    openings = [opening_of(failure(code), stack="shop") for code in codes]
    root = root_of(openings)
    assert root is openings[2]
    assert [is_consequence(opening, root) for opening in openings] == [True, True, False, True, True, False]


def test_a_lost_database_is_the_cause_of_what_its_services_do() -> None:
    """A service that is unhealthy because its database is away is a consequence; a refused key is not."""
    openings = [opening_of(failure(code), stack="s") for code in ("SERVICE_UNHEALTHY", "DB_LOST", "API_UNAUTHORIZED")]
    root = root_of(openings)
    assert root is openings[1]
    assert [is_consequence(opening, root) for opening in openings] == [True, False, False]


def test_faults_without_a_common_cause_stand_alone() -> None:
    """Nothing is linked by guessing."""
    openings = [opening_of(failure(code), stack="s") for code in ("SERVICE_EXITED", "PORT_HELD_FOREIGN")]
    assert root_of(openings) is None
    assert replace(openings[0], caused_by=uuid4()).fingerprint == openings[0].fingerprint
