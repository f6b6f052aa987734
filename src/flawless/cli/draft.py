"""A first flawless.toml and .env.example for a stack that was found."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flawless.cli.discovery import Found, Service

_DATABASE = """[database]
# Where the data is kept. For a PostgreSQL that comes with Flawless and lives in .flawless/postgres: url = "embedded"
url = "${DATABASE_URL:?a postgresql:// address}"
# tables = ["users"] # must be there once the migrations are through
"""
_NO_DATABASE = """# [database]
# url = "${DATABASE_URL:?a postgresql:// address}" # or "embedded": a PostgreSQL that comes with Flawless
"""
_NO_SERVICES = """# No service was found here. One looks like this:
#
# [services.backend]
# role = "backend" # backend, frontend, proxy or worker
# command = ["node", "dist/server.js"] # words, never a shell string
# directory = "backend"
# port = "${PORT:-3001}" # given to the process as PORT
# ready = [{ http = "/health", status = 200 }]
"""
_HEAD = """# What `flawless deploy` brings up. Look it through, then: flawless check
#
# ${NAME} is read from the environment or from .env; ${NAME:-x} is x where it is not set; ${NAME:?why} must be set.
# Every key there is: flawless config schema
"""


def to_manifest(found: Found) -> str:
    """The text of flawless.toml."""
    blocks = [_HEAD, "".join(_top(found)), _environment(found), "".join(_database(found))]
    blocks += ["".join(_service(one, found)) for one in found.services] or [_NO_SERVICES]
    return "\n".join(block for block in blocks if block)


def to_example(found: Found) -> str:
    """The text of .env.example: every variable the manifest reads."""
    return "# Copy to .env and fill in. The process's own environment wins over .env.\n\n" + "".join(_variables(found))


def _top(found: Found) -> Iterator[str]:
    yield f"name = {_quoted(found.name)}\n"
    shown = next((one for one in found.services if one.role == "frontend"), None)
    shown = shown or next((one for one in found.services if one.port is not None), None)
    if shown is not None:
        yield f'base_url = "http://127.0.0.1:{_port(shown)}" # the address people open\n'


def _environment(found: Found) -> str:
    if not found.uses_postgres:
        return ""
    return '[env]\nrequire = ["DATABASE_URL"] # and whatever else the stack cannot do without\n'


def _database(found: Found) -> Iterator[str]:
    yield _DATABASE if found.uses_postgres else _NO_DATABASE
    migrations = found.migrations
    if found.uses_postgres and migrations is not None:
        yield "\n[database.migrate]\n"
        yield f"tool = {_quoted(migrations.tool)}\n"
        yield f"directory = {_quoted(migrations.directory)}\n"
        if migrations.apply:
            yield f"apply = {_words(migrations.apply)}\n"
    if found.prisma is not None:
        yield from _prisma_client("" if found.prisma == "." else f"{found.prisma}/", found.prisma)


def _prisma_client(prefix: str, directory: str) -> Iterator[str]:
    yield "\n[artefacts.prisma-client]\n"
    yield f"path = {_quoted(f'{prefix}node_modules/.prisma/client/index.js')}\n"
    yield f"sources = [{_quoted(f'{prefix}prisma/schema.prisma')}]\n"
    yield 'build = ["npx", "prisma", "generate"]\n'
    yield f"directory = {_quoted(directory)}\n"


def _service(one: Service, found: Found) -> Iterator[str]:
    yield f"[services.{one.name}]\n"
    yield f"role = {_quoted(one.role)}\n"
    yield f"command = {_words(one.command, _port(one))}\n"
    yield f"directory = {_quoted(one.directory)}\n"
    if one.port is not None:
        yield f'port = "{_port(one)}" # given to the process as PORT\n'
    yield from _ready(one)
    backends = [other.name for other in found.services if other.role == "backend"]
    if one.role == "worker" and backends:
        yield f"after = {_words(backends)}\n"


def _ready(one: Service) -> Iterator[str]:
    if one.role == "frontend":
        yield 'ready = [{ http = "/", status = 200 }]\n'
    elif one.port is not None:
        yield "# Ready when it accepts connections. Better, where it has a health route:\n"
        yield '# ready = [{ http = "/health", status = 200 }]\n'


def _variables(found: Found) -> Iterator[str]:
    if found.uses_postgres:
        yield "# The database.\nDATABASE_URL=\n\n"
    for one in found.services:
        if one.port is not None:
            yield f"# The port of {one.name}.\n# {one.variable}={one.port}\n\n"


def _port(one: Service) -> str:
    return f"${{{one.variable}:-{one.port}}}"


def _words(words: tuple[str, ...] | list[str], port: str = "") -> str:
    return f"[{', '.join(_quoted(word.replace('{port}', port)) for word in words)}]"


def _quoted(text: str) -> str:
    """JSON's texts are TOML's basic strings."""
    return json.dumps(text, ensure_ascii=False)
