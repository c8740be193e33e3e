"""Home: the stores. And a store: its shelves, what to refill, live."""

import re
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dashboard.accounts.gate import identity_of, inner_path
from dashboard.pages import frame
from dashboard.pages.site import Site
from edge_agent.contracts.identifiers import PLAIN
from edge_agent.contracts.topics import DeviceTopics

_ASK_AGAIN_S = 30.0
_STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def routes(site: Site) -> list[Route]:
    """Return the pages of stores."""

    async def home(request: Request) -> Response:
        stores = await run_in_threadpool(site.queries.overview)
        settings = await run_in_threadpool(site.access.accounts.settings.all)
        for store in stores:
            found = settings.get(store["store"])
            store["title"] = found.title if found else ""
        stores.sort(key=lambda store: (store["title"].casefold() or store["store"], store["store"]))
        return frame.page(request, "home.html", stores=stores)

    async def store(request: Request) -> Response:
        name = await known_store(site, request)
        setting = await run_in_threadpool(site.setting, name)
        return frame.page(request, "store.html", store=name, setting=setting, now=site.now())

    async def live(request: Request) -> Response:
        name = await known_store(site, request)
        told = site.live.stream(name, _still_allowed(site, request))
        return StreamingResponse(told, media_type="text/event-stream", headers=_STREAM)

    return [
        Route("/", home),
        Route("/stores/{store}", store),
        Route("/stores/{store}/live", live),
    ]


async def known_store(site: Site, request: Request) -> str:
    """Return the store that a path names.

    Raises:
        HTTPException: Nobody has heard of it (404).
    """
    name = str(request.path_params["store"])
    if not re.fullmatch(PLAIN, name) or not await run_in_threadpool(site.queries.has_store, name):
        raise HTTPException(404)
    return name


async def known_device(site: Site, request: Request) -> DeviceTopics:
    """Return the device that a path names.

    Raises:
        HTTPException: Nobody has heard of it (404).
    """
    store = await known_store(site, request)
    device = str(request.path_params["device"])
    if not re.fullmatch(PLAIN, device) or await run_in_threadpool(site.queries.device, store, device) is None:
        raise HTTPException(404)
    return DeviceTopics(store, device)


def _still_allowed(site: Site, request: Request) -> Callable[[], Awaitable[bool]]:
    """Return what says whether a reader may go on: a session may end while a page is open."""
    asked, path, first = time.monotonic(), inner_path(request), identity_of(request)

    async def allowed() -> bool:
        nonlocal asked
        if time.monotonic() - asked < _ASK_AGAIN_S:
            return True
        asked = time.monotonic()
        found = await run_in_threadpool(site.access.identity, request.headers, request.cookies, path)
        return found is not None and first is not None and found.name == first.name

    return allowed
