"""The interactive terminal of PostgreSQL, started without the password in its argv."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from flawless.adapters.postgres.binaries import find_bundle
from flawless.core.errors import CommandFailed
from flawless.core.secret import Secret


@dataclass(frozen=True, slots=True)
class PsqlCommand:
    """What to run; the password travels in PGPASSWORD, because everybody can read an argv."""

    argv: tuple[str, ...]
    password: Secret

    def environment(self) -> dict[str, str]:
        """The whole environment for the program."""
        return {**os.environ, **({"PGPASSWORD": self.password.reveal()} if self.password else {})}


def psql_command(url: Secret) -> PsqlCommand | None:
    """The psql (the bundle's, else the system's) for a postgresql:// URL; None where there is no psql."""
    program = _program()
    if program is None:
        return None
    parts = urlsplit(url.reveal())
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = unquote(parts.password or "") or query.pop("password", "")
    query.pop("password", None)
    hosts = parts.netloc.rpartition("@")[2]
    user = f"{quote(unquote(parts.username), safe='')}@" if parts.username else ""
    address = parts._replace(scheme="postgresql", netloc=user + hosts, query=urlencode(query)).geturl()
    return PsqlCommand((program, address), Secret(password))


def _program() -> str | None:
    try:
        bundled = find_bundle().bindir / "psql"
    except CommandFailed:
        return shutil.which("psql")
    return str(bundled) if bundled.is_file() else shutil.which("psql")
