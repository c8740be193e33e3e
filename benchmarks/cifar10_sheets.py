"""CIFAR-10 as sheets of tiles, made into the one `.npz` that `shelfkit train` reads.

Usage: python benchmarks/cifar10_sheets.py SHEETS OUT.npz [--held-out 5000] [--seed 7]

SHEETS holds `train_00.webp`, `train_01.webp`, ...: lossless pictures of 50 x 50 tiles of 32 x 32 px,
row by row, in the order of `y_train.npy`. OUT has the names that Keras uses: x_train, y_train,
x_test, y_test. Its test part is drawn by seed from the labelled pictures, the same number of each
class, and training never sees it: `shelfkit train` takes the part `test` of a data set as its
holdout. It is not the test set of CIFAR-10, which is not in the sheets.

An `.npz` carries no class names: `shelfkit train` calls the classes "0" to "9", in the order
airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
"""

import sys
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from edge_agent.contracts.command import new_app, print_json, run_command
from edge_agent.contracts.errors import DataError, UsageError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.pictures import read_picture

TILE_PX = 32
app = new_app()
Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]


@app.command()
def main(
    sheets: Annotated[Path, typer.Argument(help="Folder with train_*.webp and y_train.npy.")],
    out: Annotated[Path, typer.Argument(help="The .npz to write.")],
    held_out: Annotated[int, typer.Option(min=1, help="Pictures of the test part.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Draws the test part.")] = 7,
) -> None:
    """Cut the sheets into pictures, hold some out, and write one .npz."""
    if out.suffix != ".npz":
        raise UsageError(f"Expected: OUT as a file *.npz. Received: {out}.")
    images, labels = read_sheets(sheets)
    rows = draw(labels, held_out, seed)
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    try:
        with written_beside(out) as staged, staged.open("wb") as file:
            np.savez(
                file, x_train=images[rest], y_train=labels[rest], x_test=images[rows], y_test=labels[rows]
            )
    except OSError as exc:
        raise DataError(f"Expected: room for the pictures. Received: {out}: {exc.strerror}.") from exc
    print_json({"out": str(out), "train": len(rest), "held_out": len(rows), "seed": seed})


def read_sheets(folder: Path) -> tuple[Pictures, Labels]:
    """Return all pictures of a folder of sheets, uint8 (n, 32, 32, 3) RGB, and their labels, int64 (n,).

    Raises:
        DataError: No sheets, none that can be read, or another number of labels.
    """
    files = sorted(folder.glob("train_*.webp"))
    if not files:
        raise DataError(f"Expected: sheets train_*.webp in {folder}. Received: none.")
    images = np.concatenate([_tiles(file) for file in files])
    try:
        labels = np.asarray(np.load(folder / "y_train.npy", allow_pickle=False)).reshape(-1).astype(np.int64)
    except (OSError, ValueError) as exc:
        raise DataError(f"Expected: labels in {folder / 'y_train.npy'}. Received: {exc}.") from exc
    if len(labels) != len(images):
        raise DataError(f"Expected: {len(images)} labels, one of each tile. Received: {len(labels)}.")
    return images, labels


def _tiles(file: Path) -> Pictures:
    sheet = cv2.cvtColor(read_picture(file), cv2.COLOR_BGR2RGB)
    height, width = sheet.shape[:2]
    if height % TILE_PX or width % TILE_PX:
        raise DataError(f"Expected: tiles of {TILE_PX} px in {file}. Received: {width}x{height} px.")
    tiles = sheet.reshape(height // TILE_PX, TILE_PX, width // TILE_PX, TILE_PX, 3).swapaxes(1, 2)
    return np.asarray(tiles.reshape(-1, TILE_PX, TILE_PX, 3), np.uint8)


def draw(labels: Labels, count: int, seed: int) -> Labels:
    """Return the rows of a draw with the same number of each class, int64 (count,), in order.

    Raises:
        UsageError: The count cannot be shared evenly, or a class has too few.
    """
    classes, totals = np.unique(labels, return_counts=True)
    each, left = divmod(count, len(classes))
    if left or each >= totals.min():
        raise UsageError(
            f"Expected: --held-out as a multiple of {len(classes)}, less than {totals.min()} of each class. "
            f"Received: {count}."
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    return np.asarray(np.sort(np.concatenate(drawn)), np.int64)


if __name__ == "__main__":
    sys.exit(run_command(app))
