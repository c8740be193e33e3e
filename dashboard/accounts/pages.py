"""Pages of the door: log in and out, one's own password; for administrators the desk."""

import secrets
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.accounts.attempts import Attempts
from dashboard.accounts.gate import COOKIE, Access, posted, require, root_of
from dashboard.accounts.identity import Role
from dashboard.pages import frame
from edge_agent.contracts.errors import UsageError

VISITOR = "shelfkit_visitor"

_LINES = 100
_FAR = 2**62


class Door:
    """Log-in and log-out.

    Args:
        access: Who is let in.
        attempts: Looks at passwords.
    """

    def __init__(self, access: Access, attempts: Attempts) -> None:
        self._access, self._attempts = access, attempts

    async def page(self, request: Request) -> Response:
        """Ask for name and password."""
        if not self._access.login:
            return frame.to(request, "/")
        nobody = not await run_in_threadpool(self._access.accounts.people.list)
        return self._asking(request, 200, "", request.query_params.get("next", "/"), nobody=nobody)

    async def enter(self, request: Request) -> Response:
        """Look at name and password."""
        visitor = request.cookies.get(VISITOR, "")
        fields = await posted(request, visitor)
        name, password, after = fields.get("name", ""), fields.get("password", ""), fields.get("next", "/")
        right, wait = await self._attempts.right(request, name, password)
        if wait:
            return self._asking(request, 429, "login.wait", after, wait)
        if not right:
            return self._asking(request, 401, "login.wrong", after)
        people, now = self._access.accounts.people, self._access.clock()
        await self._access.note(request, name, "login")
        # Always a new one: what a browser held before the log-in is worth nothing after it.
        await run_in_threadpool(people.close_session, request.cookies.get(COOKIE, ""))
        secret = await run_in_threadpool(people.open_session, name, now)
        answer = frame.to(request, after)
        _give(request, answer, COOKIE, secret, "lax")
        answer.delete_cookie(VISITOR, path=_path(request))
        return answer

    async def leave(self, request: Request) -> Response:
        """Log out."""
        identity = require(request, Role.VIEWER)
        await posted(request)
        await run_in_threadpool(self._access.accounts.people.close_session, request.cookies.get(COOKIE, ""))
        await self._access.note(request, identity.name, "logout")
        answer = frame.to(request, "/login")
        answer.delete_cookie(COOKIE, path=_path(request))
        return answer

    def _asking(
        self,
        request: Request,
        status: int,
        wrong: str,
        after: str,
        wait: timedelta = timedelta(),
        *,
        nobody: bool = False,
    ) -> Response:
        visitor = request.cookies.get(VISITOR) or secrets.token_urlsafe(32)
        seconds = _seconds(wait)
        shown = {"visitor": visitor, "wrong": wrong, "next": frame.local(after), "seconds": seconds}
        shown["nobody"] = nobody
        answer = frame.page(request, "login.html", status, **shown)
        _give(request, answer, VISITOR, visitor, "strict")
        if wait:
            answer.headers["Retry-After"] = str(seconds)
        return answer


def _seconds(wait: timedelta) -> int:
    return int(wait.total_seconds()) + 1


def _give(request: Request, answer: Response, name: str, value: str, same_site: str) -> None:
    answer.set_cookie(
        name,
        value,
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite=same_site,  # type: ignore[arg-type]
    )


def _path(request: Request) -> str:
    return root_of(request) or "/"


class Desk:
    """One's own password; accounts, tokens and the audit log.

    Args:
        access: What to look after.
        attempts: Looks at passwords.
    """

    def __init__(self, access: Access, attempts: Attempts) -> None:
        self._access, self._accounts, self._attempts = access, access.accounts, attempts

    async def own(self, request: Request) -> Response:
        """Show the form for another password."""
        self._person(request)
        return frame.page(request, "account.html", error="")

    async def change_own(self, request: Request) -> Response:
        """Take another password; every session of the account ends."""
        name = self._person(request)
        fields = await posted(request)
        right, wait = await self._attempts.right(request, name, fields.get("old", ""))
        if not right:
            key = "login.wait" if wait else "login.wrong"
            said = frame.spoken_to(request).say(key, n=_seconds(wait))
            return frame.page(request, "account.html", 429 if wait else 400, error=said)
        try:
            await run_in_threadpool(self._accounts.people.set_password, name, fields.get("new", ""))
        except UsageError as exc:
            return frame.page(request, "account.html", 400, error=str(exc))
        await self._access.note(request, name, "password", name)
        return frame.to(request, "/login")

    def _person(self, request: Request) -> str:
        identity = require(request, Role.VIEWER)
        if identity.how != "session":
            raise HTTPException(404)
        return identity.name

    async def accounts(self, request: Request) -> Response:
        """Show accounts and tokens."""
        require(request, Role.ADMIN)
        return await self._desk(request)

    async def change(self, request: Request) -> Response:
        """Do what a form of that page asks for."""
        identity = require(request, Role.ADMIN)
        fields = await posted(request)
        try:
            about, secret = await run_in_threadpool(self._do, identity.name, fields)
        except (UsageError, ValueError) as exc:
            return await self._desk(request, 400, error=str(exc))
        await self._access.note(request, identity.name, fields["do"], about)
        return await self._desk(request, secret=secret) if secret else frame.to(request, "/admin/accounts")

    def _do(self, admin: str, fields: dict[str, str]) -> tuple[str, str]:
        """Do one thing; return what it was about, and a secret to show once."""
        people, tokens, now = self._accounts.people, self._accounts.tokens, self._access.clock()
        what, name = fields.get("do", ""), fields.get("name", "")
        if name == admin and what in {"account-password", "account-remove", "account-role"}:
            raise UsageError("Expected: somebody else's account. Received: your own.")
        match what:
            case "account-add":
                people.add(name, fields.get("password", ""), Role(fields.get("role", "")), now)
            case "account-role":
                people.set_role(name, Role(fields.get("role", "")))
                name = f"{name}: {fields['role']}"
            case "account-password":
                people.set_password(name, fields.get("password", ""))
            case "account-remove":
                people.remove(name)
            case "token-make":
                return name, tokens.make(name, admin, now)
            case "token-remove":
                return tokens.remove(int(fields.get("number", ""))) or "", ""
            case _:
                raise UsageError(f"Expected: something to do. Received: {what!r}.")
        return name, ""

    async def _desk(self, request: Request, status: int = 200, **shown: str) -> Response:
        people = await run_in_threadpool(self._accounts.people.list)
        tokens = await run_in_threadpool(self._accounts.tokens.list)
        lists = {"people": people, "tokens": tokens, "roles": tuple(Role)}
        return frame.page(request, "accounts.html", status, **lists, **{"secret": "", "error": "", **shown})

    async def audit(self, request: Request) -> Response:
        """Show who did what, the newest first."""
        require(request, Role.ADMIN)
        text = request.query_params.get("before", "")
        before = min(int(text), _FAR) if text.isascii() and text.isdigit() else None
        lines = await run_in_threadpool(self._accounts.audit.page, before, _LINES)
        older = lines[-1]["row"] if len(lines) == _LINES else None
        return frame.page(request, "audit.html", lines=lines, older=older)


def routes(access: Access) -> list[Route]:
    """Return the pages of the door."""
    attempts = Attempts(access)
    door, desk = Door(access, attempts), Desk(access, attempts)
    return [
        Route("/login", door.page, methods=["GET"]),
        Route("/login", door.enter, methods=["POST"]),
        Route("/logout", door.leave, methods=["POST"]),
        Route("/account", desk.own, methods=["GET"]),
        Route("/account", desk.change_own, methods=["POST"]),
        Route("/admin/accounts", desk.accounts, methods=["GET"]),
        Route("/admin/accounts", desk.change, methods=["POST"]),
        Route("/admin/audit", desk.audit, methods=["GET"]),
    ]
