from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from .conftest import DEPLOY_ID, backend_client, frontend_client

pytestmark = pytest.mark.anyio

RELEASES = {"deployId": DEPLOY_ID, "service": "board-frontend"}


async def test_a_person_uses_the_board_with_forms_alone(browser: httpx2.AsyncClient) -> None:
    """Every step is a POST, answered with 303 to the page that shows what came of it."""
    assert "Nothing here yet" in (await browser.get("/")).text
    made = await browser.post("/projects", data={"name": "Allotment", "description": "Seeds\r\nand tools"})
    assert (made.status_code, made.headers["location"]) == (303, "/projects/1")

    for path, form in [
        ("/projects/1/tasks", {"title": "Dig"}),
        ("/projects/1/tasks", {"title": "Sow"}),
        ("/projects/1/tasks/1", {"done": "true"}),
        ("/projects/1/tasks/2/delete", {}),
        ("/projects/1/comments", {"author": "Ingrid", "body": "Soon?"}),
        ("/projects/1", {"name": "Allotment 2027"}),
    ]:
        assert (await browser.post(path, data=form)).status_code == 303, path

    page = (await browser.get("/projects/1")).text
    assert all(words in page for words in ("Allotment 2027", "Seeds\nand tools", "1 of 1 done", "Ingrid", "Soon?"))
    assert "Sow" not in page
    assert "1 of 1 tasks done" in (await browser.get("/")).text

    assert (await browser.post("/projects/1/delete")).headers["location"] == "/"
    assert "Nothing here yet" in (await browser.get("/")).text


async def test_a_form_with_a_mistake_comes_back_as_it_was_typed(browser: httpx2.AsyncClient) -> None:
    """422, the sentence beside its field, and nothing has to be typed again."""
    page = await browser.post("/projects", data={"name": " ", "description": "All of <this>"})
    assert page.status_code == 422
    assert "Please write something here." in page.text
    assert "All of &lt;this&gt;" in page.text


async def test_the_list_has_pages(browser: httpx2.AsyncClient) -> None:
    """Twenty to a page, with the way to the older ones; a page's number that is none means the first."""
    for number in range(21):
        await browser.post("/projects", data={"name": f"Project {number}"})
    assert "Page 1 of 2" in (await browser.get("/?page=none")).text
    older = (await browser.get("/?page=2")).text
    assert ("Project 0" in older, "Project 1<" in older) == (True, False)


async def test_what_people_write_is_text(browser: httpx2.AsyncClient) -> None:
    """Markup in a name does nothing but stand there."""
    await browser.post("/projects", data={"name": "<script>alert(1)</script>"})
    for path in ("/", "/projects/1"):
        assert "<script>alert" not in (await browser.get(path)).text


async def test_what_does_not_exist_is_a_page_of_its_own(browser: httpx2.AsyncClient) -> None:
    """404 for an address and for a project alike; 413 for a form beyond all measure."""
    for path in ("/nothing", "/projects/7", "/static/nothing.css"):
        answer = await browser.get(path)
        assert (answer.status_code, "Nothing here" in answer.text) == (404, True)
    assert (await browser.post("/projects", content=b"name=" + b"x" * 70_000)).status_code == 413


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Origin": "http://board.test"}, 1),
        ({"Sec-Fetch-Site": "same-origin"}, 1),
        ({}, 1),
        ({"Origin": "http://elsewhere.test"}, 0),
        ({"Origin": "null"}, 0),
        ({"Sec-Fetch-Site": "cross-site"}, 0),
    ],
)
async def test_changes_are_taken_from_our_own_pages_only(
    browser: httpx2.AsyncClient, headers: dict[str, str], taken: int
) -> None:
    """Another site's form changes nothing, on the pages and on the API behind them."""
    page = await browser.post("/projects", headers=headers, data={"name": "Mine"})
    api = await browser.post("/api/projects", headers=headers, json={"name": "Mine"})
    assert (page.status_code, api.status_code) == ((303, 201) if taken else (403, 403))
    assert (await browser.get("/api/projects")).json()["total"] == 2 * taken


async def test_every_answer_is_guarded_and_signed(browser: httpx2.AsyncClient) -> None:
    """Security headers and the deploy's id, on pages, files, refusals and what the backend said; nothing inline."""
    for path in ("/", "/nothing", "/static/board.css", "/api/projects", "/frontend/health"):
        headers = (await browser.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get_list("x-flawless-deploy-id") == [DEPLOY_ID]
    assert not re.search(r"<style|style=|\son\w+=|<script(?! src)", (await browser.get("/")).text)


async def test_health_is_the_backends_and_only_its(browser: httpx2.AsyncClient) -> None:
    """Through the frontend one hears the backend; the frontend's own health cannot be mistaken for it."""
    assert (await browser.get("/health/live")).json()["service"] == "board-backend"
    own = (await browser.get("/frontend/health")).json()
    assert own.items() >= RELEASES.items()
    assert own["status"] != "alive"


async def test_the_backend_hears_what_it_needs_and_no_more() -> None:
    """Path, query and Host arrive as sent; what speaks of one connection does not go on, in either direction."""
    heard: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        heard.append(request)
        return httpx2.Response(200, headers={"Connection": "close, X-Hop", "X-Hop": "1", "X-Kept": "1"}, json={})

    async with frontend_client(httpx2.MockTransport(answer)) as browser:
        sent = {"Connection": "X-Mine", "X-Mine": "1", "X-Admin-Password": "canary", "Accept-Encoding": "br"}
        got = await browser.get("/api/a%2Fb?q=%C3%A9&q=2", headers=sent)
    assert str(heard[0].url).endswith("/api/a%2Fb?q=%C3%A9&q=2")
    assert heard[0].headers["host"] == "board.test"
    assert heard[0].headers["x-admin-password"] == "canary"
    assert "x-mine" not in heard[0].headers
    assert heard[0].headers["accept-encoding"] == "identity"
    assert ("x-hop" in got.headers, got.headers["x-kept"]) == (False, "1")


def refusing(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused", request=request)


def stranger(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, html="<h1>It works!</h1>")


@pytest.mark.parametrize("backend", [refusing, stranger])
@pytest.mark.parametrize("path", ["/", "/projects/1"])
async def test_without_its_backend_the_board_says_so(backend: object, path: str) -> None:
    """System Offline, 503, when to ask again; a stranger on the port is no backend either. The frontend serves on."""
    async with frontend_client(httpx2.MockTransport(backend)) as browser:  # type: ignore[arg-type]  # one of the two
        page = await browser.get(path)
        assert (await browser.get("/static/offline.js")).status_code == 200
        assert (await browser.get("/frontend/health")).status_code == 200
    assert (page.status_code, page.headers["retry-after"]) == (503, "10")
    assert "System Offline" in page.text
    assert f'href="{path}">Try again' in page.text


async def test_a_program_is_told_in_json() -> None:
    """Behind `/api` and `/health` a lost backend is 503 JSON that no gate takes for alive."""
    async with frontend_client(httpx2.MockTransport(refusing)) as browser:
        for path in ("/health/live", "/api/projects"):
            answer = await browser.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "BACKEND_OFFLINE")
            assert "status" not in answer.json()


async def test_without_its_database_the_board_says_so(dead_url: str, tmp_path: Path) -> None:
    """The page names the part that is away, and says that what was just sent was not saved."""
    async with backend_client(dead_url, tmp_path) as api, frontend_client(api._transport) as browser:
        page = await browser.get("/")
        sent = await browser.post("/projects", data={"name": "Allotment"})
        assert (await browser.get("/health/live")).json()["status"] == "alive"
    assert (page.status_code, page.headers["retry-after"]) == (503, "10")
    assert "its database does not answer" in page.text
    assert (sent.status_code, "was not saved" in sent.text) == (503, True)
    assert "Traceback" not in page.text + sent.text
