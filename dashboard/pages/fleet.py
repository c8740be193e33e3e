"""Every device: how it is, what it runs, what waits in it; a page at a time."""

from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.pages import frame
from dashboard.pages.site import Site
from dashboard.queries import FleetFilter

SORTS = ("device", "store", "status", "agent", "model", "phase", "depth", "age", "seen")

_PAGE = 100
_GAPS = 100
_FURTHEST = 1_000_000
_LONGEST = 100
_FILTERS = ("store", "status", "agent", "model", "phase", "text")


def routes(site: Site) -> list[Route]:
    """Return the page of the fleet."""

    async def fleet(request: Request) -> Response:
        given = {name: request.query_params.get(name, "")[:_LONGEST] for name in (*_FILTERS, "sort", "page")}
        given = {name: value.replace("\x00", "") for name, value in given.items()}
        sort = given["sort"].removeprefix("-")
        wanted = FleetFilter(
            **{name: given[name] for name in _FILTERS},
            sort=sort if sort in SORTS else "device",
            descending=given["sort"].startswith("-"),
        )
        text = given["page"]
        number = min(max(int(text), 1), _FURTHEST) if text.isascii() and text.isdigit() and text else 1
        count, devices = await run_in_threadpool(site.queries.fleet, wanted, (number - 1) * _PAGE, _PAGE)
        sources = [device["source"] for device in devices]
        gaps = await run_in_threadpool(site.queries.gaps_of, sources, _GAPS)
        choices = await run_in_threadpool(_choices, site)
        statuses = await run_in_threadpool(site.queries.statuses)
        settings = await run_in_threadpool(site.access.accounts.settings.all)
        kept = {name: value for name, value in given.items() if value and name != "page"}

        def link(**changed: object) -> str:
            return "?" + urlencode({**kept, **changed})

        return frame.page(
            request,
            "fleet.html",
            devices=devices,
            gaps=gaps,
            count=count,
            number=number,
            pages=max(-(-count // _PAGE), 1),
            wanted=wanted,
            choices=choices,
            statuses=statuses,
            zones={store: setting.zone for store, setting in settings.items()},
            sorts=SORTS,
            link=link,
        )

    return [Route("/fleet", fleet)]


def _choices(site: Site) -> dict[str, list[str]]:
    return {name: site.queries.choices(name) for name in ("store", "status", "agent", "model", "phase")}
