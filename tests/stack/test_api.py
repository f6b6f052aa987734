from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from .conftest import DEPLOY_ID, backend_client

pytestmark = pytest.mark.anyio


async def project(api: httpx2.AsyncClient, name: str = "Allotment") -> dict[str, Any]:
    answer = await api.post("/api/projects", json={"name": name})
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


async def test_a_project_lives_from_create_to_delete(api: httpx2.AsyncClient) -> None:
    """Create, show, update and delete are what they say, and the last takes tasks and comments along."""
    made = await api.post("/api/projects", json={"name": "  Allotment ", "description": "Seeds"})
    where = made.headers["location"]
    assert made.json().items() >= {"name": "Allotment", "description": "Seeds", "open_tasks": 0}.items()

    task = await api.post(f"{where}/tasks", json={"title": "Dig"})
    await api.post(f"{where}/comments", json={"author": "Ingrid", "body": "Soon?"})
    assert (await api.patch(task.headers["location"], json={"done": True})).json()["done"] is True
    changed = await api.patch(where, json={"description": ""})
    assert changed.json().items() >= {"name": "Allotment", "description": "", "done_tasks": 1}.items()
    assert (await api.get(where)).json() == changed.json()

    assert (await api.delete(where)).status_code == 204
    assert [(await api.get(path)).status_code for path in (where, task.headers["location"], "/api/comments/1")] == [
        404,
        404,
        404,
    ]


async def test_lists_come_in_pages_newest_first(api: httpx2.AsyncClient) -> None:
    """`limit` and `offset` cut a list whose total is said."""
    for name in ("one", "two", "three"):
        await project(api, name)
    page = (await api.get("/api/projects?limit=2&offset=1")).json()
    assert [item["name"] for item in page["items"]] == ["two", "one"]
    assert (page["total"], page["limit"], page["offset"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name"}),
        ({"name": "   "}, {"name"}),
        ({"name": "x" * 121}, {"name"}),
        ({"name": "zero\x00byte"}, {"name"}),
        ({"nmae": "typo"}, {"name", "nmae"}),
        ([], {"body"}),
    ],
)
async def test_what_cannot_be_taken_is_refused_by_field(
    api: httpx2.AsyncClient, body: object, fields: set[str]
) -> None:
    """422 names every field that is wrong, in a sentence."""
    answer = await api.post("/api/projects", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"].keys() == fields


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/api/projects", b"{no json", 422),
        ("POST", "/api/projects", b"x" * 70_000, 413),
        ("GET", "/api/projects?limit=1000", b"", 422),
        ("GET", "/api/projects/7", b"", 404),
        ("GET", "/api/projects/99999999999999999999", b"", 404),
        ("POST", "/api/projects/7/tasks", b'{"title": "Dig"}', 404),
        ("GET", "/api/nothing", b"", 404),
        ("PUT", "/api/projects/7", b"", 405),
    ],
)
async def test_every_refusal_has_one_shape(
    api: httpx2.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    """A refusal is JSON with a code and a message, and is signed like every answer."""
    answer = await api.request(method, path, content=content)
    assert answer.status_code == status
    assert answer.json()["error"].keys() >= {"code", "message"}
    assert answer.headers["x-flawless-deploy-id"] == DEPLOY_ID


async def test_without_its_database_the_api_says_503_and_when_to_ask_again(dead_url: str, tmp_path: Path) -> None:
    """The reader is told what is wrong, without an address or a password."""
    async with backend_client(dead_url, tmp_path) as api:
        answer = await api.get("/api/projects")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["message"].startswith("DB_REFUSED")
    assert "canary" not in answer.text
