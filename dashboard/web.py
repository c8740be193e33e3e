"""The live page and what it is made of: JSON, server-sent events, one static page."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dashboard.api import build_api
from dashboard.metrics import CONTENT_TYPE, Metrics
from dashboard.queries import Queries
from dashboard.store import Store

_PAGE = files("dashboard") / "static" / "index.html"
_LATEST = 100
_LIMIT = 1000
_FAR = 2**62
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"


class Hub:
    """Wakes the streams of all open pages when the recorder has something new."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Say that something is new; from any thread."""
        if self._loop is not None:
            # While the server goes down its loop is closed, and nobody listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for waiting in self._waiting:
            waiting.set()

    @property
    def listeners(self) -> int:
        """How many pages listen now."""
        return len(self._waiting)

    @contextlib.contextmanager
    def listening(self) -> Any:  # noqa: ANN401 - a generator that gives an event
        """Give an event that is set whenever something is new."""
        self._loop = asyncio.get_running_loop()
        news = asyncio.Event()
        self._waiting.add(news)
        try:
            yield news
        finally:
            self._waiting.discard(news)


class _Guard(BaseHTTPMiddleware):
    """Lets the page load nothing from anywhere else, and nobody frame it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def build_app(store: Store, hub: Hub, connected: Callable[[], bool]) -> Starlette:
    """Return the web application.

    Args:
        store: The recorder's database; only read here.
        hub: Told of news by the recorder.
        connected: Whether the broker is there.
    """
    queries = Queries(store.engine)
    metrics = Metrics(queries, connected, lambda: hub.listeners)

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

    async def events(request: Request) -> Response:
        try:
            after = min(int(request.query_params.get("after", "-1")), _FAR)
            limit = min(max(int(request.query_params.get("limit", str(_LATEST))), 1), _LIMIT)
        except ValueError:
            return JSONResponse({"error": "Expected: after and limit as numbers."}, status_code=400)
        return JSONResponse({"events": await run_in_threadpool(store.events, after, limit)})

    async def stream(request: Request) -> Response:
        text = request.headers.get("last-event-id") or request.query_params.get("after", "-1")
        after = min(int(text), _FAR) if text.isascii() and text.isdigit() else -1
        return EventSourceResponse(_news(store, hub, connected, after), ping=15)

    async def health(_request: Request) -> Response:
        await run_in_threadpool(store.gaps)
        return JSONResponse({"broker": connected()})

    async def prometheus(_request: Request) -> Response:
        return Response(await run_in_threadpool(metrics.text), headers={"Content-Type": CONTENT_TYPE})

    routes = [
        Route("/", page),
        Route("/metrics", prometheus),
        Mount("/api/v1", build_api(queries, metrics.database_error)),
        Route("/api/events", events),
        Route("/api/stream", stream),
        Route("/healthz", health),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(_Guard)])
    app.mount("/static", StaticFiles(packages=[("dashboard", "static")]))
    return app


def _state(store: Store, connected: Callable[[], bool]) -> dict[str, Any]:
    return {"broker": connected(), "devices": store.devices(), "gaps": store.gaps()}


async def _news(
    store: Store, hub: Hub, connected: Callable[[], bool], after: int
) -> AsyncIterator[dict[str, str]]:
    """Yield the state and every event behind a row, now and whenever there is something new."""
    with hub.listening() as news:
        while True:
            news.clear()
            state = await run_in_threadpool(_state, store, connected)
            yield {"event": "state", "data": json.dumps(state)}
            while fresh := await run_in_threadpool(store.events, after, _LATEST):
                for item in fresh:
                    yield {"event": "event", "id": str(item["row"]), "data": json.dumps(item)}
                after = fresh[-1]["row"]
            after = max(after, 0)
            # Also without news: a broker that is gone makes none.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), timeout=5)
