"""flawless init writes a manifest that can be loaded, for what it finds, and overwrites nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.conftest import Say
from flawless.manifest import load

NODE = {"scripts": {"start": "node dist/server.js"}, "dependencies": {"express": "4"}}
NEXT = {"scripts": {"start": "next start"}, "dependencies": {"next": "15"}}
STACKS: Mapping[str, Mapping[str, str]] = {
    "node": {
        "package.json": json.dumps(NODE),
        "prisma/schema.prisma": 'datasource db {\n provider = "postgresql"\n}',
        ".env": "PORT=4000\nDATABASE_URL=postgresql://shop:a-long-password@localhost/shop\n",
    },
    "django": {
        "manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")',
        "requirements.txt": "django\ngunicorn\npsycopg2\n",
    },
    "fastapi": {
        "app/main.py": "app = FastAPI()\n",
        "alembic.ini": "[alembic]\n",
        "pyproject.toml": '[project]\ndependencies = ["fastapi", "uvicorn", "asyncpg"]\n',
    },
    "monorepo": {
        "package.json": json.dumps({"workspaces": ["backend", "frontend"]}),
        "backend/package.json": json.dumps(NODE | {"dependencies": {"fastify": "4", "pg": "8"}}),
        "frontend/package.json": json.dumps(NEXT),
    },
    "empty": {},
}


def made(project: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_written_can_be_loaded(flawless: Say, project: Path, stack: str) -> None:
    """Whatever is found, and nothing as well, the manifest is valid and its name is the folder's."""
    made(project, STACKS[stack])
    assert flawless("init").exit_code == 0
    assert load(project, environ={}).settings.name == "shop"
    assert flawless("config", "validate").exit_code == 0
    assert (project / ".env.example").is_file()


def services(project: Path) -> dict[str, tuple[str, str, int | None]]:
    found = load(project, environ={}).settings.services
    return {name: (str(one.role), one.directory, one.port) for name, one in found.items()}


def test_node_with_prisma(flawless: Say, project: Path) -> None:
    """The start script, the port of .env, the generated client and how it is built, the migrations."""
    made(project, STACKS["node"])
    flawless("init")
    settings = load(project, environ={}).settings
    assert services(project) == {"backend": ("backend", ".", 4000)}
    assert settings.services["backend"].command == ("npm", "run", "start")
    assert settings.artefacts["prisma-client"].build == ("npx", "prisma", "generate")
    assert settings.database is not None
    assert settings.database.migrate is not None
    assert settings.database.migrate.apply == ("npx", "prisma", "migrate", "deploy")


def test_django(flawless: Say, project: Path) -> None:
    """Gunicorn where it is asked for, on the port of the manifest; migrations without questions."""
    made(project, STACKS["django"])
    flawless("init")
    backend = load(project, environ={"PORT": "8123"}).settings.services["backend"]
    assert backend.command[1:] == ("-m", "gunicorn", "shop.wsgi", "--bind", "127.0.0.1:8123")
    assert backend.port == 8123


def test_fastapi_with_alembic(flawless: Say, project: Path) -> None:
    """The application is found by where it is made."""
    made(project, STACKS["fastapi"])
    flawless("init")
    settings = load(project, environ={}).settings
    assert settings.services["backend"].command[1:4] == ("-m", "uvicorn", "app.main:app")
    assert settings.database is not None
    assert settings.database.migrate is not None
    assert settings.database.migrate.tool == "alembic"


def test_a_monorepo_has_a_service_a_folder(flawless: Say, project: Path) -> None:
    """Roles by folder and framework, a port each, and the address of the frontend."""
    made(project, STACKS["monorepo"])
    flawless("init")
    assert services(project) == {"backend": ("backend", "backend", 3001), "frontend": ("frontend", "frontend", 3000)}
    assert load(project, environ={}).settings.base_url == "http://127.0.0.1:3000"


def test_another_kind_of_database_is_left_alone(flawless: Say, project: Path) -> None:
    """A project on SQLite gets no PostgreSQL, and is told why."""
    made(project, {"package.json": json.dumps(NODE), "prisma/schema.prisma": 'datasource db { provider = "sqlite" }'})
    said = flawless("init")
    assert "prisma uses sqlite" in said.out
    assert load(project, environ={}).settings.database is None


@pytest.mark.parametrize("words", [(), ("-y",), ("--json",)])
def test_nothing_is_ever_overwritten(flawless: Say, project: Path, words: tuple[str, ...]) -> None:
    """Exit code 1, and every file as it was; -y does not mean yes to that."""
    (project / "flawless.toml").write_text("mine")
    said = flawless("init", *words)
    assert said.exit_code == 1
    assert "never overwritten" in said.out + said.err
    assert (project / "flawless.toml").read_text() == "mine"
    assert not (project / ".env.example").exists()


def test_an_example_that_is_there_stays(flawless: Say, project: Path) -> None:
    """The manifest is written beside it, and that it was left is said."""
    (project / ".env.example").write_text("mine")
    assert "left .env.example as it is" in flawless("init").out
    assert (project / ".env.example").read_text() == "mine"


def test_no_value_of_a_secret_is_copied(flawless: Say, project: Path) -> None:
    """What stands in .env is read for ports; none of it is written anywhere."""
    made(project, STACKS["node"])
    flawless("init")
    assert "a-long-password" not in (project / "flawless.toml").read_text() + (project / ".env.example").read_text()


def test_the_document_says_what_was_written(flawless: Say, project: Path) -> None:
    """Files, services and notes, for whoever drives it."""
    made(project, STACKS["monorepo"])
    document = flawless("init", "--json").document
    assert [Path(path).name for path in document["written"]] == ["flawless.toml", ".env.example"]
    assert [one["name"] for one in document["services"]] == ["backend", "frontend"]
