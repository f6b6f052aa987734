"""The catalog and the checks are the same list."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from flawless import checks
from flawless.adapters import supervision
from flawless.adapters.sockets import SystemSockets, is_free
from flawless.checks.catalog import CATALOG, Occasion, Surroundings, artefacts, preflight
from flawless.checks.ports import World
from flawless.checks.routing import OBSERVATIONS
from flawless.core.check import Outcome, Passed, Skipped
from flawless.core.connector import Connector
from support.connectors import OTHER, TOKEN, TUNNEL
from support.manifests import manifest_in

EVERYTHING = """
[env]
require = ["A"]
[paths]
writable = ["storage", "logs", "storage/*"]
[public]
ca_file = "authorities.pem"
[database]
url = "embedded"
[database.migrate]
tool = "command"
apply = ["make", "migrate"]
pending = ["sh", "-c", "true"]
[artefacts.client]
path = "out.js"
build = ["npx", "prisma", "generate"]
[services.backend]
role = "backend"
command = ["node", "server.js"]
port = 3001
ready = [{ exec = ["/usr/bin/curl", "-f"] }]
[services.frontend]
role = "frontend"
command = ["/opt/node", "server.js"]
port = 3000
[services.worker]
role = "worker"
command = ["node", "worker.js"]
[tunnel]
hostname = "app.example.org"
"""
pytestmark = pytest.mark.anyio

ID = re.compile(r"[a-z]+\.[a-z]+(:.+)?")
ANSWERED_BY_A_STEP = {"migrations.applied"}
"""The step that applies migrations answers for them: asking and applying are one act under one lock."""


async def no_pids() -> Mapping[str, frozenset[int]]:
    return {}


def surroundings(root: Path) -> Surroundings:
    world = World(SystemSockets(), is_free, no_pids, supervision.supervision_of, supervision.stack_of)
    return Surroundings(world, lambda program, directory, path: Path(program), (root / "logs", root / ".flawless"))


_IDS = (
    r"^    id = '([a-z.]+)'|return f'([a-z]+\.[a-z]+)[:{]|return '([a-z]+\.[a-z]+)' if [\w.]+ else '([a-z]+\.[a-z]+)'"
)


def check_classes() -> dict[str, set[str]]:
    """Every class of flawless.checks that can be asked, with the first parts of its ids as its source writes them."""
    found = {}
    for module in sorted(Path(checks.__file__).parent.rglob("*.py")):
        for node in ast.parse(module.read_text()).body:
            names = {getattr(one, "name", "") for one in node.body} if isinstance(node, ast.ClassDef) else set()
            if isinstance(node, ast.ClassDef) and "ask" in names and not any(_is_protocol(base) for base in node.bases):
                text = ast.unparse(node)
                heads = {one for groups in re.findall(_IDS, text, re.MULTILINE) for one in groups if one}
                assert heads, node.name
                place = module.relative_to(Path(checks.__file__).parent).with_suffix("")
                found[f"{'.'.join(place.parts)}.{node.name}"] = heads
    return found


def _is_protocol(base: ast.expr) -> bool:
    return isinstance(base, ast.Name) and base.id == "Protocol"


def test_every_check_has_an_entry_and_every_entry_a_check() -> None:
    """No check is missing from the list, and nothing is listed that nobody asks."""
    classes = check_classes()
    observed = {id_ for id_, _ in OBSERVATIONS.values()}
    asked = {head for heads in classes.values() for head in heads}
    assert asked | ANSWERED_BY_A_STEP | observed == {entry.id for entry in CATALOG}
    for name in classes:
        module, _, kind = name.rpartition(".")
        assert hasattr(getattr(importlib.import_module(f"flawless.checks.{module}"), kind), "claim")


def test_entries_are_complete() -> None:
    """Each entry has an id of its own, a claim, an explanation and an occasion."""
    assert len({entry.id for entry in CATALOG}) == len(CATALOG)
    for entry in CATALOG:
        assert ID.fullmatch(entry.id)
        assert entry.occasions
        assert entry.claim.strip(".") == entry.claim
        assert entry.doc.endswith(".")


def test_preflight_asks_in_catalog_order(tmp_path: Path) -> None:
    """Whichever the manifest, the checks come in the catalog's order, each with an id of its own."""
    manifest = manifest_in(tmp_path, EVERYTHING)
    asked = [*preflight(manifest, surroundings(tmp_path)), *artefacts(manifest).values()]
    ids = [check.id for check in asked]
    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(one) for one in ids)
    order = [entry.id for entry in CATALOG if Occasion.PREFLIGHT in entry.occasions]
    heads = [one.partition(":")[0] for one in ids]
    assert heads == sorted(heads, key=order.index)
    assert set(heads) == set(order)


def test_what_is_asked_of_a_manifest(tmp_path: Path) -> None:
    """Every port, every folder once, every program once however many want it."""
    ids = [check.id for check in preflight(manifest_in(tmp_path, EVERYTHING), surroundings(tmp_path))]
    assert [one for one in ids if not one.startswith("env.")] == [
        *("port.free:backend", "port.free:frontend"),
        *("disk.writable:storage", "disk.writable:logs", "disk.writable:storage/*", "disk.writable:.flawless"),
        *("tool.installed:node", "tool.installed:curl", "tool.installed:make", "tool.installed:sh"),
        *("tool.installed:cloudflared", "tool.installed:npx"),
        "tunnel.configured",
        "public.authorities",
    ]


def test_claims_are_sentences(tmp_path: Path) -> None:
    """Every check says what holds when it passes, and none of the preflight ones is optional."""
    manifest = manifest_in(tmp_path, EVERYTHING)
    for check in [*preflight(manifest, surroundings(tmp_path)), *artefacts(manifest).values()]:
        assert check.claim
        assert not check.optional


async def test_a_tunnel_that_runs_needs_no_program(tmp_path: Path) -> None:
    """A cloudflared that somebody else runs is verified, not started: nobody misses the program here."""
    other = Connector(1, 0.0, "root", ("cloudflared", "tunnel", "run"))
    around = replace(surroundings(tmp_path), connectors=lambda: [other])
    checks = preflight(manifest_in(tmp_path, EVERYTHING), around)
    [tool] = [one for one in checks if one.id == "tool.installed:cloudflared"]
    outcome = await tool.ask(1)
    assert isinstance(outcome, Skipped)
    assert "pid 1 " in outcome.because


async def test_the_tunnel_of_another_stack_does_not_replace_a_missing_program(tmp_path: Path) -> None:
    """What runs on the same machine for somebody else's name is of no use here: the program is looked for."""
    text = f'[tunnel]\nhostname = "app.example.org"\ncommand = ["cloudflared-of-nobody"]\ntoken = "{TOKEN}"\n'
    others = {
        tunnel: Connector(1, 0.0, "root", ("cloudflared",), tunnel=tunnel) for tunnel in (OTHER, TUNNEL, "a-name")
    }

    async def asked(tunnel: str) -> Outcome:
        around = replace(surroundings(tmp_path), connectors=lambda: [others[tunnel]])
        checks = preflight(manifest_in(tmp_path, text), around)
        return await next(one for one in checks if one.id == "tool.installed:cloudflared-of-nobody").ask(1)

    assert isinstance(await asked(OTHER), Passed), "it was looked for"
    assert isinstance(await asked(TUNNEL), Skipped)
    assert isinstance(await asked("a-name"), Skipped)
