"""What is true of a rendered shelf, told from layout and script alone: planogram and ground truth."""

from pathlib import Path
from typing import Any

from edge_agent.camera.shelf import arms, layout
from edge_agent.camera.shelf.products import CATALOGUE
from edge_agent.camera.shelf.script import Script
from edge_agent.contracts.planogram import Planogram, Point, Product, Quad, Slot

SHELF = "12"


def planogram(reference: Path) -> Planogram:
    """Return what belongs where.

    Args:
        reference: The picture of the full shelf, relative to the planogram's folder.
    """
    products = [
        Product(
            label=goods.label,
            name=goods.name,
            gtin=goods.gtin,
            low_at=int(len(layout.facings(goods.label)) > 1),
        )
        for goods in CATALOGUE
    ]
    slots = [
        Slot(id=slot, quad=_quad(place), product=place.product) for slot, place in layout.places().items()
    ]
    return Planogram(shelf=SHELF, reference=reference, products=products, slots=slots)


def _quad(place: layout.Place) -> Quad:
    left, top, right, bottom = place.box
    corners: tuple[Point, Point, Point, Point] = ((left, top), (right, top), (right, bottom), (left, bottom))
    return corners


def as_json(script: Script) -> dict[str, Any]:
    """Return the ground truth of a script as `script.json` holds it; times in seconds of the script."""
    return {
        "seed": script.seed,
        "duration_s": script.duration_s,
        "width": layout.WIDTH,
        "height": layout.HEIGHT,
        "start": script.start,
        "changes": [{"at": c.at, "slot": c.slot, "label": c.label, "cause": c.cause} for c in script.changes],
        "hands": [{"from": begin, "until": end, "slots": slots} for begin, end, slots in arms.hands(script)],
        "covers": [{"from": begin, "until": end} for begin, end in script.covers],
        "lights": [{"at": light.at, "gain": light.gain, "warmth": light.warmth} for light in script.lights],
    }
