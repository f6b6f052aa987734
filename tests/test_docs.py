"""What the documentation promises: a page for everything a reader can meet, and no command that does not exist."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from flawless.checks.catalog import CATALOG, Occasion
from flawless.cli import interruption
from flawless.cli.main import USAGE, VERBS, flawless
from flawless.core import errors, event
from flawless.core.pages import codes, page
from flawless.core.phase import Phase
from flawless.core.reason import Reason
from flawless.core.tunnel import TABLE
from flawless.manifest.outline import outline

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "flawless"
REASONS = SOURCE / "core" / "reasons.toml"
NO_COMMANDS = ("flawless migrate X", "flawless may not be created or changed")
"""What looks like a command and is none: a session's name on the database's side; a sentence about our schema."""


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), *sorted((ROOT / "stack").rglob("*.md"))]


def headings(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)


# --- every thing has its place ---------------------------------------------------------------------------------------


def test_every_reason_code_has_a_page_and_every_page_a_code() -> None:
    """The pages are those of the codes, in the order of the codes."""
    assert list(codes()) == [reason.value for reason in Reason]


@pytest.mark.parametrize("code", codes())
def test_a_page_leaves_nothing_out(code: str) -> None:
    """A page says what is wrong, why it matters, how it is found and what to do; its example is of its own code."""
    one = page(code)

    assert all(part.strip() for part in (one.title, one.meaning, one.found, one.example, *one.steps))
    assert one.steps
    assert one.title.endswith(".")
    assert one.example.startswith(f"{code}: ")
    assert one.before is None or one.before.strip()


def test_a_page_says_whether_waiting_can_help() -> None:
    """That comes from the code itself, as the gate reads it."""
    assert "Waiting can help" in page("DB_STARTING").patience
    assert "Waiting cannot help" in page("DB_AUTH").patience


def test_an_unknown_code_has_no_page() -> None:
    """A code that does not exist is refused, and not guessed."""
    with pytest.raises(KeyError):
        page("DB_REFUSE")


def test_every_reason_code_has_its_heading() -> None:
    """docs/reasons.md tells every code once."""
    found = [heading for heading in headings(DOCS / "reasons.md") if re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", heading)]

    assert found == [reason.value for reason in Reason]


def test_every_setting_has_its_row() -> None:
    """docs/settings.md tells every key of the manifest."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")

    assert [entry.name for entry in outline() if f"| `{entry.name}` |" not in text] == []


def test_every_check_has_its_heading() -> None:
    """docs/checks.md tells every check once, in the order of the catalog."""
    assert headings(DOCS / "checks.md")[1:] == [entry.id for entry in CATALOG]


def test_every_event_has_its_heading() -> None:
    """docs/events.md tells every event once."""
    assert set(headings(DOCS / "events.md")) - {"Events"} == {
        kind.name for kind in event.Event.__subclasses__() if kind.__module__ == event.__name__
    }


def test_every_verdict_on_a_tunnel_has_its_row() -> None:
    """docs/tunnel.md tells every verdict once, in the order in which they are tried."""
    text = (DOCS / "tunnel.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| ([^|]+) \|.*\|$", text, re.MULTILINE)[2:] == [row.verdict for row in TABLE]


def test_every_exit_code_has_its_heading() -> None:
    """docs/exit-codes.md tells every code that the command line ends with, and no other."""
    found = {int(heading) for heading in headings(DOCS / "exit-codes.md") if heading.isdigit()}

    assert found == {0, 2, USAGE} | set(exit_codes_of(errors.FlawlessError)) | signal_codes()


def exit_codes_of(kind: type[errors.FlawlessError]) -> Iterator[int]:
    yield kind.exit_code
    for below in kind.__subclasses__():
        yield from exit_codes_of(below)


def signal_codes() -> set[int]:
    return {128 + signal.Signals[name] for name in interruption._SIGNALS}


def test_the_runbook_names_every_phase() -> None:
    """The walk of a deploy is told from its first state to its last."""
    text = (DOCS / "DEPLOYMENT_FLAWLESS_RUNBOOK.md").read_text(encoding="utf-8")

    assert [phase for phase in Phase if f"`{phase}`" not in text] == []


# --- generated pages -------------------------------------------------------------------------------------------------


def docs_check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check", "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_generated_pages_are_up_to_date() -> None:
    """What is on disk is what the code says."""
    result = docs_check(ROOT)

    assert (result.returncode, result.stderr) == (0, "")


def test_a_page_that_was_changed_by_hand_is_shown(tmp_path: Path) -> None:
    """The check fails with the lines that differ."""
    shutil.copytree(DOCS, tmp_path / "docs")
    changed = tmp_path / "docs" / "reasons.md"
    changed.write_text(changed.read_text(encoding="utf-8").replace("## The database", "## Databases"), encoding="utf-8")

    result = docs_check(tmp_path)

    assert result.returncode == 1
    assert "-## Databases\n+## The database\n" in result.stderr


# --- links -----------------------------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link))


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(path)}


def leads_nowhere(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path
    return not target.exists() or bool(anchor and target.suffix == ".md" and anchor not in anchors(target))


def test_every_relative_link_leads_somewhere() -> None:
    """The file is there, and so is the heading."""
    broken = [f"{path.name}: {link}" for path in documents() for link in links(path) if leads_nowhere(path, link)]

    assert broken == []


# --- commands --------------------------------------------------------------------------------------------------------

COMMAND = re.compile(r"(?<![\w./-])flawless (?=[a-z-])")
END_OF_COMMAND = re.compile(r"&&|[;|\n()#]")
END_IN_SENTENCE = re.compile(r"&&|[;|\n()#,`\"']|: |\.$|\.\s")


def commands_in(text: str, end: re.Pattern[str] = END_IN_SENTENCE) -> Iterator[str]:
    """Each `flawless ...` in a text, up to where the shell or the sentence goes on."""
    for match in COMMAND.finditer(text):
        yield end.split(text[match.start() :], maxsplit=1)[0].strip()


def code_in(path: Path) -> Iterator[str]:
    """What a document shows as code."""
    text = path.read_text(encoding="utf-8")
    for fenced, inline in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, flags=re.DOTALL):
        yield fenced or inline


def literals(path: Path) -> Iterator[str]:
    """Every text of a module that is no docstring; what is filled in when running is an X."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        match node:
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.JoinedStr(values=values):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in values)
            case ast.Constant(value=str(text)):
                yield text
            case _:
                pending += ast.iter_child_nodes(node)


def shown_as_code() -> Iterator[tuple[str, str]]:
    """Every command in the documents and the reason pages, with the place."""
    for path in [*documents(), REASONS]:
        yield from ((path.name, command) for code in code_in(path) for command in commands_in(code, END_OF_COMMAND))


def said_in_sentences() -> Iterator[tuple[str, str]]:
    """Every command in the texts of the program, with the place."""
    for path in SOURCE.rglob("*.py"):
        for text in literals(path):
            for command in commands_in(text):
                if command not in NO_COMMANDS:
                    yield str(path.relative_to(ROOT)), command


def refusal(words: Sequence[str]) -> Exception | None:
    """Why the command line would not understand these words; nothing is run."""
    try:
        parse(flawless, "flawless", list(words))
    except click.exceptions.Exit:
        return None  # --help and --version end here
    except (click.ClickException, ImportError) as error:
        return error
    return None


def parse(command: click.Command, name: str, words: list[str]) -> None:
    context = command.make_context(name, words)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        found, below, words = command.resolve_command(context, rest)
        assert below is not None
        parse(below, str(found), words)


def refusal_of_sentence(words: list[str]) -> Exception | None:
    """The same, where the sentence may go on behind the command, or leave its arguments out."""
    verb = flawless.get_command(click.Context(flawless), words[0])
    least = 2 if isinstance(verb, click.Group) and len(words) > 1 else 1
    ends = [n for n in range(least, len(words)) if not any(word.startswith("-") for word in words[n:])]
    refusals = [refusal(words), *(refusal(words[:n]) for n in ends)]
    is_understood = any(why is None or isinstance(why, click.MissingParameter) for why in refusals)
    return None if is_understood else refusals[0]


def wrong_id(words: Sequence[str]) -> str | None:
    """Why `flawless check ID` would refuse the id."""
    asked = {entry.id for entry in CATALOG if Occasion.PREFLIGHT in entry.occasions}
    ids = [word.partition(":")[0] for word in words[1:] if "." in word and words[0] == "check"]
    return next((f"{one} is no preflight check" for one in ids if one not in asked), None)


def test_every_command_in_the_documents_exists() -> None:
    """What the documents and the reason pages tell people to paste parses, with its options and its check ids."""
    found = sorted({(place, tuple(shlex.split(command)[1:])) for place, command in shown_as_code()})
    refused = [(place, words, why) for place, words in found if (why := refusal(words) or wrong_id(words))]

    assert len(found) > 30
    assert refused == []


def test_every_command_in_a_next_step_exists() -> None:
    """No sentence of the program sends people to a command that does not exist."""
    found = sorted({(place, tuple(shlex.split(command)[1:])) for place, command in said_in_sentences()})
    refused = [
        (place, words, why) for place, words in found if (why := refusal_of_sentence(list(words)) or wrong_id(words))
    ]

    assert len(found) > 20
    assert refused == []


def test_every_verb_can_be_asked_for_help() -> None:
    """Every verb that `--help` lists is there."""
    assert [(verb, why) for verb in VERBS if (why := refusal([verb, "--help"]))] == []


@pytest.mark.parametrize(
    "text",
    [
        "then again: flawless deplyo",
        "flawless deploy --fast, or by hand",
        "see `flawless doctor`",
        "flawless incidents shwo ID",
        "flawless check database.tables",
    ],
)
def test_a_wrong_command_is_found(text: str) -> None:
    """The search above would find one."""
    [command] = commands_in(text)
    words = shlex.split(command)[1:]

    assert refusal_of_sentence(words) or wrong_id(words)
