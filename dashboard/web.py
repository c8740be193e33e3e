"""The web application: pages, live streams, the REST API, metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.accounts import pages as doors
from dashboard.accounts.gate import Access, Gate
from dashboard.accounts.records import Accounts
from dashboard.alerts import pages as alerts
from dashboard.alerts.book import Book
from dashboard.alerts.rules import Rules
from dashboard.api import build_api
from dashboard.editor import pages as editor
from dashboard.editor.draft import Drafts
from dashboard.hub import Hub
from dashboard.labelling import pages as labelling
from dashboard.labelling.queue import Queue
from dashboard.metrics import CONTENT_TYPE, Metrics
from dashboard.operator import Operator
from dashboard.pages import assets, fleet, frame, history, settings, stores
from dashboard.pages.live import Live
from dashboard.pages.site import Site
from dashboard.queries import Queries
from dashboard.store import Store

__all__ = ["Hub", "build_app"]

_HEADERS = {
    "Content-Security-Policy": frame.POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class _Placed:
    """ASGI middleware: puts the application under a path, and the security headers on every answer.

    Args:
        app: What is inside.
        root: The path, empty or `/something`; a proxy may have taken it away already, or not.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if self._root and path != self._root and not path.startswith(f"{self._root}/"):
            path = self._root + path
        secure = scope["scheme"] == "https"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        await self._app({**scope, "path": path, "root_path": self._root}, receive, guarded)


def build_app(
    store: Store,
    hub: Hub,
    connected: Callable[[], bool],
    access: Access | None = None,
    root: str = "",
    *,
    files: Path | None = None,
    operator: Operator | None = None,
    rules: Rules | None = None,
) -> Starlette:
    """Return the web application.

    Args:
        store: The recorder's database; only read here.
        hub: Told of news by the recorder.
        connected: Whether the broker is there.
        access: Who is let in; None is everybody who reaches it, with settings that nobody keeps.
        root: The path under which a reverse proxy shows it, empty or `/something`.
        files: Folder for drafts of planograms and pictures to label; None is a page without these.
        operator: Asks devices for things; None is a page that sends them nothing.
        rules: Of whom is told what; None is nobody.
    """
    queries, book = Queries(store.engine), Book(store.engine)
    live = Live(queries, hub, connected)
    metrics = Metrics(queries, connected, lambda: live.pages, book.counts)
    if access is None:
        access = Access(Accounts(), login=False, hosts=None)
    site = Site(queries, live, access, connected)

    async def health(_request: Request) -> Response:
        await run_in_threadpool(queries.last_row)
        return JSONResponse({"broker": connected()})

    async def prometheus(_request: Request) -> Response:
        return Response(await run_in_threadpool(metrics.text), headers={"Content-Type": CONTENT_TYPE})

    async def broken(request: Request, _error: Exception) -> Response:
        # This answer is given outside of everything else; what went wrong is in the log.
        request.scope["root_path"] = root
        answer = frame.problem(request, 500)
        answer.headers.update(_HEADERS)
        return answer

    routes = [
        *stores.routes(site),
        *settings.routes(site),
        *history.routes(site),
        *fleet.routes(site),
        *alerts.routes(site, book, rules),
        *doors.routes(access),
        *(_workshop(site, files, operator) if files else ()),
        Route("/language/{code}", frame.set_language),
        Route("/theme/{name}", frame.set_theme),
        Route("/metrics", prometheus),
        Route("/healthz", health),
        Mount("/api/v1", build_api(queries, metrics.database_error)),
        Route("/static/{version}/{name}", assets.asset),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Placed, root=root), Middleware(Gate, access=access)],
        exception_handlers={HTTPException: _refused, sa.exc.SQLAlchemyError: _away, Exception: broken},
    )


def _workshop(site: Site, files: Path, operator: Operator | None) -> list[Route]:
    drafts, queue = Drafts(files / "planograms"), Queue(files / "labels")
    return [*editor.routes(site, drafts, operator), *labelling.routes(site, queue, operator)]


async def _refused(request: Request, error: Exception) -> Response:
    return frame.problem(request, cast("HTTPException", error).status_code)


async def _away(request: Request, _error: Exception) -> Response:
    return frame.problem(request, 503)
