"""flawless incidents: what went wrong, when, and how it ended."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click

from flawless.cli.options import Common, before_the_verb, common

if TYPE_CHECKING:
    from flawless.core.check import Failed
    from flawless.incidents import IncidentBook
    from flawless.incidents.book import Found
    from flawless.incidents.incident import Incident
    from flawless.incidents.known import Known

SCHEMA_VERSION: Final = 1
DRAIN_LIMIT: Final = 2.0
"""Seconds a command gives the outbox to reach the database."""


@click.group(name="incidents", invoke_without_command=True)
@before_the_verb
@click.pass_context
def command(context: click.Context) -> int | None:
    """What went wrong: open incidents, their stories, notes and ends. Without a verb: list."""
    if context.invoked_subcommand is not None:
        return None
    code: int = context.invoke(list_)
    return code


@command.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Those that are resolved, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@click.option("--before", metavar="ID", help="Goes on behind this incident, the last of the page before.")
@common
def list_(flags: Common, *, everything: bool, limit: int, before: str | None) -> int:
    """Incidents: the open ones first, the newest first."""
    return _run(flags, lambda book: _list(book, flags, limit, before, everything=everything))


@command.command(name="show")
@click.argument("id_", metavar="ID")
@common
def show(flags: Common, id_: str) -> int:
    """The whole story of an incident. The beginning of its id is enough where no other begins so."""
    return _run(flags, lambda book: _show(book, flags, id_))


@command.command(name="note")
@click.argument("id_", metavar="ID")
@click.argument("text")
@common
def note(flags: Common, id_: str, text: str) -> int:
    """Add a note to an incident."""
    return _run(flags, lambda book: _note(book, flags, id_, text))


@command.command(name="resolve")
@click.argument("id_", metavar="ID")
@click.option("--notes", required=True, help="What ended it.")
@common
def resolve(flags: Common, id_: str, notes: str) -> int:
    """End an incident. The same fault will open a new one, which says who ended this one."""
    return _run(flags, lambda book: _resolve(book, flags, id_, notes))


@command.command(name="export")
@common
def export(flags: Common) -> int:
    """Every incident with its events, the oldest first, each a JSON line; with --json, one document."""
    return _run(flags, lambda book: _export(book, flags))


def _run(flags: Common, verb: Callable[[IncidentBook], Awaitable[None]]) -> int:
    from flawless.wiring import Stack

    stack = Stack.load(flags.config, flags.environment)
    stack.ensure_ours()  # each of these verbs empties the outbox on its way
    book = stack.incidents

    async def run() -> None:
        await verb(book)

    asyncio.run(run())
    return 0


async def _list(book: IncidentBook, flags: Common, limit: int, before: str | None, *, everything: bool) -> None:
    from flawless.incidents.reading import Query

    await book.drain(DRAIN_LIMIT)
    behind = (await book.find(before)).id if before else None
    async with book.opened() as opened:
        page = await opened.store.page(Query(limit + 1, resolved=everything, before=behind))
    away = book.open_in_database() if opened.because is not None else []
    _say_source(book, opened.because)
    following = str(page[limit - 1].id) if len(page) > limit else None
    if flags.json:
        listed = {
            "incidents": [incident.to_json() for incident in page[:limit]],
            "next": following,
            "open_in_database": [_known_to_json(known) for known in away],
        }
        _write(_document(book, opened.because, waiting=book.waiting(), **listed))
    else:
        _write_page(flags, page[:limit], away, following, everything=everything)


async def _show(book: IncidentBook, flags: Common, id_: str) -> None:
    await book.drain(DRAIN_LIMIT)
    story, because = await book.story(id_)
    _say_source(book, because)
    if flags.json:
        _write(_document(book, because, waiting=book.waiting(), incident=story.to_json()))
        return
    from flawless.cli.incident_lines import story_lines
    from flawless.cli.page import result

    page = result(flags)
    page.write(*story_lines(story, page.width))


async def _note(book: IncidentBook, flags: Common, id_: str, text: str) -> None:
    from flawless.incidents.incident import EventType

    found = await _found(book, id_)
    book.tell(found.id, EventType.NOTE, text, {"by": _user()})
    await _say_written(book, flags, found, "noted")


async def _resolve(book: IncidentBook, flags: Common, id_: str, notes: str) -> None:
    found = await _found(book, id_)
    book.resolve(found.id, notes, by=_user())
    ended = found.resolved_at
    done = f"had been resolved already on {ended:%Y-%m-%d %H:%M:%SZ}; what you wrote is noted" if ended else "resolved"
    await _say_written(book, flags, found, done)


async def _export(book: IncidentBook, flags: Common) -> None:
    await book.drain(DRAIN_LIMIT)
    stories = []
    async for story in book.export():
        if flags.json:
            stories.append(story.to_json())
        else:
            sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **story.to_json()}) + "\n")
    if flags.json:
        _write(_document(book, book.unavailable, waiting=book.waiting(), incidents=stories))
    else:
        _say_source(book, book.unavailable)


async def _found(book: IncidentBook, id_: str) -> Found:
    await book.drain(DRAIN_LIMIT)
    return await book.find(id_)


async def _say_written(book: IncidentBook, flags: Common, found: Found, done: str) -> None:
    left = await book.drain(DRAIN_LIMIT)
    if flags.json:
        because = book.unavailable if left else None
        _write(_document(book, because, waiting=left, id=str(found.id), result=done))
        return
    sys.stdout.write(f"{found.id}: {done}\n")
    if left:
        sys.stderr.write(f"it waits in the outbox, with {left - 1} more, until the database answers\n")


def _known_to_json(known: Known) -> dict[str, Any]:
    return {"id": str(known.id), "severity": known.severity, "deploy_id": known.deploy_id}


def _write_page(
    flags: Common, incidents: list[Incident], away: list[Known], following: str | None, *, everything: bool
) -> None:
    from flawless.cli.incident_lines import page_lines
    from flawless.cli.page import Span, result

    page = result(flags)
    page.write(*page_lines(incidents, page.width))
    for known in away:
        page.say(f"{known.severity:<10}open, and its story is in the database  ", Span(str(known.id), "dim"))
    if not incidents and not away:
        page.say("no incidents" if everything else "no open incidents (those resolved: flawless incidents list --all)")
    elif following:
        page.say(f"more: flawless incidents list {'--all ' if everything else ''}--before {following}")


def _say_source(book: IncidentBook, because: Failed | None) -> None:
    if because is not None:
        from flawless.core.plain import printable

        why = f"{because.reason}: {because.cause}" if book.is_declared else "no database is declared"
        sys.stderr.write(printable(f"{why}; what follows is from the outbox alone") + "\n")


def _document(book: IncidentBook, because: Failed | None, **more: Any) -> dict[str, Any]:
    """Without a database in the manifest the outbox is where incidents are, and that is no failure."""
    failed = because if book.is_declared else None
    why = {"code": failed.reason, "cause": failed.cause, "next_steps": failed.next_steps} if failed else None
    source = "database" if because is None else "outbox"
    return {"schema_version": SCHEMA_VERSION, "source": source, "because": why, **more}


def _write(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _user() -> str:
    """The login name; a user without an entry in the account database has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "a person"
