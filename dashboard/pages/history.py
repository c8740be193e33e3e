"""Pages of the past: a store's availability, one product, one slot; and the same as files."""

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dashboard.api.export import harmless
from dashboard.journal import About, History, Wanted, histories
from dashboard.pages import frame, timeline
from dashboard.pages.site import Site
from dashboard.pages.stores import known_store
from dashboard.pages.timeline import Opening
from edge_agent.contracts.times import rfc3339

PERIODS = (1, 7, 28, 91, 365)

_TOP = 20
_WIDTH = 100
_COLUMNS = (
    "store",
    "shelf",
    "device",
    "name",
    "title",
    "gtin",
    "state",
    "begin",
    "end",
    "seconds",
    "open_seconds",
)


def routes(site: Site) -> list[Route]:
    """Return the pages of the past."""

    async def availability(request: Request) -> Response:
        found, shown = await _asked(site, request, "product")
        worst = sorted(found, key=lambda one: (_share(one), -one.figures.out))
        return frame.page(request, "availability.html", **shown, found=worst, gaps=_top_gaps(found))

    async def product(request: Request) -> Response:
        return await _page(site, request, "product")

    async def slot(request: Request) -> Response:
        return await _page(site, request, "slot")

    routes = [Route("/stores/{store}/availability", availability)]
    places: tuple[tuple[str, Any, About], ...] = (
        ("/stores/{store}/products/{name}", product, "product"),
        ("/stores/{store}/devices/{device}/slots/{name}", slot, "slot"),
    )
    for place, page, about in places:
        routes.append(Route(place, page))
        routes.append(Route(f"{place}/history.csv", _file(site, about, _csv)))
        routes.append(Route(f"{place}/history.json", _file(site, about, _json)))
    return [*routes, Route("/stores/{store}/availability.csv", _file(site, "product", _csv))]


async def _page(site: Site, request: Request, about: About) -> Response:
    found, shown = await _asked(site, request, about)
    if not found:
        raise HTTPException(404)
    zone = ZoneInfo(shown["setting"].zone)
    days = timeline.days(shown["since"], shown["until"], zone)
    everywhere = [span for one in found for span in one.spans]
    named = [(day.isoformat(), begin, end) for day, begin, end in days]
    opening = shown["opening"]
    parts = {
        about: [
            (name, timeline.figures(timeline.clipped(everywhere, begin, end), opening))
            for name, begin, end in pieces
        ]
        for about, pieces in (("day", named), ("week", timeline.weeks(days)))
    }
    rows = [(one, _bars(one.spans, shown["since"], shown["until"])) for one in found]
    total = timeline.figures(everywhere, opening)
    marks = _marks(days, shown["since"], shown["until"])
    return frame.page(
        request,
        "history.html",
        **shown,
        about=about,
        rows=rows,
        total=total,
        parts=parts,
        marks=marks,
        gaps=_top_gaps(found),
    )


async def _asked(site: Site, request: Request, about: About) -> tuple[list[History], dict[str, Any]]:
    """Read what a page of the past is asked for; return histories, and what every such page shows."""
    store = await known_store(site, request)
    setting = await run_in_threadpool(site.setting, store)
    text = request.query_params.get("days", "7")
    period = int(text) if text in map(str, PERIODS) else 7
    until = site.now()
    since = until - timedelta(days=period)
    zone = ZoneInfo(setting.zone)
    opening = Opening(list(setting.week.spans(since, until, zone)) if setting.week else None)
    wanted = Wanted(
        store,
        about,
        since,
        until,
        request.path_params.get("name"),
        request.path_params.get("device"),
        opening,
    )
    found = await run_in_threadpool(histories, site.queries, wanted)
    if wanted.name is None:
        found = [one for one in found if one.there]
    shown = {"store": store, "setting": setting, "period": period, "periods": PERIODS}
    return found, {**shown, "since": since, "until": until, "opening": opening}


def _share(one: History) -> float:
    """Return the availability for sorting: what is not known comes last."""
    share = one.figures.availability
    return 2.0 if share is None else share


def _top_gaps(found: Iterable[History]) -> list[tuple[History, timeline.Span, float]]:
    """Return the longest times without stock, and how many seconds of each count."""
    gaps = [
        (one, span, one.opening.seconds(span))
        for one in found
        for span in one.spans
        if span.state in timeline.OUT
    ]
    return sorted((gap for gap in gaps if gap[2] > 0), key=lambda gap: -gap[2])[:_TOP]


def _bars(
    spans: Sequence[timeline.Span], since: datetime, until: datetime
) -> list[tuple[float, float, timeline.Span]]:
    """Return where each span begins on a line, how wide it is there (percent), and the span."""
    scale = _WIDTH / (until - since).total_seconds()
    return [
        (
            round((span.begin - since).total_seconds() * scale, 2),
            round(max(span.seconds * scale, 0.1), 2),
            span,
        )
        for span in spans
    ]


def _marks(
    days: Sequence[tuple[Any, datetime, datetime]], since: datetime, until: datetime
) -> list[tuple[float, str]]:
    """Return where days begin on that line (percent); not more than fit."""
    scale = _WIDTH / (until - since).total_seconds()
    every = max(len(days) // 8, 1)
    marks = ((begin, day) for day, begin, _ in itertools.islice(days, 1, None, every))
    return [(round((begin - since).total_seconds() * scale, 2), f"{day:%m-%d}") for begin, day in marks]


def _file(site: Site, about: About, write: Any) -> Any:  # noqa: ANN401 - Starlette's endpoints
    async def endpoint(request: Request) -> Response:
        found, shown = await _asked(site, request, about)
        if not found:
            raise HTTPException(404)
        answer: Response = await run_in_threadpool(write, shown["store"], found)
        return answer

    return endpoint


def _rows(store: str, found: Iterable[History]) -> Iterable[dict[str, Any]]:
    for one in found:
        place = {"store": store, "shelf": one.shelf, "device": one.device}
        place |= {"name": one.name, "title": one.title, "gtin": one.gtin}
        for span in one.spans:
            state = "unknown" if span.state == timeline.UNKNOWN else span.state
            times = {
                "begin": rfc3339(span.begin),
                "end": rfc3339(span.end),
                "seconds": round(span.seconds, 3),
                "open_seconds": round(one.opening.seconds(span), 3),
            }
            yield {**place, "state": state, **times}


def _csv(store: str, found: Iterable[History]) -> Response:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    writer.writerows([harmless(row[name]) for name in _COLUMNS] for row in _rows(store, found))
    headers = {"Content-Disposition": 'attachment; filename="history.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8; header=present", headers=headers)


def _json(store: str, found: Iterable[History]) -> Response:
    headers = {"Content-Disposition": 'attachment; filename="history.json"'}
    return JSONResponse({"spans": list(_rows(store, found))}, headers=headers)
