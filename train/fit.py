"""One training run, top to bottom: photos, split, model, training, figures, run directory."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge_agent.contracts import photos, run
from edge_agent.contracts.photos import Dataset, Pictures, Progress
from edge_agent.contracts.scoring import softmax
from train import loop, objective
from train.batches import Batches
from train.config import TrainConfig
from train.devices import alone, computing, place
from train.duplicates import NearDuplicate
from train.exhibits import COPIES, NearCopy
from train.loop import logits
from train.model import build_model
from train.prepare import Prepared
from train.quality import Quality, measure
from train.report import Evidence, write_report
from train.split import Split
from train.state import State, Workshop, weights_hash

_PACKAGES = ("shelfkit", "keras", "tensorflow", "numpy", "opencv-python-headless")

Callbacks = Callable[[int, int, int], list[Any]]
"""Makes Keras callbacks, given epochs, steps of an epoch, and epochs that are done."""


def train(
    prepared: Prepared,
    out: Path,
    config: TrainConfig,
    *,
    name: str,
    resume: bool,
    command: str,
    callbacks: Callbacks,
    progress: Progress[tuple[str, int]] = lambda items, _total: items,
) -> run.RunInfo:
    """Train on prepared photos and leave a run directory.

    Args:
        prepared: Photos, and who sees which.
        out: New; written beside and renamed when everything is in it.
        config: Decides the rest.
        name: Of the model, as events will carry it.
        resume: Go on with what a killed run left beside `out`.
        command: Repeats it, for the report.
        callbacks: For progress and logs of training.
        progress: Shows how far the figures are.

    Returns:
        What `run.json` says; `metrics["interrupted"]` where Ctrl-C ended it and the best so far was kept.

    Raises:
        UsageError: An unfinished run is in the way, or is another's; a teacher does not fit.
        DataError: The place cannot be written, or the model diverged.
    """
    keras.utils.set_random_seed(config.seed)
    identity = _identity(prepared, config)
    workshop = Workshop(out, identity)
    first = place(config).index == 0
    state = workshop.open(resume=resume, first=first)
    model, ended = _fit(prepared, config, state, workshop if first else None, callbacks)
    info, evidence = _judged(model, prepared, config, state, name=name, ended=ended, progress=progress)
    if first:
        with workshop.handing_over() as folder:
            _write(folder, model, info, prepared, replace(evidence, command=command))
    return info


def _fit(
    prepared: Prepared,
    config: TrainConfig,
    state: State,
    workshop: Workshop | None,
    callbacks: Callbacks,
) -> tuple[Any, bool]:
    """Return the network with the weights of the best epoch, and whether training came to its end."""
    classes = len(prepared.dataset.classes)
    batches = Batches(prepared.pictures, prepared.parts.train, config, classes)
    with computing(config) as devices:
        devices.require_equal_shares(batches.size)
        with alone():
            # In float32, as it is converted, whatever training computes in.
            judged = build_model(keras, replace(config, weights="none", precision="float32"), classes)
        with devices.building():
            student = build_model(keras, config, classes)
            model = student
            if config.teachers:
                teachers = [_teacher(Path(path)) for path in config.teachers]
                objective.require_same(student, teachers)
                model = objective.Taught(student, teachers, config.teacher_share, config.teacher_temperature)
            model.compile(
                objective.optimizer(config, config.epochs * batches.steps),
                objective.loss(config),
                metrics=["accuracy"],
                # Keras on JAX is always compiled: step by step it takes minutes where this takes seconds.
                jit_compile=config.xla or config.backend == "jax",
            )
            model.optimizer.build(model.trainable_variables)
        ended = loop.run(
            loop.Networks(model, student, judged),
            batches,
            prepared.pictures.take(prepared.parts.validation),
            config,
            state=state,
            workshop=workshop,
            callbacks=callbacks(config.epochs, batches.steps, state.epoch),
            share=devices.share,
        )
    loop.assign(judged.variables, state.best)
    return judged, ended


def _teacher(path: Path) -> Any:  # noqa: ANN401 - Keras has no types
    return keras.saving.load_model(run.read(path).model, compile=False, safe_mode=True)


def _judged(
    model: Any,  # noqa: ANN401 - Keras has no types
    prepared: Prepared,
    config: TrainConfig,
    state: State,
    *,
    name: str,
    ended: bool,
    progress: Progress[tuple[str, int]],
) -> tuple[run.RunInfo, Evidence]:
    """Make choices on validation, figures on the holdout, which nothing has looked at so far."""
    found, pictures, parts = prepared.dataset, prepared.pictures, prepared.parts
    holdout = pictures.take(parts.holdout)
    quality = measure(
        partial(logits, model),
        found,
        pictures.take(parts.validation),
        holdout,
        prepared.outside,
        seed=config.seed,
        progress=progress,
    )
    of_run = {"epochs": state.epoch, "best_epoch": state.best_epoch, "parameters": model.count_params()}
    info = run.RunInfo(
        name=name,
        config=config.as_json(),
        seed=config.seed,
        classes=found.classes,
        height=config.image_px,
        width=config.image_px,
        temperature=quality.temperature,
        unknown_below=quality.threshold,
        dataset_sha256=_dataset_hash(found, pictures),
        weights_sha256=weights_hash([np.asarray(value) for value in model.get_weights()]),
        split={part: sorted(pictures.ids[row] for row in getattr(parts, part)) for part in Split.__slots__},
        metrics=quality.metrics | of_run | ({} if ended else {"interrupted": True}),
        packages={package: version(package) for package in _PACKAGES},
    )
    return info, _evidence(info, prepared, holdout, state, quality)


def _evidence(
    info: run.RunInfo, prepared: Prepared, holdout: Pictures, state: State, quality: Quality
) -> Evidence:
    outside = quality.outside_scores
    return Evidence(
        info,
        prepared.dataset,
        prepared.rejected,
        holdout,
        softmax(quality.scores, quality.temperature),
        history=state.history,
        notes=prepared.notes,
        near_duplicates=[_shown(prepared.pictures, near) for near in prepared.near[:COPIES]],
        raw_probabilities=softmax(quality.scores),
        outside_probabilities=None if outside is None else softmax(outside, quality.temperature),
        pictures=prepared.pictures,
        parts=prepared.parts,
    )


def _shown(pictures: Pictures, near: NearDuplicate) -> NearCopy:
    one, other = near.first, near.second
    return (
        pictures.images[one],
        pictures.photos[one].name,
        near.first_part,
        pictures.images[other],
        pictures.photos[other].name,
        near.second_part,
    )


def _identity(prepared: Prepared, config: TrainConfig) -> dict[str, Any]:
    return {
        **config.as_json(),
        "taught_by": [run.read(Path(path)).sha256 for path in config.teachers],
        "photos": _dataset_hash(prepared.dataset, prepared.pictures),
        "keras": version("keras"),
        "tensorflow": version("tensorflow"),
    }


def _dataset_hash(found: Dataset, pictures: Pictures) -> str:
    rows = sorted(
        f"{identity} {found.labels[label]}"
        for identity, label in zip(pictures.ids, pictures.labels, strict=True)
    )
    return photos.sha256_of_lines(rows)


def _write(
    folder: Path,
    model: Any,  # noqa: ANN401 - Keras has no types
    info: run.RunInfo,
    prepared: Prepared,
    evidence: Evidence,
) -> None:
    pictures, parts = prepared.pictures, prepared.parts
    model.save(folder / run.MODEL)
    for name, rows in ((run.CALIBRATION, parts.calibration), (run.HOLDOUT, parts.holdout)):
        part = pictures.take(rows)
        run.Samples(part.images, part.labels, part.ids).save(folder / name)
    write_report(folder / run.REPORT, evidence)
    (folder / run.INFO).write_text(info.model_dump_json(indent=1), encoding="utf-8")
