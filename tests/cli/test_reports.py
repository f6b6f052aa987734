"""flawless reports lists earlier deploys, and shows one as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Say
from support.histories import FAILING, GOOD
from support.reports import archived

FIRST, SECOND, THIRD = "20261123T140000Z-aaaaaa", "20261123T140100Z-bbbbbb", "20261124T100000Z-cccccc"


@pytest.fixture(autouse=True)
def project_with_manifest(project: Path) -> None:
    (project / "flawless.toml").write_text('name = "shop"\n')


def test_the_newest_stands_first(flawless: Say, project: Path) -> None:
    """A line a deploy: when, which, how it ended, why."""
    archived(project, FAILING, FIRST, 1)
    archived(project, GOOD, SECOND, 2)
    newest, oldest = flawless("reports").out.splitlines()
    assert (SECOND in newest, "success" in newest, "exit 0" in newest) == (True, True, True)
    assert (FIRST in oldest, "SERVICE_EXITED: backend exited" in oldest, "exit 1" in oldest) == (True, True, True)
    assert flawless("reports", "list").out.splitlines() == [newest, oldest]


def test_no_report_is_no_error(flawless: Say) -> None:
    """Before the first deploy the list is empty, and says what writes a report."""
    assert "flawless deploy" in flawless("reports").out
    assert flawless("reports", "--json").document["reports"] == []
    assert "or the reports in logs were removed" in flawless("reports", "show", "last").err


def test_a_report_is_shown_as_it_was_written(flawless: Say, project: Path) -> None:
    """The text file beside it; where that is gone it is built anew and says the same."""
    archived(project, FAILING, FIRST)
    shown = flawless("reports", "show", FIRST).out
    assert "SERVICE_EXITED in BACKEND_READY_GATE: backend exited with status 1" in shown
    next((project / "logs").glob("*.txt")).unlink()
    assert flawless("reports", "show", FIRST).out == shown


def test_the_document_is_the_report_itself(flawless: Say, project: Path) -> None:
    """`--json` gives what the deploy wrote."""
    report = archived(project, GOOD, FIRST)
    assert flawless("reports", "show", "last", "--json").document == report


def test_the_beginning_of_an_id_is_enough(flawless: Say, project: Path) -> None:
    """As long as it means one report; `last` means the newest."""
    for minute, id_ in enumerate((FIRST, SECOND, THIRD)):
        archived(project, GOOD, id_, minute)
    assert THIRD in flawless("reports", "show", "20261124").out
    assert THIRD in flawless("reports", "show", "last").out
    ambiguous = flawless("reports", "show", "20261123")
    assert ambiguous.exit_code == 64
    assert f"there are: {SECOND}, {FIRST}" in ambiguous.err


def test_an_unknown_id_is_refused_with_those_there_are(flawless: Say, project: Path) -> None:
    """Exit code 64, and the newest ids."""
    assert flawless("reports", "show", "last").exit_code == 64
    archived(project, GOOD, FIRST)
    said = flawless("reports", "show", "nothing")
    assert (said.exit_code, said.out) == (64, "")
    assert FIRST in said.err


def test_a_file_that_holds_no_report_is_named_and_passed_over(flawless: Say, project: Path) -> None:
    """One torn file does not hide the others."""
    archived(project, GOOD, FIRST)
    (project / "logs/deploy-report-20261123T150000000Z.json").write_text("{")
    said = flawless("reports")
    assert FIRST in said.out
    assert "deploy-report-20261123T150000000Z.json holds no report" in said.err
