"""How Alembic reaches our tables: over the connection that `schema` holds, inside its transaction."""

from __future__ import annotations

from alembic import context

from flawless.incidents.models import SCHEMA, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
