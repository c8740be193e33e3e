"""The API as an ASGI application: reads the question, says what is wrong with it as RFC 9457."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

import sqlalchemy as sa
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dashboard.api import answers, models
from dashboard.api.export import csv_lines, json_lines
from dashboard.api.openapi import document
from dashboard.api.operations import OPERATIONS, Operation
from dashboard.queries import Queries
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.validation import explain

_Model = TypeVar("_Model", bound=models.Question)


def build_api(queries: Queries, database_error: Callable[[], None] = lambda: None) -> Starlette:
    """Return the application; it is mounted at `/api/v1`.

    Args:
        queries: To the recorder's database.
        database_error: Called when the database did not answer.
    """
    described = document()

    async def openapi(_request: Request) -> Response:
        return JSONResponse(described)

    async def away(_request: Request, _error: Exception) -> Response:
        database_error()
        return _problem(503, "The database does not answer. Ask again.")

    routes = [Route("/openapi.json", openapi, methods=["GET"])]
    routes += [Route(item.path, _endpoint(item, queries), methods=["GET"]) for item in OPERATIONS]
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _refused,
            UsageError: _senseless,
            sa.exc.SQLAlchemyError: away,
            Exception: _broken,
        },
    )


def _endpoint(operation: Operation, queries: Queries) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            path = operation.path_model.model_validate(request.path_params)
        except ValidationError as exc:
            raise HTTPException(404, explain(exc)) from exc
        query = _query(operation.query, request)
        if isinstance(query, models.HistoryQuery) and query.format != "json":
            return await run_in_threadpool(_file, queries, path, query)
        value = await run_in_threadpool(operation.answer, queries, path, query)
        return JSONResponse(value, media_type=operation.media[0])

    return endpoint


def _query(model: type[_Model], request: Request) -> _Model:
    """Read the parameters.

    Raises:
        UsageError: One is unknown, twice there, or not what it should be.
    """
    raw = request.scope["query_string"].decode("ascii", errors="replace")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=50)
        given = dict(pairs)
        if len(given) != len(pairs):
            raise UsageError("Expected: each parameter once. Received: one of them twice.")
        return model.model_validate(given)
    except ValueError as exc:
        raise UsageError(explain(exc)) from exc


def _file(queries: Queries, path: models.Question, query: models.HistoryQuery) -> Response:
    wanted = answers.chosen(query, path if isinstance(path, models.OfProduct) else None)
    rows = queries.all_events(wanted, query.after)
    csv = query.format == "csv"
    lines: Iterator[str] = csv_lines(rows) if csv else json_lines(rows)
    return StreamingResponse(
        lines,
        media_type="text/csv; charset=utf-8; header=present" if csv else "application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="events.{query.format}"'},
    )


async def _refused(_request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)
    return _problem(refusal.status_code, refusal.detail, dict(refusal.headers or {}))


async def _broken(_request: Request, _error: Exception) -> Response:
    return _problem(500, "Something went wrong; the recorder's log says what.")


async def _senseless(_request: Request, error: Exception) -> Response:
    return _problem(400, str(error))


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    said = models.Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(
        said.model_dump(), status_code=status, media_type="application/problem+json", headers=headers
    )
