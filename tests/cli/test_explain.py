"""flawless explain has a page for every code."""

from __future__ import annotations

import pytest

from cli.conftest import Say
from flawless.core.reason import Reason


@pytest.mark.parametrize("code", list(Reason))
def test_every_code_has_a_page_that_can_be_shown(flawless: Say, code: Reason) -> None:
    """Title, meaning, how it is found and at least one step; in at most 120 columns."""
    document = flawless("explain", code, "--json").document
    assert document["code"] == code
    assert all(document[part] for part in ("title", "meaning", "found", "steps"))
    shown = flawless("explain", code).out
    assert shown.startswith(f"{code}\n")
    assert max(len(line) for line in shown.splitlines()) <= 120


def test_all_codes_are_listed_by_family(flawless: Say) -> None:
    """Without a code every code stands there, and in the document too."""
    listed = flawless("explain").out
    assert [code for code in Reason if code not in listed] == []
    assert {one["code"] for one in flawless("explain", "--json").document["codes"]} == set(Reason)


@pytest.mark.parametrize("written", ["DB_REFUSED", "db_refused", "db-refused"])
def test_a_code_is_understood_in_any_case(flawless: Say, written: str) -> None:
    """Nobody has to type capitals."""
    assert flawless("explain", written).out.startswith("DB_REFUSED\n")


def test_an_unknown_code_is_refused_with_a_suggestion(flawless: Say) -> None:
    """Exit code 64, and what was probably meant."""
    said = flawless("explain", "DB_REFUSE")
    assert (said.exit_code, said.out) == (64, "")
    assert "did you mean DB_REFUSED" in said.err
