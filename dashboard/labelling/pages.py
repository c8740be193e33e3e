"""Pages of labelling, for staff: pictures one after the other, by keys; import, export, "this is wrong"."""

import re
import tempfile
from typing import IO, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dashboard.accounts.gate import posted, require
from dashboard.accounts.identity import Identity, Role
from dashboard.editor.reference import decoded
from dashboard.labelling import exchange
from dashboard.labelling.queue import Queue, checked_state
from dashboard.operator import Operator, picture_of
from dashboard.pages import frame
from dashboard.pages.bodies import document, said, sender
from dashboard.pages.site import Site
from dashboard.pages.stores import known_device
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.identifiers import PLAIN
from edge_agent.contracts.messages import State
from edge_agent.contracts.preprocess import Image, crop
from edge_agent.contracts.times import rfc3339
from edge_agent.contracts.topics import DeviceTopics

_NUMBER = re.compile(r"[0-9]{1,15}")
_MOST_DOCUMENT = 16 * 1024
_AT_ONCE = 500
_LEAST_PX, _MOST_PX = 8, 2048
_CHUNK = 2**16


class Desk:
    """What waits for a label.

    Args:
        site: What all pages are made from.
        queue: The pictures.
        operator: Asks devices for pictures; None where the pages may not.
    """

    def __init__(self, site: Site, queue: Queue, operator: Operator | None) -> None:
        self._site, self._queue, self._operator = site, queue, operator

    async def page(self, request: Request) -> Response:
        """Show the desk."""
        require(request, Role.STAFF)
        reports = await run_in_threadpool(self._queue.reports)
        return frame.page(request, "labels.html", reports=reports)

    async def items(self, request: Request) -> Response:
        """Give what waits, or what is done."""
        require(request, Role.STAFF)
        state = request.query_params.get("state", "open")
        return JSONResponse(await run_in_threadpool(self._items, state if state != "all" else ""))

    async def picture(self, request: Request) -> Response:
        """Give one picture."""
        require(request, Role.STAFF)
        data = await run_in_threadpool(self._queue.picture, request.path_params["name"])
        if data is None:
            raise HTTPException(404)
        # What is under a name never changes.
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, media_type="image/png", headers=headers)

    async def label(self, request: Request) -> Response:
        """Give a picture a label, set it aside, or take that back."""
        identity = sender(request, Role.STAFF)
        fields = await document(request, _MOST_DOCUMENT)
        label, name = str(fields.get("label") or ""), request.path_params["name"]
        try:
            state = checked_state(fields.get("state"))
            there = await run_in_threadpool(self._queue.label, name, label, state, identity.name)
        except KitError as exc:
            return said(exc)
        if not there:
            raise HTTPException(404)
        return JSONResponse({})

    async def take(self, request: Request) -> Response:
        """Take a zip of hard examples."""
        identity = sender(request, Role.STAFF)
        with tempfile.TemporaryFile(prefix="shelfkit-") as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > exchange.MOST_BYTES:
                    raise HTTPException(413)
                await run_in_threadpool(file.write, chunk)
            try:
                found = await run_in_threadpool(exchange.import_from, file, self._queue, identity.name)
            except KitError as exc:
                return said(exc)
        about = f"{found.new} new, {found.known} known, {found.left_out} left out"
        await self._site.access.note(request, identity.name, "labels-import", about)
        told = {"new": found.new, "known": found.known, "left_out": found.left_out}
        return JSONResponse({**told, "refused": found.refused})

    async def give(self, request: Request) -> Response:
        """Give everything labelled as a zip for `train`."""
        identity = require(request, Role.STAFF)
        try:
            file = await run_in_threadpool(
                lambda: exchange.zipped(self._queue, exchange.names(self._site.queries))
            )
        except KitError as exc:
            return frame.problem(request, 404, str(exc))
        await self._site.access.note(request, identity.name, "labels-export", "")
        headers = {"Content-Disposition": 'attachment; filename="labelled.zip"'}
        return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)

    async def dismiss(self, request: Request) -> Response:
        """Forget a reading of which there is no picture."""
        require(request, Role.STAFF)
        number = (await posted(request)).get("number", "")
        if not _NUMBER.fullmatch(number):
            raise HTTPException(400)
        await run_in_threadpool(self._queue.dismiss, int(number))
        return frame.to(request, "/labels")

    async def wrong(self, request: Request) -> Response:
        """Take what somebody says: this slot shows something else than the page does."""
        identity = require(request, Role.STAFF)
        await posted(request)
        device = await known_device(self._site, request)
        slot = request.path_params["name"]
        if not re.fullmatch(PLAIN, slot):
            raise HTTPException(404)
        pictured = await run_in_threadpool(self._wrong, device, slot, identity)
        await self._site.access.note(
            request, identity.name, "reading-wrong", f"{device.store}/{device.device}/{slot}"
        )
        said = "picture" if pictured else "waiting"
        return frame.to(request, f"/stores/{device.store}/devices/{device.device}/slots/{slot}?wrong={said}")

    def _items(self, state: str) -> dict[str, Any]:
        counts = self._queue.counts()
        told = {"open": counts.open, "labelled": counts.labelled, "skipped": counts.skipped}
        names = {label: name for label, (name, _) in exchange.names(self._site.queries).items()}
        found = self._queue.items(state, _AT_ONCE)
        labels = list(dict.fromkeys([*self._queue.labels(), *names]))
        return {"items": found, "labels": labels, "names": names, "counts": told}

    def _wrong(self, device: DeviceTopics, slot: str, identity: Identity) -> bool:
        """Queue a slot with its picture where there is one; return whether there is."""
        found = self._site.queries.device(device.store, device.device)
        text, health, _ = found if found is not None else (None, None, None)
        if text is None:
            raise HTTPException(404)
        state = State.model_validate(text)
        if slot not in state.planogram.slots:
            raise HTTPException(404)
        now = self._site.now()
        seen = state.slots.get(slot)
        guess = seen.label if seen and seen.label else ""
        told = {"device": device.device, "slot": slot, "time": rfc3339(now), "guess": guess}
        online = health is not None and health.get("status") == "online"
        try:
            picture = self._seen(device, state, slot) if online else None
        except KitError:
            picture = None
        if picture is None:
            self._queue.report({**told, "store": device.store, "by": identity.name})
            return False
        told |= {"group": f"{device.device}/{slot}/{now:%Y-%m-%d}", "reason": "wrong"}
        confidence = f"{seen.confidence:.2f}" if seen and seen.confidence is not None else ""
        told |= {"confidence": confidence, "model": state.model.name, "version": state.model.version}
        self._queue.add(picture, told)
        return True

    def _seen(self, device: DeviceTopics, state: State, slot: str) -> Image | None:
        """Return what a slot looks like now, where the device lets pictures go.

        Raises:
            KitError: It does not, or nobody answers.
        """
        if self._operator is None:
            return None
        image = decoded(picture_of(self._operator.ask(device, "snapshot")))
        scale = np.array([image.shape[1] / state.planogram.width, image.shape[0] / state.planogram.height])
        quad = np.array(state.planogram.slots[slot], np.float64) * scale
        sides = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        wide, tall = (
            int(np.clip(round(float(max(pair))), _LEAST_PX, _MOST_PX)) for pair in (sides[::2], sides[1::2])
        )
        return np.ascontiguousarray(crop(image, quad.astype(np.float32), tall, wide)[..., ::-1])


def _chunks(file: IO[bytes]) -> Any:  # noqa: ANN401 - a generator for Starlette
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def routes(site: Site, queue: Queue, operator: Operator | None) -> list[Route]:
    """Return the pages of labelling."""
    desk = Desk(site, queue, operator)
    return [
        Route("/labels", desk.page, methods=["GET"]),
        Route("/labels/items", desk.items, methods=["GET"]),
        Route("/labels/pictures/{name}", desk.picture, methods=["GET"]),
        Route("/labels/labelled.zip", desk.give, methods=["GET"]),
        Route("/labels/import", desk.take, methods=["POST"]),
        Route("/labels/items/{name}", desk.label, methods=["POST"]),
        Route("/labels/reports", desk.dismiss, methods=["POST"]),
        Route("/stores/{store}/devices/{device}/slots/{name}/wrong", desk.wrong, methods=["POST"]),
    ]
