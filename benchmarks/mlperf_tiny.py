"""MLPerf Tiny's ResNet-8 for CIFAR-10, converted here, beside the int8 file of its makers.

Usage: python benchmarks/mlperf_tiny.py MODELS PICTURES.npz [--count 2000] [--seed 7] [--result FILE.json]

MODELS is the folder of mlcommons/tiny's trained image classification models (pretrainedResnet.h5,
pretrainedResnet.tflite, pretrainedResnet_quant.tflite, pretrainedResnet_large_int8.tflite), PICTURES an .npz
as `cifar10_sheets.py` writes it, or one of `keras.datasets.cifar10`. Some of x_train calibrate, some
of x_test judge. The networks were trained on the 50,000 training pictures: where x_test comes from
these, accuracies say nothing, but agreement with the float network and the drop from it do.

The kit's own bundles in `models/` stand beside them: `kit, cifar10` answers the same pictures (those that
`cifar10_sheets.py` holds out are new to it), and both carry the drop and the agreement of their own
scorecards. Times are of one picture through the device's classifier, one thread, all of them in turns.

Banbury et al. 2021, "MLPerf Tiny Benchmark" (NeurIPS datasets and benchmarks).
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import commands, measured
from convert import flatbuffer
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle
from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.command import new_app, run_command
from edge_agent.contracts.scoring import accuracy

_SCRIPT = "mlperf_tiny.py"
_OPEN = ("--max-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0, "--max-calibration-rise", 100)
_READY = {
    "float": "pretrainedResnet.tflite",
    "int8 of its makers": "pretrainedResnet_quant.tflite",
    "large int8 of its makers": "pretrainedResnet_large_int8.tflite",
}
_OWN = Path(__file__).parent / "models"
_TURNS, _A_TURN = 9, 40
app = new_app(help="MLPerf Tiny's ResNet-8, converted here and by its makers.")


@app.command()
def compare(
    models: Annotated[Path, typer.Argument(help="Folder of the trained models.")],
    pictures: Annotated[Path, typer.Argument(help=".npz with x_train, y_train, x_test, y_test.")],
    count: Annotated[int, typer.Option(min=100, help="Pictures to judge by.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures.")] = 7,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Convert, import, and let all of them answer the same pictures."""
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        images, truth = _drawn(pictures, room / "drawn.npz", count, seed)
        (room / "labels.txt").write_text("".join(f"{number}\n" for number in range(10)))
        common = ("--labels", room / "labels.txt", "--pixels", "0..255")
        for name, file in _READY.items():
            commands.kit("convert", "import", models / file, *common, "--out", room / name)
        words = (*common, "--data", room / "drawn.npz", "--qat", "never", *_OPEN)
        commands.kit("convert", "import", models / "pretrainedResnet.h5", *words, "--out", room / "ours")
        answers = {name: _answers(room / name, images) for name in (*_READY, "ours")}
        exact = answers["float"].argmax(axis=1)
        figures = {
            name: {"accuracy": accuracy(truth, scores)} | _size(room / name)
            for name, scores in answers.items()
        }
        # The large one is another network than the float one here.
        for name in ("int8 of its makers", "ours"):
            figures[name] |= {
                "drop_points": 100 * (figures["float"]["accuracy"] - figures[name]["accuracy"]),
                "agreement_with_float": float((answers[name].argmax(axis=1) == exact).mean()),
            }
        figures["kit, cifar10"] = {"accuracy": accuracy(truth, _answers(_OWN / "cifar10", images))}
        for name in ("cifar10", "grocerystore"):
            figures.setdefault(f"kit, {name}", {}).update(_size(_OWN / name) | _card(_OWN / name))
        folders = {name: _OWN / name[5:] if name.startswith("kit, ") else room / name for name in figures}
        for name, ms in _times(folders, seed).items():
            figures[name]["ms"] = ms
    measured.tell({"n": len(truth), "models": figures}, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _drawn(source: Path, place: Path, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Write a data set of 500 pictures that calibrate and `count` that judge; return the latter."""
    x_train, y_train, x_test, y_test = read_npz(source, ("x_train", "y_train", "x_test", "y_test"))
    rng = np.random.default_rng(seed)
    few, judged = rng.permutation(len(x_train))[:500], rng.permutation(len(x_test))[:count]
    np.savez(place, x_train=x_train[few], y_train=y_train[few], x_test=x_test[judged], y_test=y_test[judged])
    return x_test[judged], np.asarray(y_test[judged], np.int64).ravel()


def _answers(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return Classifier(bundle.read(folder)).scores(images)


def _size(folder: Path) -> dict[str, Any]:
    content = bundle.read(folder).model.read_bytes()
    return {"bytes": len(content), "multiply_adds": flatbuffer.read(content).multiply_adds}


def _card(folder: Path) -> dict[str, Any]:
    """Return what a bundle's own scorecard says of its pictures, which nothing had seen."""
    card = bundle.read(folder).manifest.scorecard
    if card is None:
        return {}
    return {"drop_points": card.drop_points, "agreement_with_float": card.agreement, "of_its_own": card.n}


def _times(folders: Mapping[str, Path], seed: int) -> dict[str, float]:
    """Return milliseconds for one picture: the median of turns, in each of which all have theirs."""
    rng = np.random.default_rng(seed)
    ready = {name: Classifier(bundle.read(folder)) for name, folder in folders.items()}
    shapes = {name: (_A_TURN, model.height, model.width, 3) for name, model in ready.items()}
    noise = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
    took: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(_TURNS):
        for name, model in ready.items():
            began = time.perf_counter()
            model.scores(noise[name])
            took[name].append(1000 * (time.perf_counter() - began) / _A_TURN)
    return {name: round(float(np.median(turns)), 4) for name, turns in took.items()}


if __name__ == "__main__":
    sys.exit(run_command(app))
