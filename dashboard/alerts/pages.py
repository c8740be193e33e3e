"""Pages of alerts: what is wrong now and who cares for it, what is muted, what was delivered."""

from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.accounts.gate import posted, require
from dashboard.accounts.identity import Role
from dashboard.accounts.records import StoreSetting
from dashboard.alerts import wording
from dashboard.alerts.book import Book
from dashboard.alerts.causes import Kind
from dashboard.alerts.deciding import Alert, Mute, Told
from dashboard.alerts.rules import Rules
from dashboard.alerts.telling import item_of
from dashboard.alerts.wire import Notice
from dashboard.pages import frame
from dashboard.pages.language import Catalogue
from dashboard.pages.site import Site
from edge_agent.contracts.identifiers import uuid7

HOURS = ("1", "8", "24", "168", "")
"""How long a mute can be; empty is until somebody ends it."""

_MOST_OPEN, _MOST_OVER, _LINES = 200, 20, 100
_FURTHEST = 100_000
_SCOPE = ("store", "device", "rule", "label")
_LONGEST = 128


class Desk:
    """What is wrong now, and what becomes of it.

    Args:
        site: What all pages are made from.
        book: What is written down.
        rules: The file; None where the recorder has none.
    """

    def __init__(self, site: Site, book: Book, rules: Rules | None) -> None:
        self._site, self._book, self._rules = site, book, rules

    async def page(self, request: Request) -> Response:
        """Show everything."""
        return await self._page(request)

    async def take(self, request: Request) -> Response:
        """Note that somebody cares for an alert."""
        identity = require(request, Role.STAFF)
        name = (await posted(request)).get("alert", "")
        now = self._site.now()
        alert = await run_in_threadpool(self._book.take, name, identity.name, now)
        if alert is None:
            return await self._page(request, 409, said="alerts.gone")
        about = f"{alert.rule}: {'/'.join(filter(None, (*alert.cause.key[1:],)))}"
        await self._site.access.note(request, identity.name, "alert-take", about)
        return frame.to(request, "/alerts")

    async def mute(self, request: Request) -> Response:
        """Have nothing told of something for a while."""
        identity = require(request, Role.ADMIN)
        fields = await posted(request)
        scope = {name: fields.get(name, "").strip() for name in _SCOPE}
        hours, now = fields.get("hours", ""), self._site.now()
        if hours not in HOURS or any(
            len(text) > _LONGEST or not text.isprintable() for text in scope.values()
        ):
            raise HTTPException(400)
        until = now + timedelta(hours=int(hours)) if hours else None
        identifier = uuid7(int(now.timestamp() * 1000))
        await run_in_threadpool(self._book.mute, identifier, Mute(**scope, until=until), identity.name, now)
        await self._site.access.note(
            request, identity.name, "alert-mute", f"{_named(scope)} {hours or '∞'} h"
        )
        return frame.to(request, "/alerts")

    async def unmute(self, request: Request) -> Response:
        """End a mute."""
        identity = require(request, Role.ADMIN)
        mute = await run_in_threadpool(self._book.unmute, (await posted(request)).get("mute", ""))
        if mute is not None:
            await self._site.access.note(request, identity.name, "alert-unmute", _named(mute))
        return frame.to(request, "/alerts")

    async def log(self, request: Request) -> Response:
        """Show what was delivered, the newest first."""
        text = request.query_params.get("page", "")
        number = min(max(int(text), 1), _FURTHEST) if text.isascii() and text.isdigit() else 1
        rows = await run_in_threadpool(self._book.deliveries, (number - 1) * _LINES, _LINES + 1)
        spoken = frame.spoken_to(request)
        lines = [
            {**row, "tells": [wording.line(spoken, item, None) for item in row["items"][:3]]}
            for row in rows[:_LINES]
        ]
        more = len(rows) > _LINES
        return frame.page(request, "alert_log.html", lines=lines, number=number, more=more)

    async def _page(self, request: Request, status: int = 200, *, said: str = "") -> Response:
        spoken = frame.spoken_to(request)
        values = await run_in_threadpool(self._shown, spoken)
        wanted = {name: request.query_params.get(name, "")[:_LONGEST] for name in _SCOPE}
        values |= {"wanted": wanted, "hours": HOURS, "rules": self._rules, "said": said}
        return frame.page(request, "alerts.html", status, **values)

    def _shown(self, spoken: Catalogue) -> dict[str, Any]:
        now, settings = self._site.now(), self._site.access.accounts.settings.all()
        mutes = self._book.mutes(now)

        def shown(alert: Alert) -> dict[str, Any]:
            setting = settings.get(alert.cause.store, StoreSetting())
            item = item_of(Told(Notice.OPENED, alert), setting, now)
            lasted = ((alert.closed or now) - alert.since).total_seconds()
            return {
                "alert": alert,
                "title": wording.trouble(spoken, item),
                "place": wording.place(spoken, item),
                "zone": setting.zone,
                "lasted": lasted,
                "muted": any(mute.covers(alert, now) for mute in mutes),
                "href": _leads(alert),
            }

        return {
            "count": self._book.counts()["open"],
            "open": [shown(alert) for alert in self._book.opened(_MOST_OPEN)],
            "over": [shown(alert) for alert in self._book.over(_MOST_OVER)],
            "mutes": [{**mute, "name": _named(mute)} for mute in self._book.muted(now)],
        }


def _leads(alert: Alert) -> str:
    """Return the page on which one sees more of it."""
    cause = alert.cause
    store = f"/stores/{cause.store}"
    if cause.kind in {Kind.MISPLACED, Kind.UNKNOWN_PRODUCT}:
        return f"{store}/devices/{cause.device}/slots/{cause.detail}"
    if cause.kind in {Kind.OUT_OF_STOCK, Kind.LOW_STOCK, Kind.CAMERA_FAULT}:
        return store
    return f"/fleet?text={cause.device}"


def _named(scope: dict[str, Any]) -> str:
    return " · ".join(scope[name] for name in _SCOPE if scope[name]) or "*"


def routes(site: Site, book: Book, rules: Rules | None) -> list[Route]:
    """Return the pages of alerts."""
    desk = Desk(site, book, rules)
    return [
        Route("/alerts", desk.page, methods=["GET"]),
        Route("/alerts/log", desk.log, methods=["GET"]),
        Route("/alerts/take", desk.take, methods=["POST"]),
        Route("/alerts/mute", desk.mute, methods=["POST"]),
        Route("/alerts/unmute", desk.unmute, methods=["POST"]),
    ]
