"""Time of one slot: int8 bundle against the same network as float32 TFLite, in turns, in one run.

Usage: python benchmarks/inference.py RUN BUNDLE

Prints the medians and their ratio. Both go through the device's own classifier code, one thread.
"""

import statistics
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from edge_agent.classifier import TfliteModel
from edge_agent.contracts import bundle, run

ROUNDS = 40
EACH = 25


def milliseconds(model: TfliteModel, picture: np.ndarray) -> float:
    """Return the time of one picture, the mean over a short stretch."""
    begin = time.perf_counter()
    for _ in range(EACH):
        model.scores(picture)
    return 1000 * (time.perf_counter() - begin) / EACH


def main(run_folder: str, bundle_folder: str) -> None:
    """Measure in turns, so that a busy moment of the machine meets both."""
    trained = run.read(Path(run_folder))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.saving.load_model(trained.model))
    slow = TfliteModel(bytes(converter.convert()))
    quick = TfliteModel(bundle.read(Path(bundle_folder)).model)
    picture = trained.holdout().images[0]
    floats = picture.astype(np.float32) / np.float32(255)
    pairs = [(milliseconds(slow, floats), milliseconds(quick, picture)) for _ in range(ROUNDS)]
    float_ms, int8_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{trained.info.config['preset']} at {trained.info.height} px, one thread, one slot:")
    print(f"float32 {float_ms:.3f} ms, int8 {int8_ms:.3f} ms: int8 is {ratio:.2f} times as quick")


if __name__ == "__main__":
    main(*sys.argv[1:])
