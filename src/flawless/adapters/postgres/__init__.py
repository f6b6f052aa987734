"""The embedded PostgreSQL: a real server from the files of a pip package, owned by the project's state folder."""

from flawless.adapters.postgres.embedded import EmbeddedPostgres, ServerStatus
from flawless.adapters.postgres.place import Outside, last_used, orphans, size_of
from flawless.adapters.postgres.psql import PsqlCommand, psql_command

__all__ = [
    "EmbeddedPostgres",
    "Outside",
    "PsqlCommand",
    "ServerStatus",
    "last_used",
    "orphans",
    "psql_command",
    "size_of",
]
