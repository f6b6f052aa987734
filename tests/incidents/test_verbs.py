"""flawless incidents, as a person and a program see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flawless.cli.main import run
from flawless.incidents import IncidentBook
from flawless.wiring import Stack
from incidents.conftest import failure

Said = tuple[int, str, str]
Tell = Callable[..., Said]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Runs a command line in the stack's folder: its exit code, what it printed and what it said beside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLAWLESS_JSON", raising=False)

    def told(*arguments: str) -> Said:
        code = run(["incidents", *arguments])
        return (code, *capsys.readouterr())

    return told


def stack_at(url: str, folder: Path) -> IncidentBook:
    (folder / "flawless.toml").write_text(f'name = "shop"\n[database]\nurl = "{url}"\n')
    return Stack.load(folder / "flawless.toml", None).incidents


@pytest.fixture
def book(migrated_url: str, tmp_path: Path) -> IncidentBook:
    """Of a stack whose database is there."""
    return stack_at(migrated_url, tmp_path)


@pytest.fixture
def lonely_book(refused_url: str, tmp_path: Path) -> IncidentBook:
    """Of a stack whose database is not."""
    return stack_at(refused_url, tmp_path)


def opened(book: IncidentBook, **more: Any) -> str:
    id_ = book.open_for(failure(**more), "20261123T141502Z-3f9c2a")
    assert id_ is not None
    return id_


def test_the_list_has_the_open_ones_and_says_when_there_are_none(book: IncidentBook, tell: Tell) -> None:
    """`flawless incidents` alone is the list."""
    assert tell() == (0, "no open incidents (those resolved: flawless incidents list --all)\n", "")
    first, second = opened(book), opened(book, code="SERVICE_EXITED", cause="backend exited with status 3")
    code, out, err = tell("list")
    assert (code, err) == (0, "")
    assert out.index(second) < out.index(first)
    assert "CRITICAL" in out
    assert "nothing accepts connections at 127.0.0.1:5432" in out
    assert tell("resolve", first, "--notes", "started it")[0] == 0
    assert first not in tell("list")[1]
    assert first in tell("list", "--all")[1]


def test_pages_follow_one_another(book: IncidentBook, tell: Tell) -> None:
    """The line at the end of a page is the command for the next one."""
    ids = [opened(book, cause=f"service {name} exited") for name in "abc"]
    document = json.loads(tell("list", "--limit", "2", "--json")[1])
    assert [incident["id"] for incident in document["incidents"]] == [ids[2], ids[1]]
    assert document["next"] == ids[1]
    assert tell("list", "--limit", "2")[1].endswith(f"more: flawless incidents list --before {ids[1]}\n")
    assert [incident["id"] for incident in json.loads(tell("--json", "list", "--before", ids[1])[1])["incidents"]] == [
        ids[0]
    ]


def test_the_story_has_events_and_next_steps(book: IncidentBook, tell: Tell) -> None:
    """By the beginning of its id; notes with who wrote them; the next steps last."""
    id_ = opened(book)
    assert tell("note", id_, "looked at the log:\nnothing there") == (0, f"{id_}: noted\n", "")
    code, out, _ = tell("show", id_[:-3])
    assert code == 0
    for expected in ("DB_REFUSED", "flawless explain DB_REFUSED", "20261123T141502Z-3f9c2a", "ECONNREFUSED", "NOTE"):
        assert expected in out
    assert "nothing there (by " in out
    assert out.splitlines()[-2:] == [
        "  1. start PostgreSQL",
        f"  2. when it is mended: flawless incidents resolve {id_} --notes TEXT",
    ]


def test_the_story_as_json(book: IncidentBook, tell: Tell) -> None:
    """One document with the fields of CONTRACTS 8."""
    id_ = opened(book)
    document = json.loads(tell("show", id_, "--json")[1])
    assert (document["schema_version"], document["source"], document["because"], document["waiting"]) == (
        1,
        "database",
        None,
        0,
    )
    incident = document["incident"]
    assert incident.keys() == {
        *("id", "created_at", "updated_at", "severity", "category", "summary", "details", "fingerprint"),
        *("occurrences", "caused_by", "deploy_id", "next_steps", "resolved_at", "resolution_notes"),
        *("events", "consequences"),
    }
    assert incident["events"][0].keys() == {"id", "incident_id", "created_at", "event_type", "message", "metadata"}
    assert incident["created_at"].endswith("Z")


def test_an_id_that_is_none_is_wrong_use(book: IncidentBook, tell: Tell) -> None:
    """Exit code 64, the reason, and the command that shows the ids; also when notes are missing."""
    for arguments in (("show", "ffff"), ("note", "ffff", "text"), ("resolve", "zzz", "--notes", "x")):
        code, out, err = tell(*arguments)
        assert (code, out) == (64, "")
        assert "CONFIG_USAGE" in err
        assert "flawless incidents list --all" in err
    assert tell("resolve", "ffff")[0] == 64


def test_resolving_twice_is_said_and_noted(book: IncidentBook, tell: Tell) -> None:
    """The first end stays."""
    id_ = opened(book)
    assert tell("resolve", id_, "--notes", "mended") == (0, f"{id_}: resolved\n", "")
    code, out, _ = tell("resolve", id_, "--notes", "mended again")
    assert code == 0
    assert "had been resolved already" in out
    assert "mended again" in tell("show", id_)[1]
    assert book.counts() == {"open": 0, "critical": 0}


def test_with_the_database_down_the_outbox_answers_and_says_so(lonely_book: IncidentBook, tell: Tell) -> None:
    """List, show, note and resolve work; what cannot be known is not said to be absent."""
    id_ = opened(lonely_book)
    for arguments in (("list",), ("show", id_)):
        code, out, err = tell(*arguments)
        assert code == 0
        assert id_ in out
        assert err.startswith("DB_REFUSED: ")
        assert err.endswith("what follows is from the outbox alone\n")
    assert tell("note", id_, "looking")[2] == "it waits in the outbox, with 1 more, until the database answers\n"
    code, out, err = tell("show", "ffff")
    assert (code, out) == (1, "")
    assert "DB_REFUSED" in err
    assert "flawless incidents list" in err
    document = json.loads(tell("resolve", id_, "--notes", "mended", "--json")[1])
    assert (document["result"], document["source"], document["waiting"]) == ("resolved", "outbox", 3)
    assert document["because"]["code"] == "DB_REFUSED"
    assert json.loads(tell("list", "--json")[1])["incidents"] == []


def test_what_only_the_database_has_can_be_ended_without_it(
    book: IncidentBook, tell: Tell, refused_url: str, migrated_url: str, tmp_path: Path
) -> None:
    """Known here to be open, its story in a database that is down: note and resolve go to the outbox, list names it,
    show says where it is and what tells of it meanwhile; all of it arrives when the database is back.
    """
    id_ = opened(book)
    asyncio.run(book.drain(2.0))
    stack_at(refused_url, tmp_path)

    code, out, _ = tell("list")
    assert (code, id_ in out, "its story is in the database" in out) == (0, True, True)
    [known] = json.loads(tell("list", "--json")[1])["open_in_database"]
    assert known == {"id": id_, "severity": "CRITICAL", "deploy_id": "20261123T141502Z-3f9c2a"}
    code, out, err = tell("show", id_[:-2])
    assert (code, out) == (1, "")
    assert "DB_REFUSED: the story of " in err
    assert "is not in the outbox, and the database is down: nothing accepts connections at" in err
    assert "next: the report of its deploy: flawless reports show 20261123T141502Z-3f9c2a\n" in err
    assert tell("note", id_[:-2], "looking")[:2] == (0, f"{id_}: noted\n")
    assert tell("resolve", id_, "--notes", "mended")[:2] == (0, f"{id_}: resolved\n")
    assert json.loads(tell("list", "--json")[1])["open_in_database"] == []

    stack_at(migrated_url, tmp_path)
    story = json.loads(tell("show", id_, "--json")[1])["incident"]
    assert [event["event_type"] for event in story["events"]] == ["DETECTED", "NOTE", "RESOLVED"]


def test_the_beginning_of_two_ids_is_refused_wherever_the_two_are(
    book: IncidentBook, tell: Tell, refused_url: str, tmp_path: Path
) -> None:
    """One in the outbox and one that only the database has: which is meant is not guessed."""
    ids = [opened(book)]
    asyncio.run(book.drain(2.0))
    ids.append(opened(stack_at(refused_url, tmp_path), code="SERVICE_EXITED", cause="backend exited"))
    code, _, err = tell("resolve", ids[0][:6], "--notes", "mended")
    assert code == 64
    assert all(id_ in err for id_ in ids)


def test_without_a_database_in_the_manifest_an_unknown_id_is_wrong_use(tell: Tell, tmp_path: Path) -> None:
    """The outbox is where incidents are then; nobody is sent to a database that is not there."""
    (tmp_path / "flawless.toml").write_text('name = "shop"\n')
    for arguments in (("show", "ffff"), ("note", "ffff", "text"), ("resolve", "ffff", "--notes", "x")):
        code, out, err = tell(*arguments)
        assert (code, out) == (64, "")
        assert "DB_" not in err


def test_export_is_a_line_an_incident(book: IncidentBook, tell: Tell) -> None:
    """Each whole, with its events; with --json one document."""
    ids = [opened(book, cause=f"service {name} exited") for name in "abc"]
    lines = [json.loads(line) for line in tell("export")[1].splitlines()]
    assert [line["id"] for line in lines] == ids
    assert {line["schema_version"] for line in lines} == {1}
    assert all(line["events"] for line in lines)
    assert [incident["id"] for incident in json.loads(tell("export", "--json")[1])["incidents"]] == ids


def test_text_is_harmless_and_fits(book: IncidentBook, tell: Tell) -> None:
    """No control byte of a service reaches the terminal; at most 120 columns."""
    nasty = "\x1b[2J\x1b]0;title\x07 \u202e \x00 <script> " + "a" * 300
    id_ = opened(book, cause=f"backend said {nasty}")
    tell("note", id_, nasty)
    for arguments in (("list",), ("show", id_)):
        _, out, _ = tell(*arguments)
        assert "a" * 30 in out
        assert not set(out) & {"\x1b", "\x07", "\u202e", "\0", "\r"}
        assert max(map(len, out.splitlines())) <= 120


def test_a_story_tells_cause_and_consequence(book: IncidentBook, tell: Tell) -> None:
    """Found together: the lost database, and the service that is unhealthy because of it."""
    from flawless.incidents.rules import opening_of

    openings = [opening_of(failure(code), stack="shop") for code in ("SERVICE_UNHEALTHY", "DB_LOST")]
    consequence, cause = book.open_together(openings)
    asyncio.run(book.drain(2.0))
    assert f"caused by    {cause}" in tell("show", str(consequence))[1]
    assert f"consequences {consequence}" in tell("show", str(cause))[1]
