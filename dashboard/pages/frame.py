"""The frame around each page: language, navigation, who is there, where the page stands."""

from http import HTTPStatus
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard.accounts.gate import identity_of, inner_path, root_of
from dashboard.accounts.identity import Role
from dashboard.pages import assets, language
from dashboard.pages.clock import at, hours, span

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
THEMES = ("auto", "light", "dark")
_THEME = "shelfkit_theme"
_YEAR_S = 365 * 24 * 3600

TEMPLATES = Environment(
    loader=PackageLoader("dashboard"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401 - what a template shows
    """Return a page in its frame."""
    spoken = spoken_to(request)
    identity = identity_of(request)
    role = identity.role if identity else None
    theme = request.cookies.get(_THEME, "auto")
    text = TEMPLATES.get_template(template).render(
        root=root_of(request),
        static=f"{root_of(request)}/static/{assets.version()}",
        needed=assets.needed,
        path=inner_path(request),
        query=request.url.query,
        t=spoken.say,
        words=spoken.words,
        language=spoken.code,
        languages=language.catalogues().values(),
        theme=theme if theme in THEMES else "auto",
        themes=THEMES,
        identity=identity,
        is_staff=role is not None and role.includes(Role.STAFF),
        is_admin=role is not None and role.includes(Role.ADMIN),
        at=at,
        span=lambda seconds: span(spoken, seconds),
        open_hours=lambda week: hours(spoken, week),
        **values,
    )
    return HTMLResponse(
        text, status, headers={"Cache-Control": "no-store", "Vary": "Cookie, Accept-Language"}
    )


def spoken_to(request: Request) -> language.Catalogue:
    """Return the language that the reader wants."""
    wished = request.cookies.get(language.COOKIE)
    return language.choose(wished, request.headers.get("accept-language", ""))


def problem(request: Request, status: int, detail: str = "") -> HTMLResponse:
    """Return a page that says what is wrong."""
    key = f"problem.{status}"
    text = spoken_to(request).words.get(key, HTTPStatus(status).phrase)
    return page(request, "problem.html", status, text=text, detail=detail)


def to(request: Request, place: str, status: int = 303) -> RedirectResponse:
    """Lead to another page of ours."""
    return RedirectResponse(root_of(request) + local(place), status)


def local(place: str) -> str:
    """Return a place if it is one of ours, else the front page: nobody is led elsewhere."""
    # A browser takes a backslash for a slash, and leaves out control characters.
    ours = place.startswith("/") and not place.startswith("//") and "\\" not in place and place.isprintable()
    return place if ours else "/"


async def set_language(request: Request) -> Response:
    """Speak another language from now on."""
    code = request.path_params["code"]
    if code not in language.catalogues():
        return problem(request, 404)
    return _remembering(request, language.COOKIE, code)


async def set_theme(request: Request) -> Response:
    """Be light, be dark, or as the reader's machine is."""
    name = request.path_params["name"]
    if name not in THEMES:
        return problem(request, 404)
    return _remembering(request, _THEME, name)


def _remembering(request: Request, cookie: str, value: str) -> Response:
    answer = to(request, request.query_params.get("back", "/"))
    answer.set_cookie(
        cookie,
        value,
        max_age=_YEAR_S,
        path=root_of(request) or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer
