"""The door: finds out who asks, and lets nobody further than their role goes."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, quote

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.accounts.identity import Identity, Role
from dashboard.accounts.people import utc_now
from dashboard.accounts.records import Accounts
from dashboard.accounts.throttle import Throttle

COOKIE = "shelfkit_session"
LARGEST_FORM = 64 * 1024

_STATIC = "/static/"
_OPEN = ("/login", "/healthz", "/language/", "/theme/")
_PROGRAMS = ("/api/v1/", "/metrics")
_SAFE = {"GET", "HEAD"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Access:
    """How the page is entered.

    Args:
        accounts: People, tokens, settings.
        login: Whether anybody has to log in; where not, whoever reaches the page is its administrator.
        hosts: Names by which the page may be reached; None is any. Without log-in any other web site could
            else have a browser on this machine read the page under a name of its own.
        clock: The present moment.
    """

    accounts: Accounts
    login: bool = True
    hosts: frozenset[str] | None = None
    clock: Callable[[], datetime] = utc_now
    throttle: Throttle = field(default_factory=Throttle)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def note(self, request: Request, who: str, what: str, about: str = "") -> None:
        """Write down in the audit log what somebody did, and from where."""
        note = self.accounts.audit.note
        await run_in_threadpool(note, who, what, about, client_of(request), self.clock())

    def identity(self, headers: Headers, cookies: dict[str, str], path: str) -> Identity | None:
        """Return who asks; None for nobody known. A token opens what is for programs, and no page."""
        if not self.login:
            return Identity("local", Role.ADMIN, self.secret, "local")
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and path.startswith(_PROGRAMS):
            return self.accounts.tokens.whose(secret.strip(), self.clock())
        session = cookies.get(COOKIE)
        return self.accounts.people.session(session, self.clock()) if session else None


class Gate:
    """ASGI middleware: what is behind it has `scope["identity"]`, where anybody was let in.

    Args:
        app: What is behind the door.
        access: Who is let in.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] == "http":
            request = Request(scope)
            # Nothing in there is anybody's; a page asks for a dozen of them.
            refused = None if inner_path(request).startswith(_STATIC) else await self._refusal(request)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        path = inner_path(request)
        hosts = self._access.hosts
        if hosts is not None and _host(request) not in hosts:
            return PlainTextResponse(f"this is for {', '.join(sorted(hosts))} alone", 421)
        if request.method not in _SAFE and _from_elsewhere(request):
            return PlainTextResponse("this was sent by another site", 403)
        try:
            identity = await run_in_threadpool(self._access.identity, request.headers, request.cookies, path)
        except sa.exc.SQLAlchemyError:
            return PlainTextResponse("the database of accounts does not answer; ask again", 503)
        request.scope["identity"] = identity
        if path.startswith(_OPEN):
            return None
        if identity is None:
            return _who_are_you(request, path)
        return None


def inner_path(request: Request) -> str:
    """Return the path below the one under which the page stands."""
    path: str = request.scope["path"]
    return path.removeprefix(root_of(request)) or "/"


def root_of(request: Request) -> str:
    """Return the path under which the page stands: empty, or `/something`."""
    root: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    return root


def identity_of(request: Request) -> Identity | None:
    """Return who asks."""
    found: Identity | None = request.scope.get("identity")
    return found


def client_of(request: Request) -> str:
    """Return the address that somebody asks from."""
    return request.client.host if request.client else ""


def require(request: Request, role: Role) -> Identity:
    """Return who asks, if they may do what a role may.

    Raises:
        HTTPException: They may not (403).
    """
    identity = identity_of(request)
    if identity is None or not identity.role.includes(role):
        raise HTTPException(403)
    return identity


async def posted(request: Request, csrf: str | None = None) -> dict[str, str]:
    """Read a form that came from a page of ours.

    Args:
        request: A POST.
        csrf: What it must bring along; None where it is the session's.

    Raises:
        HTTPException: It is too large (413), no form (400), or from no page of ours (403).
    """
    identity = identity_of(request)
    wanted = csrf if csrf is not None else (identity.csrf if identity else "")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413)
    try:
        fields = dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
        )
    except ValueError as exc:
        raise HTTPException(400) from exc
    if not wanted or not secrets.compare_digest(fields.pop("csrf", "").encode(), wanted.encode()):
        raise HTTPException(403)
    return fields


def _who_are_you(request: Request, path: str) -> Response:
    if path.startswith(_PROGRAMS) or "text/html" not in request.headers.get("accept", ""):
        said = {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "Log in, or bring a token.",
        }
        headers = {"WWW-Authenticate": 'Bearer realm="shelfkit"'}
        return JSONResponse(said, 401, media_type="application/problem+json", headers=headers)
    query = request.scope["query_string"].decode("latin-1")
    back = quote(path + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(f"{root_of(request)}/login?next={back}", 303)


def _from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site sent this; for those that do not say there are tokens."""
    return request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def _host(request: Request) -> str:
    """Return the name by which the page was reached, without its port."""
    host = request.headers.get("host", "").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host
