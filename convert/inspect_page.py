"""`inspect` as a page for people: text, or one HTML file that needs no other and runs no script.

Names in a model file and in a manifest come from strangers: the HTML escapes them, a content security
policy forbids whatever is not in the page, and the text shows no control character.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert import edgetpu, pages
from convert.flatbuffer import Tensor, floats
from convert.inspect_model import Description
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.preprocess import fit

ROWS = 1000
"""Shown at most of anything: forged files may have a million operators."""
_NAME = 60
_JPEG_QUALITY = 95


def write_html(path: Path, shown: Description, mapping: list[edgetpu.Mapping] | None) -> None:
    """Write the page.

    Raises:
        OSError: It cannot be written.
    """
    environment = pages.templates()
    environment.filters |= {"kib": kib, "count": count, "quantization": quantization, "shape": shape}
    page = environment.get_template("inspect.html").render(
        d=shown,
        m=shown.manifest,
        rows=ROWS,
        floats=floats(shown.graph),
        pictures=[(data_uri(golden.image), golden) for golden in shown.goldens[:64]],
        most_adds=max((step.multiply_adds for step in shown.steps), default=0) or 1,
        most_bytes=max((step.constant_bytes for step in shown.steps), default=0) or 1,
        mapping=mapping,
        mapped=sum(one.maps for one in mapping or []),
        notice=edgetpu.NOTICE,
    )
    path.write_text(page, encoding="utf-8")


def lines(shown: Description, mapping: list[edgetpu.Mapping] | None) -> Iterator[str]:
    """Give the page as lines of text."""
    graph, manifest = shown.graph, shown.manifest
    yield plain(shown.name) + (f", sha256 {shown.sha256[:12]}" if shown.sha256 else "")
    yield (
        f"  {kib(shown.file_bytes)}, of these {kib(graph.constant_bytes)} constants; "
        f"{count(graph.multiply_adds)} multiply-adds a picture; activations at their peak "
        f"{kib(shown.peak_bytes)} (an arena takes at least that)"
    )
    for word, indexes in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in (graph.tensors[at] for at in indexes[:ROWS]):
            yield f"  {word:6} {tensor.dtype} {shape(tensor)}, {quantization(tensor)}  {plain(tensor.name)}"
    used = floats(graph)
    yield f"  float tensors: {f'{len(used)} uses, the first by {plain(str(used[0]))}' if used else 'none'}"
    yield ""
    yield from _operators(shown, mapping)
    if mapping is not None:
        yield ""
        yield f"Edge TPU: {sum(one.maps for one in mapping)} of {len(mapping)} operators should map."
        yield f"  {edgetpu.NOTICE}"
    if manifest is not None:
        yield ""
        yield from _manifest(shown)


def _operators(shown: Description, mapping: list[edgetpu.Mapping] | None) -> Iterator[str]:
    yield f"{'#':>4} {'operator':24} {'output':>24} {'multiply-adds':>14} {'constants':>11}"
    for step in shown.steps[:ROWS]:
        output = f"{step.output.dtype} {shape(step.output)}" if step.output else ""
        line = (
            f"{step.at:4} {plain(step.operator):24} {output:>24} {step.multiply_adds:14,} "
            f"{kib(step.constant_bytes):>11}"
        )
        yield line if mapping is None else f"{line}  {verdict(mapping[step.at])}"
    if len(shown.steps) > ROWS:
        yield f"  and {len(shown.steps) - ROWS} more"


def _manifest(shown: Description) -> Iterator[str]:
    manifest = shown.manifest
    if manifest is None:
        return
    yield f"{len(manifest.labels)} classes; unknown below {manifest.calibration.unknown_below:.3f}"
    card = manifest.scorecard
    if card is not None:
        yield (
            f"float {100 * card.float32.accuracy:.2f} %, int8 {100 * card.int8.accuracy:.2f} % of {card.n} "
            f"held-out photos; drop {card.drop_points:.2f} points, agreement {100 * card.agreement:.2f} %"
        )
        for label, recall in list(card.int8.recall.items())[:ROWS]:
            before = card.float32.recall.get(label)
            shown_before = "    -" if before is None else f"{100 * before:5.1f}"
            yield f"  {plain(label):30} float {shown_before} %  int8 {100 * recall:5.1f} %"
    source = manifest.provenance
    yield (
        f"made with {source.quantization}; run {source.run_sha256[:12]}, "
        f"data set {source.dataset_sha256[:12]}"
    )
    yield "  " + ", ".join(f"{plain(name)} {plain(number)}" for name, number in source.packages.items())


def verdict(one: edgetpu.Mapping) -> str:
    """Say in words what becomes of an operator."""
    if one.maps:
        return "Edge TPU"
    return f"CPU: {'; '.join(one.reasons)}" if one.reasons else "CPU: after the first that does not map"


def plain(text: str) -> str:
    """Return a stranger's text for a terminal: short, and no character that steers it."""
    kept = "".join(letter if letter.isprintable() else "?" for letter in text[: _NAME + 1])
    return kept if len(kept) <= _NAME else kept[: _NAME - 1] + "\u2026"


def kib(size: int) -> str:
    """Return bytes for people."""
    return f"{size} B" if size < 1024 else f"{size / 1024:,.1f} KiB"  # noqa: PLR2004 - the unit's own size


def count(number: int) -> str:
    """Return a large number for people."""
    return f"{number / 1e6:,.2f} M" if number >= 1e6 else f"{number:,}"  # noqa: PLR2004 - a million


def shape(tensor: Tensor) -> str:
    """Return sizes, an open one as `?`."""
    return "\u00d7".join("?" if size < 0 else str(size) for size in tensor.shape) or "scalar"


def quantization(tensor: Tensor) -> str:
    """Say how its integers become values."""
    if not tensor.scales:
        return "not quantized"
    if len(tensor.scales) == 1:
        return f"scale {tensor.scales[0]:.6g}, zero point {(*tensor.zero_points, 0)[0]}"
    low, high = min(tensor.scales), max(tensor.scales)
    return f"{len(tensor.scales)} scales along axis {tensor.axis}, {low:.3g} to {high:.3g}"


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return uint8 (height, width, 3) RGB as an inline JPEG of at most 96 px a side."""
    scale = min(1.0, 96 / max(picture.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    small = fit(np.ascontiguousarray(picture[..., ::-1]), height, width)
    data = jpeg(np.asarray(small[..., ::-1], np.uint8), _JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def page_json(shown: Description, mapping: list[edgetpu.Mapping] | None) -> dict[str, Any]:
    """Return everything as JSON."""
    value = shown.as_json()
    if mapping is not None:
        value["edgetpu"] = {
            "notice": edgetpu.NOTICE,
            "mapped": sum(one.maps for one in mapping),
            "operators": [
                {"operator": one.operator, "maps": one.maps, "reasons": list(one.reasons)} for one in mapping
            ],
        }
    return value
