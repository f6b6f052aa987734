"""The three tables. A project has tasks to tick off, and a conversation below them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from sqlalchemy import ForeignKey, Text, func, select
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedSQLExpression, column_property, mapped_column


class Base(DeclarativeBase):
    pass


class Entry:
    """What every row has."""

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())


class OfProject(Entry):
    """A row that belongs to a project and goes with it."""

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)


class Project(Entry, Base):
    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, server_default="")
    open_tasks: ClassVar[MappedSQLExpression[int]]
    done_tasks: ClassVar[MappedSQLExpression[int]]


class Task(OfProject, Base):
    __tablename__ = "tasks"

    title: Mapped[str] = mapped_column(Text)
    done: Mapped[bool] = mapped_column(server_default="false")


class Comment(OfProject, Base):
    __tablename__ = "comments"

    author: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)


def _tasks(*, done: bool) -> MappedSQLExpression[int]:
    """Counted by the database whenever a project is read."""
    mine = select(func.count(Task.id)).where(Task.project_id == Project.id, Task.done == done)
    return column_property(mine.correlate_except(Task).scalar_subquery())


Project.open_tasks = _tasks(done=False)
Project.done_tasks = _tasks(done=True)
