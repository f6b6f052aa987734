"""`/api`: projects, and the tasks and comments of each. Three tables, one set of verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .database import Database
from .models import Base, Comment, Entry, Project, Task
from .shapes import (
    Body,
    CommentChange,
    CommentRow,
    NewComment,
    NewProject,
    NewTask,
    Page,
    ProjectChange,
    ProjectRow,
    Row,
    TaskChange,
    TaskRow,
)

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body."""
LAST_ID = 2**31 - 1
"""The greatest id the tables can hold; a greater one in an address names nothing."""

Found = TypeVar("Found", bound=Entry)
Wanted = TypeVar("Wanted", bound=Body)


@dataclass(frozen=True, slots=True)
class Resource:
    """A table as its five verbs. One that belongs to a project is listed and created below that project."""

    model: type[Project | Task | Comment]
    row: type[Row]
    new: type[Body]
    change: type[Body]

    @property
    def routes(self) -> list[Route]:
        name = self.model.__tablename__
        several = f"/{name}" if self.model is Project else f"/projects/{{project_id:int}}/{name}"
        one = f"/{name}/{{id:int}}"
        return [
            Route(several, self.list),
            Route(several, self.create, methods=["POST"]),
            Route(one, self.show),
            Route(one, self.update, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        page = Page.model_validate(dict(request.query_params))
        async with _database(request).session() as session:
            belongs = await _parent(request, session)
            some = select(self.model).filter_by(**belongs).order_by(self.model.id.desc())
            rows = await session.scalars(some.limit(page.limit).offset(page.offset))
            total = await session.scalar(select(func.count()).select_from(self.model).filter_by(**belongs))
            return JSONResponse({"items": [self._json(row) for row in rows], "total": total, **page.model_dump()})

    async def create(self, request: Request) -> Response:
        wanted = await _body(request, self.new)
        async with _database(request).session() as session:
            entry = self.model(**await _parent(request, session), **wanted.model_dump())
            session.add(entry)
            await session.flush()
            await session.refresh(entry)
            location = f"/api/{self.model.__tablename__}/{entry.id}"
            return JSONResponse(self._json(entry), 201, {"Location": location})

    async def show(self, request: Request) -> Response:
        async with _database(request).session() as session:
            return JSONResponse(self._json(await _found(session, self.model, request.path_params["id"])))

    async def update(self, request: Request) -> Response:
        wanted = await _body(request, self.change)
        async with _database(request).session() as session:
            entry = await _found(session, self.model, request.path_params["id"])
            for name, value in wanted.model_dump(exclude_none=True).items():
                setattr(entry, name, value)
            return JSONResponse(self._json(entry))

    async def delete(self, request: Request) -> Response:
        async with _database(request).session() as session:
            await session.delete(await _found(session, self.model, request.path_params["id"]))
        return Response(status_code=204)

    def _json(self, entry: Base) -> dict[str, object]:
        return self.row.model_validate(entry).model_dump(mode="json")


ROUTES = [
    *Resource(Project, ProjectRow, NewProject, ProjectChange).routes,
    *Resource(Task, TaskRow, NewTask, TaskChange).routes,
    *Resource(Comment, CommentRow, NewComment, CommentChange).routes,
]


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _parent(request: Request, session: AsyncSession) -> dict[str, int]:
    """The project named in the address, locked against being deleted meanwhile; empty where there is none."""
    if (project := request.path_params.get("project_id")) is None:
        return {}
    return {"project_id": (await _found(session, Project, project)).id}


async def _found(session: AsyncSession, model: type[Found], entry_id: int) -> Found:
    lock = {"read": True, "key_share": True}
    entry = await session.get(model, entry_id, with_for_update=lock) if entry_id <= LAST_ID else None
    if entry is None:
        raise HTTPException(404, f"There is no {model.__name__.lower()} {entry_id}.")
    return entry


async def _body(request: Request, shape: type[Wanted]) -> Wanted:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise HTTPException(413, f"A body holds at most {BODY_LIMIT} bytes.")
    return shape.model_validate_json(bytes(content))
