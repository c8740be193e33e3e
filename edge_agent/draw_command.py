"""`shelfkit agent slots`: from a camera, or a picture, to a planogram that is right or refused."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from edge_agent.camera.base import Camera
from edge_agent.camera.open import open_camera
from edge_agent.contracts import bundle, config, planogram
from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.command import print_json
from edge_agent.contracts.errors import DataError, DeviceError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.pictures import jpeg
from edge_agent.contracts.planogram import Planogram, Product, Slot
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.validation import explain
from edge_agent.contracts.yamlfile import ProblemsError
from edge_agent.draw import Row, drawn, overlaps, parse_row, repeated
from edge_agent.faults import Look, judge

PLANOGRAM, REFERENCE, PICTURE = "planogram.yaml", "reference.jpg", "slots.jpg"
_QUALITY = 95
_SETTLE_S = 1.0
"""A camera needs a moment to find its exposure."""
_MOST_FRAMES = 250
_MOST_FAILURES = 5
_FLAT = 4.0
"""Levels of grey that a picture of something differs by, at least."""
_MUCH = 0.05


def slots(  # noqa: PLR0913, PLR0917 - one parameter for each option
    out: Annotated[Path, typer.Option(help="Folder for what is made; with --show: the picture to write.")],
    source: Annotated[
        str,
        typer.Option(
            help="Take the reference picture here: a camera as in device.yaml, file:, folder:, shelf:."
        ),
    ] = "",
    reference: Annotated[Path | None, typer.Option(help="Or use this picture.")] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(help='A row of slots: "NAME: x,y x,y x,y x,y / COLUMNS". Again for each row.'),
    ] = None,
    products: Annotated[
        list[str] | None,
        typer.Option(help="What belongs into a row: one label, or one for each slot. Again for each row."),
    ] = None,
    gap: Annotated[float, typer.Option(min=0, help="Px to leave out between two slots of a row.")] = 0.0,
    shelf: Annotated[str, typer.Option(help="Name of the shelf, as events tell it.")] = "1",
    name: Annotated[
        list[str] | None, typer.Option(help="LABEL=NAME for people. Again for each product.")
    ] = None,
    gtin: Annotated[list[str] | None, typer.Option(help="LABEL=GTIN. Again for each product.")] = None,
    low_at: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=COUNT of facings at which stock is low. Again for each product."),
    ] = None,
    labels_from: Annotated[
        Path | None,
        typer.Option(help="A bundle: its names and GTINs are used, labels it does not know are refused."),
    ] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT to ask the camera for, as in device.yaml.")] = "",
    rotate: Annotated[int, typer.Option(help="0, 90, 180 or 270 degrees clockwise, as in device.yaml.")] = 0,
    show: Annotated[Path | None, typer.Option(help="Only draw the slots of this planogram.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a planogram that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Say where the slots of a shelf are: planogram.yaml, reference.jpg, and slots.jpg to check by eye.

    A row is four corners in px of the picture, clockwise from the top left, and a number of columns,
    or how wide each is beside the others (2,2,3). It is divided as it is on the shelf, also where the
    camera looks from the side. Any picture viewer shows px. Nothing is written unless the agent can
    use it.

    \b
    Examples:
      shelfkit agent slots --source v4l2:/dev/video0 --size 1920x1080 --out shelf \\
          --row "A: 410,80 1500,60 1510,300 405,310 / 8" --products "milk-1l*5,tea-mint*3"
      shelfkit agent slots --reference shelf.jpg --out shelf --row "A: 40,90 590,90 590,325 40,325 / 3" \\
          --products bottle --name "bottle=Bottle 0.7 l" --gtin bottle=09506000134352
      shelfkit agent slots --show shelf/planogram.yaml --out slots.jpg
    """  # noqa: D301 - click needs the character itself to keep the lines
    if show is not None:
        if source or reference or row or products:
            raise UsageError("Expected: --show with --out alone. Received: other options beside it.")
        _show(show, out, as_json=as_json)
        return
    rows = _rows(row or [])
    per_row = _products(rows, products or [])
    entries = bundle.read(labels_from).manifest.labels if labels_from else None
    known = None if entries is None else [entry.label for entry in entries]
    told = {
        "name": _pairs("--name", name),
        "gtin": _pairs("--gtin", gtin),
        "low_at": _pairs("--low-at", low_at),
    }
    if (out / PLANOGRAM).exists() and not force:
        raise UsageError(
            f"Expected: --out without a planogram. Received: {out / PLANOGRAM}, which is there.",
            hint="name another folder, or add --force to replace it",
        )
    made = _planogram(shelf, rows, per_row, gap, _catalogue(per_row, told, entries or []))
    picture = _picture(source, reference, size, rotate)
    _inside(rows, picture)
    _write(out, made, picture, known)
    for one, other, share in overlaps(rows):
        if share > _MUCH:
            text = f"warning: rows {one} and {other} overlap by {share:.0%}; look at {out / PICTURE}"
            typer.echo(text, err=True)
    _tell(out, made, picture, as_json=as_json)


def _rows(texts: Sequence[str]) -> list[Row]:
    rows = [parse_row(text) for text in texts]
    if not rows:
        raise UsageError(
            "Expected: at least one --row. Received: none.",
            hint='--row "A: 410,80 1500,60 1510,300 405,310 / 8": clockwise from the top left',
        )
    names = [name for row in rows for name in row.ids]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"Expected: rows whose slots have different ids. Received: {', '.join(twice):.200} twice.",
            hint="give each row a name of its own",
        )
    return rows


def _products(rows: Sequence[Row], texts: Sequence[str]) -> list[list[str]]:
    """Return the label of each slot of each row."""
    if len(texts) != len(rows):
        raise UsageError(
            f"Expected: as many --products as --row, in the same order. "
            f"Received: {len(texts)} for {len(rows)} rows.",
            hint='one label for a whole row, or one for each slot: --products "milk-1l*5,tea-mint*3"',
        )
    return [_row_products(row, text) for row, text in zip(rows, texts, strict=True)]


def _row_products(row: Row, text: str) -> list[str]:
    labels = repeated(text)
    if len(labels) == 1 and "*" not in text:
        labels *= row.columns
    if len(labels) != row.columns:
        raise UsageError(
            f"Expected: --products of row {row.name} for {row.columns} slots. "
            f"Received: {len(labels)}, {text!r}.",
            hint="one label for the whole row, LABEL,LABEL,... or LABEL*COUNT,...",
        )
    return labels


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        label, equals, value = text.partition("=")
        if not (label and equals and value):
            raise UsageError(f"Expected: {option} as LABEL=VALUE. Received: {text!r}.")
        pairs[label] = value
    return pairs


def _catalogue(
    per_row: Sequence[Sequence[str]], told: Mapping[str, Mapping[str, str]], entries: Sequence[LabelEntry]
) -> list[Product]:
    """Return the products of the shelf: what was told of them, else what the bundle knows, else the label."""
    labels = list(dict.fromkeys(label for row in per_row for label in row))
    bundled = {entry.label: entry for entry in entries}
    for option, given in told.items():
        if strange := sorted(given.keys() - set(labels)):
            raise UsageError(
                f"Expected: --{option.replace('_', '-')} for a product of the rows, "
                f"{', '.join(labels):.200}. Received: {', '.join(strange):.200}."
            )
    found = []
    for label in labels:
        entry = bundled.get(label)
        values: dict[str, object] = {"label": label, "name": (entry.name if entry else "") or label}
        values["gtin"] = entry.gtin if entry else None
        values |= {option: given[label] for option, given in told.items() if label in given}
        try:
            found.append(Product.model_validate(values))
        except ValidationError as exc:
            raise UsageError(
                f"Expected: a product {label!r} as a planogram can have it. Received: {explain(exc)}"
            ) from exc
    return found


def _planogram(
    shelf: str, rows: Sequence[Row], per_row: Sequence[Sequence[str]], gap: float, products: list[Product]
) -> Planogram:
    found = [
        Slot(id=name, quad=quad, product=label)
        for row, labels in zip(rows, per_row, strict=True)
        for (name, quad), label in zip(row.slots(gap), labels, strict=True)
    ]
    try:
        return Planogram(shelf=shelf, reference=Path(REFERENCE), products=products, slots=found)
    except ValidationError as exc:
        raise UsageError(f"Expected: --shelf as a name. Received: {explain(exc)}.") from exc


def _picture(source: str, reference: Path | None, size: str, rotate: int) -> Image:
    if bool(source) == bool(reference):
        raise UsageError(
            f"Expected: --source or --reference. Received: {'both' if source else 'neither'}.",
            hint="for example --source v4l2:/dev/video0, --source file:clip.mp4, or --reference shelf.jpg",
        )
    if reference is not None:
        try:
            return read_picture(reference)
        except DataError as exc:
            raise DataError(f"{reference}: {exc}") from exc
    live = not source.startswith(("file:", "folder:", "shelf:"))
    with open_camera(_settings(source, size, rotate), live=live) as camera:
        return first_good(camera, settle_s=_SETTLE_S if live else 0.0)


def _settings(source: str, size: str, rotate: int) -> config.Camera:
    values: dict[str, object] = {"source": source, "rotate": rotate}
    if size:
        wide, times, tall = size.partition("x")
        values |= {"width": wide, "height": tall if times else None}
    hint = "for example --source v4l2:/dev/video0 --size 1920x1080 --rotate 90"
    return config.camera_of(values, hint=hint)


def first_good(camera: Camera, *, settle_s: float) -> Image:
    """Return the first frame that shows something: neither dark nor glaring, nor the same all over.

    Args:
        camera: Just opened.
        settle_s: How long to pass frames over first, so that a camera can find its exposure.

    Raises:
        DeviceError: The camera gives none.
        DataError: No frame of the source is good.
    """
    failures, begin = 0, None
    for _ in range(_MOST_FRAMES):
        try:
            frame = camera.read()
        except DeviceError:
            failures += 1
            if failures == _MOST_FAILURES:
                raise
            continue
        if frame is None:
            break
        begin = frame.at if begin is None else begin
        if frame.at - begin >= settle_s and _shows_something(frame.image):
            return frame.image
    raise DataError(
        "Expected: a frame that shows the shelf. Received: only dark, glaring or blank ones.",
        hint="switch the light on, take the cap off; or give a picture with --reference",
    )


def _shows_something(image: Image) -> bool:
    look = Look.of(image)
    return not judge(look, look) and float(look.grey.std()) >= _FLAT


def _inside(rows: Sequence[Row], picture: Image) -> None:
    height, width = picture.shape[:2]
    for row in rows:
        outside = [f"{x:g},{y:g}" for x, y in row.quad if not (0 <= x <= width and 0 <= y <= height)]
        if outside:
            raise UsageError(
                f"Expected: row {row.name} inside the picture, which is {width}x{height} px. "
                f"Received: {' '.join(outside)}.",
                hint="leave out slots that are only partly in the picture",
            )


def _write(out: Path, made: Planogram, picture: Image, known: list[str] | None) -> None:
    """Write everything beside first, and move it only if the agent could use it; the planogram last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out) as room:
            staged = Path(room)
            (staged / REFERENCE).write_bytes(jpeg(picture, _QUALITY))
            planogram.write(made, staged / PLANOGRAM)
            document = planogram.read(staged / PLANOGRAM, known_labels=known)
            if document.problems:
                # The file is gone when the message is read: its lines would lead nowhere.
                told = [replace(item, file=out / PLANOGRAM, line=None) for item in document.problems]
                raise ProblemsError(told, hint="nothing was written")
            # Drawn on what was written, which is what the agent will compare frames with.
            (staged / PICTURE).write_bytes(jpeg(drawn(read_picture(staged / REFERENCE), made), _QUALITY))
            for name in (REFERENCE, PICTURE, PLANOGRAM):
                with written_beside(out / name) as fresh:
                    shutil.copyfile(staged / name, fresh)
    except OSError as exc:
        raise DataError(f"Expected: to write into --out {out}. Received: {exc.strerror}.") from exc


def _show(path: Path, out: Path, *, as_json: bool) -> None:
    """Draw the slots of a planogram that is there already."""
    if out.suffix.lower() not in {".jpg", ".jpeg"}:
        raise UsageError(f"Expected: --out as a file that ends in .jpg, with --show. Received: {out}.")
    made = planogram.read(path).require()
    picture = read_picture(made.reference)
    try:
        with written_beside(out) as fresh:
            fresh.write_bytes(jpeg(drawn(picture, made), _QUALITY))
    except OSError as exc:
        raise DataError(f"Expected: to write --out {out}. Received: {exc.strerror}.") from exc
    if as_json:
        print_json(_as_json(made, picture) | {"planogram": str(path), "picture": str(out)})
    else:
        typer.echo(f"{out}: {len(made.slots)} slots of {path}")


def _tell(out: Path, made: Planogram, picture: Image, *, as_json: bool) -> None:
    if as_json:
        places = {"planogram": out / PLANOGRAM, "reference": out / REFERENCE, "picture": out / PICTURE}
        print_json(_as_json(made, picture) | {name: str(place) for name, place in places.items()})
        return
    typer.echo(
        f"{out / PLANOGRAM}: {len(made.slots)} slots, {len(made.products)} products. "
        f"Look at {out / PICTURE} before you go on."
    )


def _as_json(made: Planogram, picture: Image) -> dict[str, object]:
    value = made.model_dump(mode="json", include={"shelf", "products", "slots"})
    return value | {"width": picture.shape[1], "height": picture.shape[0]}
