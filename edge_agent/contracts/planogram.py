"""`planogram.yaml`: what belongs where on one shelf, in pixels of its reference picture."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import AfterValidator, Field
from ruamel.yaml import YAML

from edge_agent.contracts import yamlfile
from edge_agent.contracts.identifiers import EMPTY, Gtin, Label, ShelfId, SlotId
from edge_agent.contracts.yamlfile import Document, Key, Section

Point = tuple[float, float]
_MIN_SIDE_PX = 4


def _clockwise(quad: tuple[Point, Point, Point, Point]) -> tuple[Point, Point, Point, Point]:
    corners = np.array(quad, dtype=np.float64)
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not (turns > 0).all():
        msg = f"expected four corners clockwise from the top left, convex; received {[list(p) for p in quad]}"
        raise ValueError(msg)
    if np.linalg.norm(edges, axis=1).min() < _MIN_SIDE_PX:
        msg = f"expected sides of at least {_MIN_SIDE_PX} px; received {[list(p) for p in quad]}"
        raise ValueError(msg)
    return quad


Quad = Annotated[tuple[Point, Point, Point, Point], AfterValidator(_clockwise)]


def _no_reserved(label: str) -> str:
    if label == EMPTY:
        msg = f"expected a product; received {EMPTY!r}, the reserved label of an empty slot"
        raise ValueError(msg)
    return label


class Product(Section):
    """A product of this shelf; its facings are the slots that name it."""

    label: Annotated[Label, AfterValidator(_no_reserved)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    gtin: Gtin | None = None
    low_at: Annotated[int, Field(ge=0)] = 0


class Slot(Section):
    """One facing: corners clockwise from the top left, in pixels, and what belongs there."""

    id: SlotId
    quad: Quad
    product: Label


class Planogram(Section):
    """One shelf. `reference` is absolute once `read` returned it."""

    shelf: ShelfId
    reference: Path
    products: Annotated[list[Product], Field(min_length=1)]
    slots: Annotated[list[Slot], Field(min_length=1)]

    def product_of(self, slot: Slot) -> Product:
        """Return the product that belongs in a slot."""
        return next(product for product in self.products if product.label == slot.product)

    def facings(self, label: str) -> list[Slot]:
        """Return the slots of one product."""
        return [slot for slot in self.slots if slot.product == label]


def read(path: Path, *, known_labels: list[str] | None = None) -> Document[Planogram]:
    """Read a `planogram.yaml`; every problem is in the document that comes back.

    Args:
        path: Of the file; `reference` is relative to its folder.
        known_labels: Labels of the bundle; a product that the model does not know is a problem.
    """
    document = yamlfile.read(path, Planogram)
    if document.value is None:
        return document
    return checked(document, path.resolve().parent / document.value.reference, known_labels)


def checked(
    document: Document[Planogram], reference: Path, known_labels: list[str] | None
) -> Document[Planogram]:
    """Check what a planogram's own fields cannot say: names, the picture, the model.

    Args:
        document: As it was read; without a value it comes back as it is.
        reference: Where the picture lies.
        known_labels: Labels of the bundle, if they matter.
    """
    if document.value is None:
        return document
    planogram = document.value.model_copy(update={"reference": reference})
    found = [
        *_cross_checks(planogram),
        *_reference_checks(planogram),
        *_label_checks(planogram, known_labels),
    ]
    problems = [document.problem(key, text) for key, text in found]
    return Document(document.path, document.tree, planogram, problems)


def _cross_checks(planogram: Planogram) -> Iterator[tuple[Key, str]]:
    products: dict[str, int] = {}
    for index, product in enumerate(planogram.products):
        if product.label in products:
            yield (
                ("products", index, "label"),
                f"`{product.label}` is already products[{products[product.label]}]",
            )
        products.setdefault(product.label, index)
        if not planogram.facings(product.label):
            yield ("products", index, "label"), f"expected at least one slot with product `{product.label}`"
    slots: dict[str, int] = {}
    for index, slot in enumerate(planogram.slots):
        if slot.id in slots:
            yield ("slots", index, "id"), f"`{slot.id}` is already used by slots[{slots[slot.id]}]"
        slots.setdefault(slot.id, index)
        if slot.product not in products:
            known = ", ".join(sorted(products))
            yield ("slots", index, "product"), f"expected one of {known}; received {slot.product!r}"


def _reference_checks(planogram: Planogram) -> Iterator[tuple[Key, str]]:
    picture = (
        cv2.imread(str(planogram.reference), cv2.IMREAD_COLOR) if planogram.reference.is_file() else None
    )
    if picture is None:
        yield (
            ("reference",),
            f"expected a picture; received {planogram.reference.name!r}, which cannot be read",
        )
        return
    height, width = picture.shape[:2]
    for index, slot in enumerate(planogram.slots):
        outside = [
            list(point) for point in slot.quad if not (0 <= point[0] <= width and 0 <= point[1] <= height)
        ]
        if outside:
            text = f"expected corners inside the {width}x{height} reference picture; received {outside}"
            yield ("slots", index, "quad"), text


def _label_checks(planogram: Planogram, known: list[str] | None) -> Iterator[tuple[Key, str]]:
    if known is None:
        return
    for index, product in enumerate(planogram.products):
        if product.label not in known:
            labels = ", ".join(sorted(known))
            yield (
                ("products", index, "label"),
                f"expected a label of the bundle ({labels:.200}); received {product.label!r}",
            )


def sha256(planogram: Planogram) -> str:
    """Return the identity of a planogram: its content, its reference picture included."""
    content = planogram.model_dump_json(exclude={"reference"}).encode()
    return hashlib.sha256(content + planogram.reference.read_bytes()).hexdigest()


def write(planogram: Planogram, path: Path) -> None:
    """Write a planogram as YAML; `reference` relative to the file where it lies beside it."""
    value = planogram.model_dump(mode="json", exclude_none=True)
    if planogram.reference.is_absolute() and planogram.reference.is_relative_to(path.resolve().parent):
        value["reference"] = str(planogram.reference.relative_to(path.resolve().parent))
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(value, file)
