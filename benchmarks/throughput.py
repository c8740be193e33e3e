"""Photos a second in training: the kit's batches against `image_dataset_from_directory`, in turns.

Usage: python benchmarks/throughput.py PHOTOS [--image-px 96] [--epochs 2] [--rounds 2]

PHOTOS is any data set of picture files that `shelfkit train` reads. Every turn is a process of its
own with the same network (shelf-s), loss, optimizer and batch size; the turns of all ways follow one
another, round by round, so that a busy moment of the machine meets all of them:

    kit             the kit's batches, changed as for shelves, weights the same from the same seed
    kit-free        the same, without that promise (--no-deterministic)
    kit-plain       the kit's batches, unchanged photos, --no-deterministic
    keras           image_dataset_from_directory, unchanged photos: what its documentation shows
    keras-cached    the same with .cache(): decoded photos stay in memory as float32
    keras-changed   the first, with Keras layers that change photos about as the kit does: no blur,
                    covering, perspective or JPEG, which Keras layers have not

Each turn measures, after an epoch that does not count: `fit`, photos/s of `model.fit`; `data`, of the
pipeline alone; `step`, of the training step alone on one batch that is there already; `waiting`, the
share of time for which a loop of `train_on_batch` waits for its next batch. Data is no bottleneck
where `data` is above `step` and `waiting` near 0. `model.fit` of all ways is Keras' own.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import measured
from edge_agent.contracts import dataset, photos
from edge_agent.contracts.command import DefaultCommandGroup, new_app, one_of, print_json, run_command
from edge_agent.contracts.errors import DataError
from train.config import TrainConfig
from train.devices import choose_backend, computing

WAYS = ("kit", "kit-free", "kit-plain", "keras", "keras-cached", "keras-changed")
_RATIOS = (
    ("kit", "keras"),
    ("kit", "keras-changed"),
    ("kit-free", "keras-changed"),
    ("kit-plain", "keras"),
    ("kit-plain", "keras-cached"),
)
_SCRIPT = "throughput.py"
_PLAIN: dict[str, Any] = {"augment": 0.0, "shift": 0.0, "occlude": 0.0}
_KERAS_READS = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
app = new_app(
    cls=DefaultCommandGroup, no_args_is_help=True, help="The kit's batches against Keras' own, in turns."
)
_Photos = Annotated[Path, typer.Argument(help="Photos in files, any layout that the kit reads.")]
_Px = Annotated[int, typer.Option(min=32, max=512, help="Side of the network's input.")]
_Batch = Annotated[int, typer.Option(min=1, help="Photos of one step.")]
_Epochs = Annotated[int, typer.Option(min=1, help="Epochs of a turn that count.")]


@dataclass(frozen=True, slots=True)
class Feed:
    """One way to bring photos to the network.

    Attributes:
        endless: A `tf.data.Dataset` of (pixels, truth[, weights]) over all epochs.
        steps: Batches of one epoch.
        batch: Photos of one step, the mean: the last of an epoch may be smaller.
    """

    endless: Any
    steps: int
    batch: float


@app.command()
def main(
    photos_folder: _Photos,
    image_px: _Px = 96,
    batch_size: _Batch = 32,
    epochs: _Epochs = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 2,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Measure all ways in turns and print medians and ratios."""
    turns: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        classes = laid_out(photos_folder, Path(folder))
        options = ["--image-px", image_px, "--batch-size", batch_size, "--epochs", epochs]
        for _ in range(rounds):
            for way in WAYS:
                turns[way].append(_in_a_process("turn", way, folder, *options))
    fits = {way: statistics.median(turn["fit"] for turn in found) for way, found in turns.items()}
    figures = {
        "photos": sum(classes.values()),
        "classes": len(classes),
        "image_px": image_px,
        "batch_size": batch_size,
        "images_per_s": {way: _medians(found) for way, found in turns.items()},
        "ratios": {f"{one}/{other}": fits[one] / fits[other] for one, other in _RATIOS},
        "turns": turns,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


@app.command()
def turn(
    way: Annotated[str, typer.Argument(help=f"One of {', '.join(WAYS)}.")],
    folder: Annotated[Path, typer.Argument(help="A folder for each class.")],
    image_px: _Px = 96,
    batch_size: _Batch = 32,
    epochs: _Epochs = 2,
) -> None:
    """Measure one way, in this process."""
    one_of("way", way, WAYS)
    changes = _PLAIN if way == "kit-plain" else {}
    config = TrainConfig(
        image_px=image_px,
        batch_size=batch_size,
        # One before the clock, then those of `fit`, of the data alone, and of the loop that waits.
        epochs=3 * epochs + 2,
        deterministic=way == "kit",
        **changes,
    )
    choose_backend(config.backend)
    with computing(config):
        print_json(_measured(way, folder, config, epochs))


def laid_out(source: Path, folder: Path) -> dict[str, int]:
    """Make links to all photos of a data set, a folder for each class; return the counts.

    Raises:
        DataError: The photos are not in files of their own that Keras reads, too.
    """
    found = dataset.read(source)
    counts: dict[str, int] = {}
    for number, photo in enumerate(found.photos):
        file = photo.source
        if not isinstance(file, Path) or photo.box or file.suffix.lower() not in _KERAS_READS:
            raise DataError(
                f"Expected: photos in JPEG, PNG or BMP files. Received: {photo.name} in {source}."
            )
        label = f"class-{photo.label:05}"
        counts[label] = counts.get(label, 0) + 1
        place = folder / label / f"{number:07}{file.suffix}"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(file.resolve())
    return counts


def _in_a_process(*words: object) -> dict[str, float]:
    line = [sys.executable, __file__, *map(str, words)]
    print(f"$ python benchmarks/{_SCRIPT} {shlex.join(line[2:])}", file=sys.stderr, flush=True)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)
    return {key: float(value) for key, value in json.loads(done.stdout).items()}


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(found[key] for found in turns) for key in turns[0]}


def _measured(way: str, folder: Path, config: TrainConfig, epochs: int) -> dict[str, float]:
    import keras  # noqa: PLC0415 - on the backend that was chosen

    from train import objective  # noqa: PLC0415 - brings Keras
    from train.model import build_model  # noqa: PLC0415

    keras.utils.set_random_seed(config.seed)
    feed = _kit(folder, config) if way.startswith("kit") else _keras(keras, way, folder, config)
    classes = sum(1 for entry in folder.iterdir())
    model = build_model(keras, config, classes)
    model.compile(
        objective.optimizer(config, config.epochs * feed.steps), objective.loss(config), metrics=["accuracy"]
    )
    batches = feed.steps * epochs
    fit_s = _fit_seconds(keras, model, feed, epochs)
    data_s = _seconds(islice(feed.endless, batches + 1))
    waited, loop_s = _waited(model, islice(feed.endless, batches))
    held = next(iter(feed.endless))
    step_s = _seconds(model.train_on_batch(*held) for _ in range(batches + 1))
    count = batches * feed.batch
    return {
        "fit": count / fit_s,
        "data": count / data_s,
        "step": batches * len(held[0]) / step_s,
        "waiting": waited / loop_s,
    }


def _fit_seconds(keras: Any, model: Any, feed: Feed, epochs: int) -> float:  # noqa: ANN401 - Keras has no types
    marks: list[float] = []
    mark = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _epoch, _logs: marks.append(time.perf_counter())
    )
    model.fit(feed.endless, steps_per_epoch=feed.steps, epochs=epochs + 1, verbose=0, callbacks=[mark])
    return marks[-1] - marks[0]


def _seconds(steps: Iterable[object]) -> float:
    """Return the time of all steps but the first, which starts things up."""
    steps = iter(steps)
    next(steps)
    began = time.perf_counter()
    for _ in steps:
        pass
    return time.perf_counter() - began


def _waited(model: Any, batches: Iterator[Any]) -> tuple[float, float]:  # noqa: ANN401 - Keras has no types
    """Return the seconds spent waiting for batches, and all seconds; the first batch does not count."""
    model.train_on_batch(*next(batches))
    began = time.perf_counter()
    waited = 0.0
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return waited, time.perf_counter() - began
        model.train_on_batch(*batch)


def _kit(folder: Path, config: TrainConfig) -> Feed:
    from train.batches import Batches  # noqa: PLC0415 - brings TensorFlow

    found = dataset.read(folder)
    pictures, _ = photos.decode(found, config.image_px, config.image_px)
    batches = Batches(pictures, np.arange(len(pictures)), config, len(found.classes))
    size = min(config.batch_size, len(pictures))
    return Feed(batches.stream(0, config.epochs * batches.steps), batches.steps, size)


def _keras(keras: Any, way: str, folder: Path, config: TrainConfig) -> Feed:  # noqa: ANN401
    found = keras.utils.image_dataset_from_directory(
        str(folder),
        label_mode="categorical",
        image_size=(config.image_px, config.image_px),
        batch_size=config.batch_size,
        seed=config.seed,
        follow_links=True,
        verbose=False,
    )
    import tensorflow as tf  # noqa: PLC0415 - image_dataset_from_directory has brought it

    layers = [keras.layers.Rescaling(1 / 255), *(_changes(keras) if way == "keras-changed" else ())]

    def changed(pixels: Any, truth: Any) -> Any:  # noqa: ANN401 - TensorFlow has no types
        for layer in layers:
            pixels = layer(pixels, training=True)
        return pixels, truth

    steps = int(found.cardinality())
    if way == "keras-cached":
        # From then on its batches are always the same ones.
        found = found.cache()
    found = found.map(changed, num_parallel_calls=tf.data.AUTOTUNE)
    total = sum(len(files) for _, _, files in os.walk(folder, followlinks=True))
    return Feed(found.repeat().prefetch(tf.data.AUTOTUNE), steps, total / steps)


def _changes(keras: Any) -> list[Any]:  # noqa: ANN401 - Keras has no types
    layers, span = keras.layers, (0.0, 1.0)
    return [
        layers.RandomTranslation(0.05, 0.05, fill_mode="reflect"),
        layers.RandomZoom(0.08, fill_mode="reflect"),
        layers.RandomBrightness(0.25, value_range=span),
        layers.RandomContrast(0.15, value_range=span),
        layers.GaussianNoise(0.02),
    ]


if __name__ == "__main__":
    sys.exit(run_command(app))
