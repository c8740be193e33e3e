"""One training run, top to bottom: photos, split, model, fit, figures, run directory."""

import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts import photos, run
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.photos import Dataset, Pictures
from edge_agent.contracts.scoring import (
    Floats,
    accuracy,
    calibration_error,
    confusion,
    fit_temperature,
    recalls,
    softmax,
    wilson,
)
from train.augment import augment
from train.config import TrainConfig
from train.model import build_model
from train.prepare import Prepared
from train.report import Evidence, write_report
from train.split import Split

_UNKNOWN_SHARE = 0.01
_UNKNOWN_AT_MOST = 0.5
_WARM_UP = 0.1
_HEAVIEST = 10.0
_PACKAGES = ("shelfkit", "keras", "tensorflow", "numpy", "opencv-python-headless")


def train(
    prepared: Prepared,
    out: Path,
    config: TrainConfig,
    *,
    name: str,
    callbacks: Callable[[int, int], list[Any]],
) -> run.RunInfo:
    """Train on prepared photos and leave a run directory.

    Args:
        prepared: Photos, and who sees which.
        out: New; written beside and renamed when everything is in it.
        config: Decides the rest.
        name: Of the model, as events will carry it.
        callbacks: Keras callbacks, given epochs and steps of an epoch.

    Raises:
        DataError: The place cannot be written.
    """
    keras.utils.set_random_seed(config.seed)
    found, pictures, parts = prepared.dataset, prepared.pictures, prepared.parts
    model = build_model(keras, config, len(found.classes))
    _fit(model, pictures, parts, config, callbacks)

    # Choices are made on validation, figures on the holdout, which nothing has looked at so far.
    validation = pictures.take(parts.validation)
    answers = logits(model, validation.images)
    if not np.isfinite(answers).all():
        raise DataError(
            "Expected: a model that gives numbers. Received: one that diverged in training.",
            hint=f"lower --learning-rate, which was {config.learning_rate:g}",
        )
    temperature = fit_temperature(validation.labels, answers)
    threshold = _unknown_threshold(validation.labels, softmax(answers, temperature))
    holdout = pictures.take(parts.holdout)
    scores = logits(model, holdout.images)
    info = run.RunInfo(
        name=name,
        config=config.as_json(),
        seed=config.seed,
        classes=found.classes,
        height=config.image_px,
        width=config.image_px,
        temperature=temperature,
        unknown_below=threshold,
        dataset_sha256=_dataset_hash(found, pictures),
        split={part: sorted(pictures.ids[row] for row in getattr(parts, part)) for part in Split.__slots__},
        metrics=_metrics(found, holdout.labels, scores, temperature),
        packages={package: version(package) for package in _PACKAGES},
    )
    evidence = Evidence(info, found, prepared.rejected, holdout, softmax(scores, temperature))
    _write(out, model, info, pictures, parts, evidence)
    return info


def logits(model: Any, images: NDArray[np.uint8]) -> Floats:  # noqa: ANN401 - Keras has no types
    """Return float32 (n, classes) of uint8 pictures."""
    if not len(images):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    steps = [
        np.asarray(model.predict_on_batch(images[at : at + 64].astype(np.float32) / 255))
        for at in range(0, len(images), 64)
    ]
    return np.concatenate(steps)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Training batches: shuffled and augmented from (seed, epoch, step) alone."""

    def __init__(self, pictures: Pictures, config: TrainConfig, weights: Floats) -> None:
        super().__init__(workers=1)
        self._pictures, self._config, self._weights = pictures, config, weights
        self._epoch = 0
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._pictures) / self._config.batch_size)

    def __getitem__(self, step: int) -> tuple[Floats, Floats, Floats]:
        rng = np.random.default_rng([self._config.seed, self._epoch, step])
        rows = self._order[step * self._config.batch_size :][: self._config.batch_size]
        config = self._config
        images = [
            augment(self._pictures.images[row], rng, config.augment, zoom=config.zoom, flip=config.flip)
            for row in rows
        ]
        labels = self._pictures.labels[rows]
        pixels = np.stack(images).astype(np.float32) / np.float32(255)
        truth, weights = np.eye(len(self._weights), dtype=np.float32)[labels], self._weights[labels]
        if not config.mixup:
            return pixels, truth, weights
        share, other = np.float32(rng.beta(config.mixup, config.mixup)), rng.permutation(len(rows))
        return (
            share * pixels + (1 - share) * pixels[other],
            share * truth + (1 - share) * truth[other],
            share * weights + (1 - share) * weights[other],
        )

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self._epoch += 1
        self._order = np.random.default_rng([self._config.seed, self._epoch]).permutation(len(self._pictures))


def _fit(
    model: Any,  # noqa: ANN401 - Keras has no types
    pictures: Pictures,
    parts: Split,
    config: TrainConfig,
    callbacks: Callable[[int, int], list[Any]],
) -> None:
    training, validation = pictures.take(parts.train), pictures.take(parts.validation)
    classes = model.output_shape[-1]
    batches = Batches(training, config, _class_weights(training.labels, classes))
    total = config.epochs * len(batches)
    warm_up = round(_WARM_UP * total)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20, total - warm_up, warmup_target=config.learning_rate, warmup_steps=warm_up
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=config.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # compiling takes longer than training a small network on a CPU
    )
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=config.patience, restore_best_weights=True, start_from_epoch=config.epochs // 3
    )
    model.fit(
        batches,
        validation_data=(
            validation.images.astype(np.float32) / 255,
            np.eye(classes, dtype=np.float32)[validation.labels],
        ),
        epochs=config.epochs,
        verbose=0,
        callbacks=[stop, *callbacks(config.epochs, len(batches))],
    )


def _class_weights(labels: NDArray[np.int64], classes: int) -> Floats:
    """Return the weight of each class: as if all had the same number of photos, within reason."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.minimum(len(labels) / (classes * counts), _HEAVIEST).astype(np.float32)


def _unknown_threshold(labels: NDArray[np.int64], probabilities: Floats) -> float:
    """Return the confidence below which the device says "unknown": 1 % of right answers fall under it."""
    right = probabilities.max(axis=1)[probabilities.argmax(axis=1) == labels]
    return float(min(np.quantile(right, _UNKNOWN_SHARE), _UNKNOWN_AT_MOST)) if len(right) else 0.0


def _metrics(found: Dataset, labels: NDArray[np.int64], scores: Floats, temperature: float) -> dict[str, Any]:
    right = accuracy(labels, scores)
    low, high = wilson(round(right * len(labels)), len(labels))
    recall = recalls(confusion(labels, scores))
    return {
        "holdout_n": len(labels),
        "holdout_accuracy": right,
        "holdout_accuracy_95": [low, high],
        "holdout_calibration_error": calibration_error(labels, softmax(scores, temperature)),
        "holdout_recall": {
            label: float(value)
            for label, value in zip(found.labels, recall, strict=True)
            if not np.isnan(value)
        },
    }


def _dataset_hash(found: Dataset, pictures: Pictures) -> str:
    rows = sorted(
        f"{identity} {found.labels[label]}"
        for identity, label in zip(pictures.ids, pictures.labels, strict=True)
    )
    return photos.sha256_of_lines(rows)


def _write(
    out: Path,
    model: Any,  # noqa: ANN401 - Keras has no types
    info: run.RunInfo,
    pictures: Pictures,
    parts: Split,
    evidence: Evidence,
) -> None:
    try:
        with written_beside(out) as staged:
            staged.mkdir()
            model.save(staged / run.MODEL)
            for name, rows in ((run.CALIBRATION, parts.calibration), (run.HOLDOUT, parts.holdout)):
                part = pictures.take(rows)
                run.Samples(part.images, part.labels, part.ids).save(staged / name)
            write_report(staged / run.REPORT, evidence)
            (staged / run.INFO).write_text(info.model_dump_json(indent=1), encoding="utf-8")
    except OSError as exc:
        raise DataError(
            f"Expected: room for a run directory. Received: {out}: {exc.strerror}.",
            hint="check that the folder may be written and the disk has room",
        ) from exc
