"""Pages of the planogram editor, for administrators: draw, check, keep, download, send."""

import base64
import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dashboard.accounts.gate import require
from dashboard.accounts.identity import Identity, Role
from dashboard.editor import draft as drafts
from dashboard.editor import reference
from dashboard.editor.draft import SHORT, Draft, Drafts, StaleError
from dashboard.operator import Operator, picture_of
from dashboard.pages import frame
from dashboard.pages.bodies import content, document, said, sender
from dashboard.pages.site import Site
from dashboard.pages.stores import known_device
from edge_agent.contracts import messages
from edge_agent.contracts.errors import DataError, KitError, ServiceError
from edge_agent.contracts.identifiers import gtin14
from edge_agent.contracts.messages import State
from edge_agent.contracts.topics import DeviceTopics

_NUMBER = re.compile(r"[0-9]{1,15}")
_MOST_DRAFT = 1024 * 1024
_MOST_YAML = 1024 * 1024
_CONFLICT = 409


class Editor:
    """Drafts of planograms and what may be done with them.

    Args:
        site: What all pages are made from.
        kept: The drafts.
        operator: Asks devices; None where the pages may not.
    """

    def __init__(self, site: Site, kept: Drafts, operator: Operator | None) -> None:
        self._site, self._drafts, self._operator = site, kept, operator

    async def page(self, request: Request) -> Response:
        """Show the editor."""
        require(request, Role.ADMIN)
        device = await known_device(self._site, request)
        draft = await run_in_threadpool(self._draft, device)
        states = await run_in_threadpool(self._states, device.store)
        mine = states.get(device.device)
        shown = {
            "draft": draft.model_dump(mode="json"),
            "known": _products(states.values()),
            "sends": self._operator is not None,
            "in_use": mine.planogram.sha256[:SHORT] if mine else "",
        }
        setting = await run_in_threadpool(self._site.setting, device.store)
        return frame.page(
            request,
            "planogram.html",
            store=device.store,
            device=device.device,
            title=setting.title,
            shown=shown,
        )

    async def save(self, request: Request) -> Response:
        """Keep what was drawn, right or wrong, and say what is wrong with it."""
        sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        fields = await document(request, _MOST_DRAFT)
        try:
            return await run_in_threadpool(self._save, device, fields)
        except ValidationError as exc:
            raise HTTPException(400) from exc
        except StaleError as exc:
            return said(exc, _CONFLICT)

    async def upload(self, request: Request) -> Response:
        """Take a picture from a file."""
        identity = sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        data = await content(request, reference.MOST_BYTES)
        return await self._picture(request, identity, device, lambda: data)

    async def snapshot(self, request: Request) -> Response:
        """Take the picture that the device sees now, if it lets pictures go."""
        identity = sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        return await self._picture(request, identity, device, lambda: self._snapshot(device))

    async def product(self, request: Request) -> Response:
        """Say which product a GTIN is, if a shelf of this store has it, and whether it can be one at all."""
        sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        text = str((await document(request, _MOST_DRAFT)).get("gtin", ""))
        try:
            gtin = gtin14(text.strip())
        except ValueError as exc:
            return JSONResponse({"error": str(exc)})
        states = await run_in_threadpool(self._states, device.store)
        found = next((one for one in _products(states.values()) if one["gtin"] == gtin), {})
        return JSONResponse({**found, "gtin": gtin})

    async def open(self, request: Request) -> Response:
        """Take a `planogram.yaml` for the draft."""
        sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        data = await content(request, _MOST_YAML)
        try:
            return JSONResponse(await run_in_threadpool(self._open, device, data, _revision(request)))
        except StaleError as exc:
            return said(exc, _CONFLICT)
        except DataError as exc:
            return said(exc)

    async def discard(self, request: Request) -> Response:
        """Forget the draft, and begin with what the device says."""
        sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        await run_in_threadpool(self._drafts.forget, device)
        return JSONResponse({})

    async def send(self, request: Request) -> Response:
        """Send the draft to its device, and say what the device says."""
        identity = sender(request, Role.ADMIN)
        device = await known_device(self._site, request)
        revision = (await document(request, _MOST_DRAFT)).get("revision")
        try:
            answer = await run_in_threadpool(self._send, device, revision)
        except StaleError as exc:
            return said(exc, _CONFLICT)
        except KitError as exc:
            return said(exc, 502)
        about = f"{device.store}/{device.device}: {answer.get('planogram', 'refused')[:12]}"
        await self._site.access.note(request, identity.name, "planogram-send", about)
        return JSONResponse(answer)

    async def yaml(self, request: Request) -> Response:
        """Give the draft as a file, where it is right."""
        require(request, Role.ADMIN)
        device = await known_device(self._site, request)
        problems, text = await run_in_threadpool(self._checked, device)
        if problems:
            return frame.problem(request, _CONFLICT)
        headers = {"Content-Disposition": 'attachment; filename="planogram.yaml"'}
        return Response(text, media_type="application/yaml; charset=utf-8", headers=headers)

    async def picture(self, request: Request) -> Response:
        """Give the draft's picture."""
        require(request, Role.ADMIN)
        device = await known_device(self._site, request)
        data = await run_in_threadpool(self._drafts.picture, device)
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def _picture(
        self, request: Request, identity: Identity, device: DeviceTopics, source: Callable[[], bytes]
    ) -> Response:
        try:
            draft = await run_in_threadpool(self._take, device, source, _revision(request))
        except StaleError as exc:
            return said(exc, _CONFLICT)
        except KitError as exc:
            return said(exc)
        await self._site.access.note(
            request, identity.name, "planogram-picture", f"{device.store}/{device.device}"
        )
        return JSONResponse(draft.model_dump(mode="json", include={"revision", "width", "height", "picture"}))

    def _take(self, device: DeviceTopics, source: Callable[[], bytes], revision: object) -> Draft:
        before = self._draft(device, revision)
        image = reference.decoded(source())
        size = {"width": image.shape[1], "height": image.shape[0], "picture": True}
        draft = before.model_copy(update=size)
        return self._drafts.save(device, draft, reference.encoded(image))

    def _snapshot(self, device: DeviceTopics) -> bytes:
        return picture_of(self._asking().ask(device, "snapshot"))

    def _asking(self) -> Operator:
        if self._operator is None:
            raise ServiceError(
                "Expected: pages that may send commands. Received: no --operator.",
                hint="whoever runs the recorder names the broker for it, see `shelfkit dashboard --help`",
            )
        return self._operator

    def _save(self, device: DeviceTopics, fields: dict[str, Any]) -> Response:
        before = self._draft(device)
        kept = {"picture", "width", "height", "base"}
        draft = Draft.model_validate({**fields, **before.model_dump(include=kept)})
        # Who only looks has begun no draft, which would hide what the device is given later.
        if draft != before:
            draft = self._drafts.save(device, draft)
        problems, _ = drafts.checked(draft, self._drafts.picture(device))
        return JSONResponse({"revision": draft.revision, "problems": problems})

    def _open(self, device: DeviceTopics, data: bytes, revision: object) -> dict[str, Any]:
        before = self._draft(device, revision)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise DataError("Expected: a planogram.yaml, UTF-8. Received: something else.") from exc
        made = drafts.opened(text, (before.width, before.height))
        kept = before.model_dump(include={"picture", "revision", "base"})
        made = made.model_copy(update=kept)
        return self._drafts.save(device, made).model_dump(mode="json")

    def _checked(self, device: DeviceTopics) -> tuple[list[drafts.Place], str]:
        return drafts.checked(self._draft(device), self._drafts.picture(device))

    def _send(self, device: DeviceTopics, revision: object) -> dict[str, Any]:
        draft = self._draft(device, revision)
        picture = self._drafts.picture(device) if draft.picture else None
        problems, text = drafts.checked(draft, picture)
        if problems:
            return {"ok": False, "problems": problems}
        more = {} if picture is None else {"reference": base64.b64encode(picture).decode()}
        reply = self._asking().ask(device, "set-planogram", planogram=text, **more)
        if reply.ok:
            sha = str((reply.model_extra or {}).get("planogram", ""))
            draft = self._drafts.save(device, draft.model_copy(update={"base": sha[:SHORT]}))
            return {"ok": True, "planogram": sha, "revision": draft.revision}
        error = reply.error or ""
        return {"ok": False, "error": error, "problems": drafts.told(error)}

    def _draft(self, device: DeviceTopics, revision: object = None) -> Draft:
        """Return the draft; of the revision that somebody has seen, where one is said."""
        draft = self._drafts.of(device)
        if draft is None:
            draft = drafts.begun(self._states(device.store).get(device.device))
        if revision is not None and draft.revision != revision:
            raise StaleError(f"Expected: revision {draft.revision} of the draft. Received: {revision!r:.20}.")
        return draft

    def _states(self, store: str) -> dict[str, State]:
        found = {}
        for device, state, _ in self._site.queries.latest(store):
            if state is not None:
                found[device] = messages.decode(State, state.encode())
        return found


def _revision(request: Request) -> int:
    """Return the revision that a page had seen when it sent a file."""
    text = request.query_params.get("revision", "")
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400)
    return int(text)


def _products(states: Any) -> list[dict[str, str]]:  # noqa: ANN401 - any collection of states
    """Return the products of a store's shelves, each once."""
    found = {one.label: one for state in states for one in state.products}
    return [
        {"label": label, "name": one.name, "gtin": one.gtin or ""} for label, one in sorted(found.items())
    ]


def routes(site: Site, kept: Drafts, operator: Operator | None) -> list[Route]:
    """Return the pages of the editor."""
    editor, place = Editor(site, kept, operator), "/stores/{store}/devices/{device}/planogram"
    shown = {"": editor.page, "/planogram.yaml": editor.yaml, "/reference.jpg": editor.picture}
    done = {
        "": editor.save,
        "/picture": editor.upload,
        "/snapshot": editor.snapshot,
        "/product": editor.product,
        "/open": editor.open,
        "/discard": editor.discard,
        "/send": editor.send,
    }
    return [
        *(Route(place + leaf, page, methods=["GET"]) for leaf, page in shown.items()),
        *(Route(place + leaf, page, methods=["POST"]) for leaf, page in done.items()),
    ]
