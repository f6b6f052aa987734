"""What stack a folder holds, told from the files that frameworks and migration tools leave there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

_NESTS: Final = ("apps", "packages", "services")
_SKIPPED: Final = {
    "node_modules",
    "dist",
    "build",
    "venv",
    "env",
    "target",
    "vendor",
    "logs",
    "tests",
    "docs",
    "scripts",
}
_FRONTENDS: Final = (
    "next",
    "nuxt",
    "astro",
    "vite",
    "react-scripts",
    "@angular/core",
    "@sveltejs/kit",
    "@remix-run/node",
)
_BACKENDS: Final = ("express", "fastify", "koa", "hono", "@nestjs/core", "@hapi/hapi")
_FRONTEND_FOLDERS: Final = {"frontend", "web", "client", "ui", "site", "www"}
_WORKER_FOLDERS: Final = {"worker", "workers", "jobs", "queue"}
_POSTGRES: Final = re.compile(r"\b(asyncpg|psycopg2?(-binary)?|pg8000)\b")
_ASGI: Final = re.compile(r"^(\w+)\s*(?::[^=]+)?=\s*(FastAPI|Starlette|Litestar|Quart)\(", re.MULTILINE)
_WSGI: Final = re.compile(r"^(\w+)\s*=\s*Flask\(", re.MULTILINE)
_ASGI_FILES: Final = ("main.py", "app.py", "*/main.py", "*/app.py", "src/*/main.py", "src/*/app.py", "*/asgi.py")
_ASSIGNMENT: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$", re.MULTILINE)
_PORTS: Final = {"frontend": 3000, "backend": 3001}


@dataclass(frozen=True, slots=True)
class Migrations:
    """How the application's own migrations are applied; `apply` only where Flawless has no tool of that name."""

    tool: str
    directory: str
    apply: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A process found. `port` is None for a worker; `{port}` in the command stands for it."""

    name: str
    role: str
    directory: str
    command: tuple[str, ...]
    port: int | None
    variable: str = "PORT"


@dataclass(frozen=True, slots=True)
class Found:
    """A whole stack. `notes`: what was seen and could not be used."""

    name: str
    services: Sequence[Service] = ()
    migrations: Migrations | None = None
    prisma: str | None = None
    uses_postgres: bool = False
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Part:
    """What one folder holds."""

    service: Service | None = None
    migrations: Migrations | None = None
    prisma: str | None = None
    uses_postgres: bool = False
    notes: list[str] = field(default_factory=list)


def discover(root: Path) -> Found:
    """Looks at the folder, at those in it, and at those in apps, packages and services."""
    parts = [_part(root, folder) for folder in _folders(root)]
    variables = read_variables(root / ".env") | read_variables(root / ".env.local")
    migrations = next((part.migrations for part in parts if part.migrations), None)
    address = variables.get("DATABASE_URL", "")
    postgres = any(part.uses_postgres for part in parts) or address.startswith("postgres")
    return Found(
        name=_slug(root.name),
        services=_named([part.service for part in parts if part.service], variables),
        migrations=migrations,
        prisma=next((part.prisma for part in parts if part.prisma), None),
        # What another kind of database is for is not ours to guess.
        uses_postgres=postgres and (not address or address.startswith("postgres")),
        notes=[note for part in parts for note in part.notes],
    )


def read_variables(path: Path) -> dict[str, str]:
    """NAME=value lines, as far as a first look needs them; none where there is no file."""
    return {name: value.strip("\"'") for name, value in _ASSIGNMENT.findall(_text(path))}


def _folders(root: Path) -> Iterator[Path]:
    yield root
    for folder in _below(root):
        yield folder
        if folder.name in _NESTS:
            yield from _below(folder)


def _below(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return [path for path in inside if path.name not in _SKIPPED and not path.name.startswith(".")]


def _part(root: Path, folder: Path) -> _Part:
    directory = folder.relative_to(root).as_posix()
    part = _Part()
    if (folder / "package.json").is_file():
        _read_node(part, folder, directory)
    if any((folder / name).is_file() for name in ("pyproject.toml", "requirements.txt", "manage.py")):
        _read_python(part, folder, directory)
    if (folder / "alembic.ini").is_file():
        part.migrations = Migrations("alembic", directory)
        part.uses_postgres = True
    schema = folder / "prisma" / "schema.prisma"
    if schema.is_file():
        _read_prisma(part, schema, directory)
    return part


def _read_node(part: _Part, folder: Path, directory: str) -> None:
    package = _json(folder / "package.json")
    scripts, needs = (
        _table(package, "scripts"),
        {**_table(package, "devDependencies"), **_table(package, "dependencies")},
    )
    part.uses_postgres |= "pg" in needs or "postgres" in needs
    if "workspaces" in package or (folder / "pnpm-workspace.yaml").is_file():
        return
    role = _node_role(folder.name, needs)
    command = _node_command(folder, scripts, package)
    if role is None and command is None:
        return
    if command is None:
        part.notes.append(f"{directory}/package.json has no `start` script: how is it served?")
        return
    port = None if role == "worker" else _PORTS[role or "backend"]
    part.service = Service("", role or "backend", directory, command, port)


def _node_role(folder: str, needs: Mapping[str, Any]) -> str | None:
    if folder in _WORKER_FOLDERS:
        return "worker"
    if folder in _FRONTEND_FOLDERS or any(name in needs for name in _FRONTENDS):
        return "frontend"
    return "backend" if any(name in needs for name in _BACKENDS) else None


def _node_command(folder: Path, scripts: Mapping[str, Any], package: Mapping[str, Any]) -> tuple[str, ...] | None:
    tool = "pnpm" if (folder / "pnpm-lock.yaml").is_file() else "yarn" if (folder / "yarn.lock").is_file() else "npm"
    script = next((name for name in ("start", "serve", "preview") if name in scripts), None)
    if script is not None:
        return (tool, "run", script)
    main = package.get("main")
    return ("node", main) if isinstance(main, str) and (folder / main).is_file() else None


def _read_python(part: _Part, folder: Path, directory: str) -> None:
    needs = _text(folder / "pyproject.toml") + _text(folder / "requirements.txt")
    python = ".venv/bin/python" if (folder / ".venv/bin/python").exists() else "python3"
    part.uses_postgres |= bool(_POSTGRES.search(needs))
    if (folder / "manage.py").is_file():
        part.migrations = Migrations("command", directory, (python, "manage.py", "migrate", "--noinput"))
        part.service = Service("", "backend", directory, _django_command(folder, python, needs), 8000)
        return
    command = _asgi_command(folder, python) or _flask_command(folder, python)
    if command is not None:
        part.service = Service("", "backend", directory, command, 8000)


def _django_command(folder: Path, python: str, needs: str) -> tuple[str, ...]:
    settings = re.search(r"DJANGO_SETTINGS_MODULE[\"'],\s*[\"']([\w.]+)\.settings", _text(folder / "manage.py"))
    if "gunicorn" in needs and settings:
        return (python, "-m", "gunicorn", f"{settings[1]}.wsgi", "--bind", "127.0.0.1:{port}")
    return (python, "manage.py", "runserver", "127.0.0.1:{port}", "--noreload")


def _asgi_command(folder: Path, python: str) -> tuple[str, ...] | None:
    application = _application(folder, _ASGI)
    if application is None:
        return None
    return (python, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", "{port}")


def _flask_command(folder: Path, python: str) -> tuple[str, ...] | None:
    application = _application(folder, _WSGI)
    if application is None:
        return None
    return (python, "-m", "flask", "--app", application, "run", "--host", "127.0.0.1", "--port", "{port}")


def _application(folder: Path, made: re.Pattern[str]) -> str | None:
    """`package.module:name` of the first application that is made in one of the usual files."""
    for pattern in _ASGI_FILES:
        for path in sorted(folder.glob(pattern)):
            match = made.search(_text(path))
            if match and not _SKIPPED & set(path.relative_to(folder).parts):
                return f"{'.'.join(path.relative_to(folder).with_suffix('').parts)}:{match[1]}"
    return None


def _read_prisma(part: _Part, schema: Path, directory: str) -> None:
    provider = re.search(r"provider\s*=\s*\"(postgres\w*|mysql|sqlite|sqlserver|mongodb|cockroachdb)\"", _text(schema))
    part.prisma = directory
    if provider and not provider[1].startswith("postgres"):
        part.notes.append(f"prisma uses {provider[1]}: Flawless looks after PostgreSQL only")
        return
    part.uses_postgres = True
    part.migrations = Migrations("command", directory, ("npx", "prisma", "migrate", "deploy"))


def _named(services: Sequence[Service], variables: Mapping[str, str]) -> list[Service]:
    """Each with a name and a port of its own, and the variable that sets it."""
    named: list[Service] = []
    for service in services:
        name = _free(_name(service), {one.name for one in named})
        variable = _variable(name, len(services), variables)
        set_to = variables.get(variable, "")
        usual = int(set_to) if set_to.isdigit() and service.port is not None else service.port
        port = _free_port(usual, {one.port for one in named})
        named.append(replace(service, name=name, port=port, variable=variable))
    return named


def _name(service: Service) -> str:
    folder = service.directory.rpartition("/")[2]
    return service.role if folder in (".", "src", "app") else _slug(folder)


def _variable(name: str, count: int, variables: Mapping[str, str]) -> str:
    own = f"{name.upper().replace('-', '_')}_PORT"
    return "PORT" if count == 1 and own not in variables else own


def _free(name: str, taken: set[str]) -> str:
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, 100))) if one not in taken)


def _free_port(port: int | None, taken: set[int | None]) -> int | None:
    return port if port is None else next(one for one in range(port, port + 100) if one not in taken)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "stack"


def _text(path: Path) -> str:
    """Nothing for what is not there or is no text: a look around has no quarrel with it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _table(package: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = package.get(key)
    return found if isinstance(found, dict) else {}
