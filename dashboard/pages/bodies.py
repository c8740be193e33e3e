"""What scripts of the pages send: bodies that are no forms, with the session's secret in a header."""

import secrets
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from dashboard.accounts.gate import require
from dashboard.accounts.identity import Identity, Role
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.validation import strict_json

CSRF = "x-csrf-token"


def sender(request: Request, role: Role) -> Identity:
    """Return who sent something, if they may do what a role may, and it came from a page of ours.

    Raises:
        HTTPException: They may not, or it came from elsewhere (403).
    """
    identity = require(request, role)
    told = request.headers.get(CSRF, "")
    if not identity.csrf or not secrets.compare_digest(told.encode(), identity.csrf.encode()):
        raise HTTPException(403)
    return identity


async def content(request: Request, most: int) -> bytes:
    """Return a body of at most so many bytes.

    Raises:
        HTTPException: It is larger (413).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413)
    return bytes(body)


async def document(request: Request, most: int) -> dict[str, Any]:
    """Return a JSON object of at most so many bytes.

    Raises:
        HTTPException: It is larger (413), or something else (400).
    """
    try:
        value = strict_json(await content(request, most))
    except (ValueError, RecursionError) as exc:
        raise HTTPException(400) from exc
    if not isinstance(value, dict):
        raise HTTPException(400)
    return value


def said(error: KitError, status: int = 400) -> JSONResponse:
    """Return an error as a script of the pages shows it."""
    return JSONResponse({"error": f"{error} {error.hint}".strip()}, status)
