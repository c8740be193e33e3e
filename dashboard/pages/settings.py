"""What a store is called, where its clock stands, and when it is open: set by its staff."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.accounts.gate import posted, require
from dashboard.accounts.identity import Role
from dashboard.accounts.records import StoreSetting
from dashboard.hours import DAYS, read_day, written
from dashboard.pages import frame
from dashboard.pages.site import Site
from dashboard.pages.stores import known_store
from edge_agent.contracts.errors import UsageError

_LONGEST_DAY = 100


def routes(site: Site) -> list[Route]:
    """Return the page of a store's settings."""

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
        await site.access.note(request, identity.name, "store-settings", about)
        return frame.to(request, f"/stores/{name}")

    place = "/stores/{store}/settings"
    return [Route(place, settings, methods=["GET"]), Route(place, set_settings, methods=["POST"])]


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
