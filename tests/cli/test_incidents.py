"""flawless incidents in a stack whose manifest has no database."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Say


@pytest.mark.parametrize("verb", ["list", "export"])
def test_a_stack_without_a_database_keeps_its_incidents_in_the_outbox(flawless: Say, project: Path, verb: str) -> None:
    """That is no failure: no code, and nothing that would have to be mended."""
    (project / "flawless.toml").write_text('name = "shop"\n')
    (project / ".flawless/outbox").mkdir(parents=True)
    said = flawless("incidents", verb)
    assert (said.exit_code, said.err) == (0, "no database is declared; what follows is from the outbox alone\n")
    document = flawless("incidents", verb, "--json").document
    assert (document["source"], document["because"]) == ("outbox", None)
