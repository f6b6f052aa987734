"""The two tables, as SQLAlchemy knows them: what the migrations are held against, and what applications may map."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flawless.incidents.incident import Category, EventType, Severity

SCHEMA = "flawless"


class Base(DeclarativeBase):
    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        },
    )


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Text with a check, not a type of the database's: a value can be added without a lock on the table."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)


class OpsIncident(Base):
    """A fault from its first detection to its end."""

    __tablename__ = "ops_incident"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    severity: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    summary: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    fingerprint: Mapped[str] = mapped_column(Text)
    occurrences: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    caused_by: Mapped[UUID | None] = mapped_column(ForeignKey(f"{SCHEMA}.ops_incident.id"))
    deploy_id: Mapped[str | None] = mapped_column(Text)
    next_steps: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    resolved_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    resolution_notes: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        _one_of("severity", Severity),
        _one_of("category", Category),
        # One open incident a fault, whatever writers do; also how a detection finds it.
        Index("ops_incident_one_open", "fingerprint", unique=True, postgresql_where=text("resolved_at IS NULL")),
        Index("ops_incident_past", "fingerprint", postgresql_where=text("resolved_at IS NOT NULL")),
        # A page of either kind is a walk down one of these from the last id shown.
        Index("ops_incident_open", "id", postgresql_where=text("resolved_at IS NULL")),
        Index("ops_incident_resolved", "id", postgresql_where=text("resolved_at IS NOT NULL")),
        Index("ops_incident_caused_by", "caused_by", postgresql_where=text("caused_by IS NOT NULL")),
    )


class OpsIncidentEvent(Base):
    """Something that happened to an incident. A trigger keeps rows from being changed or removed."""

    __tablename__ = "ops_incident_event"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(ForeignKey(f"{SCHEMA}.ops_incident.id"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    event_type: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    # `metadata` is SQLAlchemy's own name for something else.
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))

    __table_args__ = (
        _one_of("event_type", EventType),
        Index("ops_incident_event_story", "incident_id", "created_at", "id"),
    )
