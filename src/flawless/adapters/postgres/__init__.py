"""The embedded PostgreSQL: a real server from the files of a pip package, owned by the project's state folder."""

from flawless.adapters.postgres.embedded import EmbeddedPostgres, ServerStatus
from flawless.adapters.postgres.psql import PsqlCommand, psql_command

__all__ = ["EmbeddedPostgres", "PsqlCommand", "ServerStatus", "psql_command"]
