"""The shapes of what a client sends and what it is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a zero byte, which PostgreSQL cannot keep")
    return value


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(_storable)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000), AfterValidator(_storable)]
Words = Annotated[Text, Field(min_length=1)]


class Body(BaseModel):
    """An unknown field is an error: a typing mistake must not look like success."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewProject(Body):
    name: Line
    description: Text = ""


class NewTask(Body):
    title: Line


class NewComment(Body):
    author: Line
    body: Words


class ProjectChange(Body):
    """Only what is sent is changed."""

    name: Line | None = None
    description: Text | None = None


class TaskChange(Body):
    title: Line | None = None
    done: bool | None = None


class CommentChange(Body):
    body: Words | None = None


class Page(Body):
    """`?limit=` and `?offset=` of a list."""

    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=1_000_000)


class Row(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime


class ProjectRow(Row):
    name: str
    description: str
    open_tasks: int
    done_tasks: int


class TaskRow(Row):
    project_id: int
    title: str
    done: bool


class CommentRow(Row):
    project_id: int
    author: str
    body: str
