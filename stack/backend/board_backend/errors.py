"""Every answer that is not a success, in one shape: `{"error": {code, message, fields?}}`."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from .database import DatabaseUnavailable

# Where pydantic's own words are meant for programmers.
WORDS = {
    "missing": "This is needed.",
    "string_too_short": "Please write something here.",
    "extra_forbidden": "There is no such field.",
}


def refusal(
    status: int, code: str, message: str, *, fields: dict[str, str] | None = None, retry_after: int | None = None
) -> JSONResponse:
    """`retry_after` in seconds, where asking again may help."""
    error: dict[str, object] = {"code": code, "message": message}
    if fields:
        error["fields"] = fields
    return JSONResponse({"error": error}, status, {"Retry-After": str(retry_after)} if retry_after else None)


async def on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = refusal(error.status_code, f"HTTP_{error.status_code}", error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ValidationError)
    found = error.errors(include_url=False, include_input=False, include_context=False)
    fields = {
        ".".join(map(str, problem["loc"])) or "body": WORDS.get(problem["type"], problem["msg"]) for problem in found
    }
    return refusal(422, "INVALID", "Some of what was sent cannot be taken.", fields=fields)


async def on_unavailable(_: Request, error: Exception) -> JSONResponse:
    return refusal(503, "DATABASE_UNAVAILABLE", str(error), retry_after=5)


async def on_defect(_: Request, __: Exception) -> JSONResponse:
    """The traceback is in the log, where it belongs."""
    return refusal(500, "INTERNAL", "This is a defect of the backend; its log has the details.")


HANDLERS = {
    HTTPException: on_http,
    ValidationError: on_invalid,
    DatabaseUnavailable: on_unavailable,
    Exception: on_defect,
}
