"""The two tables of incidents, and the trigger that keeps events as they were written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

SCHEMA = "flawless"
OPEN = sa.text("resolved_at IS NULL")
RESOLVED = sa.text("resolved_at IS NOT NULL")

REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION flawless.ops_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'events of incidents are only ever appended' USING ERRCODE = 'restrict_violation';
END $$
"""
APPEND_ONLY = """
CREATE TRIGGER ops_incident_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON flawless.ops_incident_event
FOR EACH STATEMENT EXECUTE FUNCTION flawless.ops_refuse_change()
"""


def upgrade() -> None:
    _create_incident()
    _create_event()
    op.execute(REFUSE_CHANGE)
    op.execute(APPEND_ONLY)


def _create_incident() -> None:
    op.create_table(
        "ops_incident",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("details", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("occurrences", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("caused_by", sa.Uuid, sa.ForeignKey(f"{SCHEMA}.ops_incident.id"), nullable=True),
        sa.Column("deploy_id", sa.Text, nullable=True),
        sa.Column("next_steps", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolution_notes", sa.Text, nullable=True),
        sa.CheckConstraint("severity IN ('INFO', 'WARN', 'CRITICAL')", name="severity"),
        sa.CheckConstraint("category IN ('DB', 'TUNNEL', 'API', 'DEPLOY', 'OTHER')", name="category"),
        schema=SCHEMA,
    )
    op.create_index(
        "ops_incident_one_open", "ops_incident", ["fingerprint"], schema=SCHEMA, unique=True, postgresql_where=OPEN
    )
    op.create_index("ops_incident_past", "ops_incident", ["fingerprint"], schema=SCHEMA, postgresql_where=RESOLVED)
    op.create_index("ops_incident_open", "ops_incident", ["id"], schema=SCHEMA, postgresql_where=OPEN)
    op.create_index("ops_incident_resolved", "ops_incident", ["id"], schema=SCHEMA, postgresql_where=RESOLVED)
    caused = sa.text("caused_by IS NOT NULL")
    op.create_index("ops_incident_caused_by", "ops_incident", ["caused_by"], schema=SCHEMA, postgresql_where=caused)


def _create_event() -> None:
    types = "'DETECTED', 'RECOVERY_ATTEMPTED', 'RECOVERY_SUCCESS', 'RECOVERY_FAILED', 'ESCALATED', 'RESOLVED', 'NOTE'"
    op.create_table(
        "ops_incident_event",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("incident_id", sa.Uuid, sa.ForeignKey(f"{SCHEMA}.ops_incident.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("metadata", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.CheckConstraint(f"event_type IN ({types})", name="event_type"),
        schema=SCHEMA,
    )
    op.create_index(
        "ops_incident_event_story", "ops_incident_event", ["incident_id", "created_at", "id"], schema=SCHEMA
    )
