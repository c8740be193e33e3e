"""Drafts of planograms: what somebody draws, right or wrong, and what the kit's own reader says to it."""

import json
import re
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.editor.reference import blank
from edge_agent.contracts import planogram, yamlfile
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.messages import State
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.contracts.yamlfile import Problem, ProblemsError

_FILE, _PICTURE = "draft.json", "reference.jpg"
_NAME = "planogram.yaml"
SHORT = 12
"""Characters of a planogram's hash that people are shown."""
_PLACE = re.compile(r"(slots|products)\[(\d+)\](?:\.(\w+))?")
_LINE = re.compile(r"^\s*\S+\s\s(\S+)\s\s(.+)$", re.MULTILINE)
_SIDE = 1080, 1920

Coordinate = Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)]
_Point = tuple[Coordinate, Coordinate]
_Text = Annotated[str, Field(max_length=300)]
Place = dict[str, Any]


class DraftProduct(BaseModel):
    """A product as it was typed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: _Text
    name: _Text = ""
    gtin: _Text = ""
    low_at: Annotated[int, Field(ge=-1000, le=100_000)] = 0


class DraftSlot(BaseModel):
    """A slot as it was drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: _Text
    quad: tuple[_Point, _Point, _Point, _Point]
    product: _Text = ""


class Draft(BaseModel):
    """A planogram in the making.

    `picture` says whether there is one; width and height are the canvas; `base` begins the hash of the
    planogram that the device had when the draft was begun or sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: int = 0
    base: _Text = ""
    shelf: _Text = ""
    products: Annotated[list[DraftProduct], Field(max_length=500)] = []
    slots: Annotated[list[DraftSlot], Field(max_length=1000)] = []
    picture: bool = False
    width: Annotated[int, Field(ge=1, le=100_000)] = _SIDE[1]
    height: Annotated[int, Field(ge=1, le=100_000)] = _SIDE[0]

    def text(self) -> str:
        """Return it as the contract's YAML, of which JSON is a part; nothing is mended."""
        products = [
            {key: value for key, value in product.model_dump().items() if key != "gtin" or value}
            for product in self.products
        ]
        slots = [slot.model_dump(mode="json") for slot in self.slots]
        tree = {"shelf": self.shelf, "reference": _PICTURE, "products": products, "slots": slots}
        return json.dumps(tree, ensure_ascii=False)


class StaleError(DataError):
    """Somebody else has changed the draft meanwhile."""


def begun(state: State | None) -> Draft:
    """Return a first draft: what a device says of its planogram, as far as it does.

    An older agent does not say what belongs into a slot, only what stands there; where that is right, it is
    known.
    """
    if state is None:
        return Draft()
    products = [
        DraftProduct(label=one.label, name=one.name, gtin=one.gtin or "") for one in state.products[:500]
    ]
    known = {product.label for product in products}
    slots = []
    for name, quad in list(state.planogram.slots.items())[:1000]:
        seen = state.slots.get(name)
        stands = seen.label if seen and seen.state == "present" else None
        label = (state.planogram.products or {}).get(name, stands)
        slots.append(DraftSlot(id=name, quad=quad, product=label if label in known and label else ""))
    plan = state.planogram
    return Draft(
        base=plan.sha256[:SHORT],
        shelf=state.shelf,
        products=products,
        slots=slots,
        width=plan.width,
        height=plan.height,
    )


def opened(text: str, size: tuple[int, int]) -> Draft:
    """Return the draft of a `planogram.yaml`; its picture does not come along.

    Raises:
        DataError: It cannot be drawn.
    """
    document = yamlfile.parse(text, Path(_NAME), Planogram)
    if document.value is None:
        raise DataError(str(ProblemsError(document.problems))[:2000])
    shelf = document.value
    products = [
        DraftProduct(label=one.label, name=one.name, gtin=one.gtin or "", low_at=one.low_at)
        for one in shelf.products
    ]
    slots = [DraftSlot(id=one.id, quad=one.quad, product=one.product) for one in shelf.slots]
    try:
        return Draft(shelf=shelf.shelf, products=products, slots=slots, width=size[0], height=size[1])
    except ValidationError as exc:
        raise DataError("Expected: at most 500 products and 1000 slots. Received: more.") from exc


class Drafts:
    """The drafts of all devices, in a folder.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def of(self, device: DeviceTopics) -> Draft | None:
        """Return the draft for a device; None where nobody began one, or it cannot be read."""
        try:
            return Draft.model_validate_json((self._at(device) / _FILE).read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, device: DeviceTopics, draft: Draft, picture: bytes | None = None) -> Draft:
        """Keep a draft, and a picture where it is a new one; return it with its new revision.

        Raises:
            StaleError: It was made of another revision than the one that is kept.
        """
        with self._lock:
            kept = self.of(device)
            known = 0 if kept is None else kept.revision
            if known != draft.revision:
                raise StaleError(f"Expected: revision {known} of the draft. Received: {draft.revision}.")
            made = draft.model_copy(update={"revision": draft.revision + 1})
            if picture is not None:
                with written_beside(self._at(device) / _PICTURE) as staged:
                    staged.write_bytes(picture)
            with written_beside(self._at(device) / _FILE) as staged:
                staged.write_text(made.model_dump_json(), encoding="utf-8")
        return made

    def forget(self, device: DeviceTopics) -> None:
        """Remove a draft and its picture."""
        with self._lock:
            for name in (_FILE, _PICTURE):
                (self._at(device) / name).unlink(missing_ok=True)

    def picture(self, device: DeviceTopics) -> bytes | None:
        """Return the picture of a draft."""
        try:
            return (self._at(device) / _PICTURE).read_bytes()
        except FileNotFoundError:
            return None

    def _at(self, device: DeviceTopics) -> Path:
        return self._folder / device.store / device.device


def checked(draft: Draft, picture: bytes | None) -> tuple[list[Place], str]:
    """Read a draft as a device would.

    Args:
        draft: What somebody drew.
        picture: Its picture; None where the device keeps the one that it has.

    Returns:
        Every problem with its place, and the YAML where there is none.
    """
    with tempfile.TemporaryDirectory(prefix="shelfkit-") as name:
        room = Path(name)
        reference = room / _PICTURE
        reference.write_bytes(picture if picture is not None else blank(draft.width, draft.height))
        document = yamlfile.parse(draft.text(), Path(_NAME), Planogram)
        document = planogram.checked(document, reference, None)
        if document.value is None or document.problems:
            return [placed(problem) for problem in document.problems], ""
        planogram.write(document.value, room / _NAME)
        return [], (room / _NAME).read_text(encoding="utf-8")


def placed(problem: Problem) -> Place:
    """Return a problem with the list and the number of what it is about."""
    return _placed(problem.key, problem.text)


def told(error: str) -> list[Place]:
    """Return the problems that a device names in its reply."""
    return [_placed(key, text) for key, text in _LINE.findall(error)]


def _placed(key: str, text: str) -> Place:
    match = _PLACE.match(key)
    if match is None:
        return {"list": None, "index": None, "field": key, "text": text}
    return {"list": match[1], "index": int(match[2]), "field": match[3] or "", "text": text}
