"""The pages. Every form works without a script: POST, then 303 to what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from .backend import Backend, Refused
from .proxy import read_body

FORM_LIMIT = 64 * 1024
"""Bytes of a form."""
PAGE = 20
"""Projects on one page."""
SHOWN = 100
"""Tasks, and comments, on a project's page."""

Form = dict[str, str]

TEMPLATES = Jinja2Templates(Path(__file__).parent / "templates")
TEMPLATES.env.filters["day"] = lambda moment: f"{datetime.fromisoformat(moment):%d %b %Y, %H:%M} UTC".lstrip("0")


@dataclass(frozen=True, slots=True)
class Problem:
    """What was typed into one form of a page, and what was wrong with it; empty when nothing was."""

    form: str = ""
    fields: Form = field(default_factory=dict)
    values: Form = field(default_factory=dict)

    @property
    def status(self) -> int:
        return 422 if self.form else 200


async def show_projects(request: Request, problem: Problem = Problem()) -> Response:
    page = _page(request)
    projects = await _backend(request).ask("GET", f"/api/projects?limit={PAGE}&offset={(page - 1) * PAGE}")
    context = {"projects": projects, "page": page, "pages": -(-projects["total"] // PAGE), "problem": problem}
    return TEMPLATES.TemplateResponse(request, "projects.html", context, problem.status)


async def show_project(request: Request, problem: Problem = Problem()) -> Response:
    ask, path = _backend(request).ask, _project(request)
    project, tasks, comments = await asyncio.gather(
        ask("GET", f"/api{path}"),
        ask("GET", f"/api{path}/tasks?limit={SHOWN}"),
        ask("GET", f"/api{path}/comments?limit={SHOWN}"),
    )
    context = {"project": project, "tasks": tasks, "comments": comments, "path": path, "problem": problem}
    return TEMPLATES.TemplateResponse(request, "project.html", context, problem.status)


async def create_project(request: Request) -> Response:
    form = await _form(request)
    try:
        project = await _backend(request).ask("POST", "/api/projects", form)
    except Refused as refused:
        return await show_projects(request, Problem("project", refused.fields, form))
    return _see(f"/projects/{project['id']}")


async def update_project(request: Request) -> Response:
    return await _change(request, "project", "PATCH", _project(request), "")


async def create_task(request: Request) -> Response:
    return await _change(request, "task", "POST", f"{_project(request)}/tasks", "#tasks")


async def update_task(request: Request) -> Response:
    return await _change(request, "task", "PATCH", f"/tasks/{request.path_params['task']}", "#tasks")


async def create_comment(request: Request) -> Response:
    return await _change(request, "comment", "POST", f"{_project(request)}/comments", "#comments")


async def delete_task(request: Request) -> Response:
    await _backend(request).ask("DELETE", f"/api/tasks/{request.path_params['task']}")
    return _see(f"{_project(request)}#tasks")


async def delete_project(request: Request) -> Response:
    await _backend(request).ask("DELETE", f"/api{_project(request)}")
    return _see("/")


ROUTES = [
    Route("/", show_projects),
    Route("/projects", create_project, methods=["POST"]),
    Route("/projects/{project:int}", show_project),
    Route("/projects/{project:int}", update_project, methods=["POST"]),
    Route("/projects/{project:int}/delete", delete_project, methods=["POST"]),
    Route("/projects/{project:int}/tasks", create_task, methods=["POST"]),
    Route("/projects/{project:int}/tasks/{task:int}", update_task, methods=["POST"]),
    Route("/projects/{project:int}/tasks/{task:int}/delete", delete_task, methods=["POST"]),
    Route("/projects/{project:int}/comments", create_comment, methods=["POST"]),
]


async def _change(request: Request, name: str, method: str, path: str, anchor: str) -> Response:
    """Send a form of the project's page; back to that page, or to the form with what was wrong."""
    form = await _form(request)
    try:
        await _backend(request).ask(method, f"/api{path}", form)
    except Refused as refused:
        return await show_project(request, Problem(name, refused.fields, form))
    return _see(_project(request) + anchor)


async def _form(request: Request) -> Form:
    body = await read_body(request, FORM_LIMIT)
    # A browser sends line ends as CRLF; the board keeps LF.
    return {name: value.replace("\r\n", "\n") for name, value in parse_qsl(body.decode(), keep_blank_values=True)}


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


def _project(request: Request) -> str:
    return f"/projects/{request.path_params['project']}"


def _page(request: Request) -> int:
    """Anything but a page's number means the first."""
    asked = request.query_params.get("page", "")
    return min(max(int(asked), 1), 10_000) if asked.isascii() and asked.isdigit() else 1


def _see(address: str) -> Response:
    """303: look there, with GET."""
    return RedirectResponse(address, 303)


def offline(request: Request, reason: str) -> Response:
    """System Offline. What a form held is not saved, and the page says so."""
    context = {"reason": reason, "again": request.url.path if request.method == "GET" else "/"}
    return TEMPLATES.TemplateResponse(request, "offline.html", context, 503, {"Retry-After": "10"})


def notice(request: Request, status: int, title: str, text: str) -> Response:
    return TEMPLATES.TemplateResponse(request, "notice.html", {"title": title, "text": text}, status)
