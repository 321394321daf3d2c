"""How an API says what is wrong: problem details (RFC 9457), the same in every service."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Answer with a problem.

    Args:
        status: The HTTP status.
        detail: What is wrong with this very request, and how to mend it.
        headers: Sent along, such as `Retry-After`.
        more: Further members for machines.

    """
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let an application answer `HTTPException` and requests that do not fit with problems."""
    app.add_exception_handler(HTTPException, _raised)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _raised(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    """Name every field that does not fit; what was sent is not repeated, it may be personal."""
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = [(".".join(str(step) for step in each["loc"]), str(each["msg"])) for each in error.errors()]
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "; ".join(f"{field}: {message}" for field, message in wrong),
        errors=[{"field": field, "message": message} for field, message in wrong],
    )
