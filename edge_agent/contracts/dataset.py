"""Labelled photos in every layout that the kit reads; train, convert and agent share these readers.

    folder/CLASS/photo.jpg                       one folder for each class
    folder/{train,val,test}/CLASS/photo.jpg      the same, already split
    folder/index.csv                             path,label[,split,group,x0,y0,x1,y1,gtin,name,coarse]
    folder/{train,val,test}.txt, classes.csv     GroceryStore: path, fine id, coarse id
    file.npz                                     x_train, y_train, x_test, y_test, as Keras has them

A photo that cannot be used is listed with its reason and left out; it never stops anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts import grocerystore
from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.entries import MOST_CLASSES, entries, places
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.index import COLUMNS, INDEX, PART_NAMES, PARTS, read_index, write_index
from edge_agent.contracts.photos import NO_CLASS, Dataset, Part, Photo, Rejected
from edge_agent.contracts.pictures import FOREIGN, KINDS
from edge_agent.contracts.preprocess import Image

__all__ = (
    "COLUMNS",
    "INDEX",
    "LEVELS",
    "PARTS",
    "SUFFIXES",
    "from_arrays",
    "read",
    "unlabelled",
    "write_index",
)

LEVELS: tuple[Literal["fine", "coarse"], ...] = ("fine", "coarse")
SUFFIXES = frozenset(KINDS)
_HINT = "lay photos out as one folder for each class, or write an index.csv with path,label"


def read(path: Path, *, levels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """Find the layout of a data set and list its photos; no picture is decoded yet.

    Args:
        path: A folder, or an .npz file.
        levels: Which classes to use where a data set has two levels of them (GroceryStore, an
            index with a column `coarse`).

    Raises:
        DataError: Nothing there, no layout that the kit knows, or no class with a photo.
    """
    try:
        found = _read(path, levels)
    except OSError as exc:
        raise DataError(
            f"Expected: photos that can be listed in {path}. Received: {exc.strerror}: {exc.filename}."
        ) from exc
    if not found.photos:
        raise _empty(path, found.rejected)
    return found


def _read(path: Path, levels: Literal["fine", "coarse"]) -> Dataset:
    if path.suffix == ".npz":
        return _read_arrays(path)
    if not path.is_dir():
        raise DataError(f"Expected: a folder of photos or an .npz file. Received: {path}.", hint=_HINT)
    if (path / INDEX).is_file():
        return read_index(path, levels)
    if grocerystore.is_here(path):
        return grocerystore.read_lists(path, levels)
    return _read_folders(path)


def _empty(path: Path, rejected: Sequence[Rejected]) -> DataError:
    reasons = "; ".join(f"{item.name}: {item.reason}" for item in rejected[:3])
    received = f"none in {path}" + (f" that can be used ({reasons})" if reasons else "")
    return DataError(f"Expected: labelled photos. Received: {received}.", hint=_HINT)


def unlabelled(path: Path) -> Dataset:
    """List photos whose labels do not matter: any layout of `read`, or any folder with pictures in it.

    Raises:
        DataError: Nothing there, or no picture.
    """
    known = path.suffix == ".npz" or (path / INDEX).is_file() or grocerystore.is_here(path)
    if known or not path.is_dir():
        found = read(path)
        photos = [replace(photo, label=NO_CLASS) for photo in found.photos]
        return Dataset(path, [], photos, found.rejected)
    files, rejected = _pictures(path, path)
    names = [str(file.relative_to(path)) for file in files]
    photos = [Photo(file, NO_CLASS, None, name, name) for file, name in zip(files, names, strict=True)]
    if not photos:
        raise _empty(path, rejected)
    return Dataset(path, [], photos, rejected)


def _read_folders(path: Path) -> Dataset:
    roots = _roots(path)
    names = sorted({entry.name for _, root in roots for entry in _folders(root)})
    classes = entries(path, {name: {} for name in names})
    place = places(classes)
    photos: list[Photo] = []
    rejected: list[Rejected] = []
    for part, root in roots:
        rejected += [
            Rejected(str(file.relative_to(path)), "expected photos in the folder of a class; this is in none")
            for file in sorted(root.iterdir())
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
        for folder in _folders(root):
            files, foreign = _pictures(folder, path)
            rejected += foreign
            if not files and part in {None, "train"}:
                raise DataError(
                    f"Expected: photos in every class. Received: none in {folder}.",
                    hint="put photos there, or remove the folder",
                )
            for file in files:
                name = str(file.relative_to(path))
                photos.append(Photo(file, place[folder.name], part, name, name))
    return Dataset(path, classes, photos, rejected)


def _roots(path: Path) -> list[tuple[Part | None, Path]]:
    """Return the folders that have classes in them, and which part each is."""
    named = {entry: PART_NAMES.get(entry.name.lower()) for entry in _folders(path)}
    parts: list[tuple[Part | None, Path]] = [(part, entry) for entry, part in named.items() if part]
    if parts and len(parts) < len(named):
        other = next(entry.name for entry, part in named.items() if part is None)
        raise DataError(
            f"Expected: classes, or train, val and test with classes in them. "
            f"Received: both {parts[0][1].name!r} and {other!r} in {path}.",
            hint="move the classes into the parts, or the parts elsewhere",
        )
    return parts or [(None, path)]


def _folders(path: Path) -> list[Path]:
    return [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]


def _pictures(folder: Path, root: Path) -> tuple[list[Path], list[Rejected]]:
    """Return the photos below a folder, and the pictures and videos that the kit does not read."""
    files: list[Path] = []
    rejected: list[Rejected] = []
    for file in sorted(folder.rglob("*")):
        suffix = file.suffix.lower()
        # Other programs' notes: thumbnails, and what macOS leaves beside each file.
        hidden = any(name.startswith(".") for name in file.relative_to(folder).parts)
        if suffix in SUFFIXES and not hidden:
            files.append(file)
        elif suffix in FOREIGN and not hidden:
            said = f"expected one of {' '.join(sorted(SUFFIXES))}; received {suffix}"
            rejected.append(Rejected(str(file.relative_to(root)), said))
    return files, rejected


def _read_arrays(path: Path) -> Dataset:
    parts: dict[Part, tuple[NDArray[Any], NDArray[Any]]] = {}
    for part in ("train", "test"):
        images, labels = read_npz(path, (f"x_{part}", f"y_{part}"))
        parts[part] = images, labels
    return from_arrays(path, parts)


def from_arrays(
    path: Path,
    parts: Mapping[Part, tuple[NDArray[Any], NDArray[Any]]],
    names: Sequence[str] | None = None,
) -> Dataset:
    """Make a data set of arrays, as Keras has them; pictures are views, nothing is copied.

    Args:
        path: What to call it.
        parts: Pictures, uint8 (n, height, width), (n, height, width, 1) or (n, height, width, 3),
            grey or RGB, and labels, integers (n,) or (n, 1), of each part.
        names: Of the classes, by number; None: the numbers themselves.

    Raises:
        DataError: The arrays are something else, or do not belong together.
    """
    photos: list[Photo] = []
    highest = len(names) - 1 if names else -1
    for part, (images, labels) in parts.items():
        numbers = _numbers(part, images, labels)
        top = int(numbers.max(initial=-1))
        if top >= MOST_CLASSES or (names and top >= len(names)):
            raise DataError(
                f"Expected: numbers of classes below {len(names) if names else MOST_CLASSES} in y_{part} of "
                f"{path}. Received: {top}."
            )
        highest = max(highest, top)
        for number, (image, label) in enumerate(zip(images, numbers.tolist(), strict=True)):
            name = f"{part}/{number}"
            photos.append(Photo(_bgr(image), label, part, name, name))
    labels_of = names or [str(number) for number in range(highest + 1)]
    return Dataset(path, entries(path, {name: {} for name in labels_of}), photos)


def _numbers(part: str, images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the labels of one part, checked together with its pictures."""
    pictures = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in {1, 3})  # noqa: PLR2004 - grey, RGB
    whole = labels.dtype.kind in "iu" and len(images) == labels.size and labels.min(initial=0) >= 0
    # What does not fit into 63 bits is no class either; it must not turn negative unseen.
    whole = whole and labels.max(initial=0) <= np.iinfo(np.int64).max
    if images.dtype != np.uint8 or not pictures or not whole:
        raise DataError(
            f"Expected: x_{part} as uint8 pictures, grey or RGB, and their numbers in y_{part}. "
            f"Received: {images.dtype} {images.shape} and {labels.dtype} {labels.shape}."
        )
    return labels.reshape(-1).astype(np.int64)


def _bgr(image: NDArray[np.uint8]) -> Image:
    """Show a Keras picture (RGB or grey) as the rest of the kit has them."""
    if image.ndim == 3 and image.shape[2] == 3:  # noqa: PLR2004 - RGB
        return image[..., ::-1]
    grey = image.reshape(*image.shape[:2], 1)
    return np.broadcast_to(grey, (*image.shape[:2], 3))
