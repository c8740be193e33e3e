"""Home: the stores. And a store: its shelves, what to refill, live."""

import re
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dashboard.accounts.gate import client_of, identity_of, inner_path, posted, require
from dashboard.accounts.identity import Role
from dashboard.accounts.records import StoreSetting
from dashboard.hours import DAYS, read_day, written
from dashboard.pages import frame
from dashboard.pages.site import Site
from edge_agent.contracts.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ASK_AGAIN_S = 30.0
_LONGEST_DAY = 100
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

    async def settings(request: Request) -> Response:
        require(request, Role.STAFF)
        name = await known_store(site, request)
        setting = await run_in_threadpool(site.setting, name)
        days = dict(zip(DAYS, map(written, setting.week.days), strict=True)) if setting.week else {}
        return frame.page(request, "settings.html", store=name, setting=setting, days=days, error="")

    async def set_settings(request: Request) -> Response:
        identity = require(request, Role.STAFF)
        name = await known_store(site, request)
        fields = await posted(request)
        days = {day: fields.get(f"hours-{day}", "").strip()[:_LONGEST_DAY] for day in DAYS}
        hours, wrong = _line(days)
        setting = StoreSetting(fields.get("title", ""), fields.get("zone", "").strip(), hours)
        error = frame.spoken_to(request).say("settings.hours.wrong", text=wrong) if wrong else ""
        try:
            if not error:
                await run_in_threadpool(site.access.accounts.settings.set, name, setting)
        except UsageError as exc:
            error = str(exc)
        if error:
            shown = {"store": name, "setting": setting, "days": days, "error": error}
            return frame.page(request, "settings.html", 400, **shown)
        about = f"{name}: {setting.title} {setting.zone} {setting.hours}".rstrip()
        note = site.access.accounts.audit.note
        await run_in_threadpool(note, identity.name, "store-settings", about, client_of(request), site.now())
        return frame.to(request, f"/stores/{name}")

    return [
        Route("/", home),
        Route("/stores/{store}", store),
        Route("/stores/{store}/live", live),
        Route("/stores/{store}/settings", settings, methods=["GET"]),
        Route("/stores/{store}/settings", set_settings, methods=["POST"]),
    ]


async def known_store(site: Site, request: Request) -> str:
    """Return the store that a path names.

    Raises:
        HTTPException: Nobody has heard of it (404).
    """
    name = str(request.path_params["store"])
    if not _NAME.fullmatch(name) or not await run_in_threadpool(site.queries.has_store, name):
        raise HTTPException(404)
    return name


def _line(days: dict[str, str]) -> tuple[str, str]:
    """Return opening hours as one line, and the first day's text that is none."""
    found = []
    for day, text in days.items():
        try:
            if ranges := read_day(text):
                found.append(f"{day} {ranges}")
        except ValueError:
            return "", text
    return "; ".join(found), ""


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
