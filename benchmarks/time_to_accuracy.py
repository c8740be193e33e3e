"""Time to 94 % on CIFAR-10, and images/s, on whatever device there is, beside the published record.

Usage: python benchmarks/time_to_accuracy.py [--data cifar.npz] [--target 0.94] [--backend jax]

DATA is the `.npz` of `cifar10_sheets.py`, whose test part is 5,000 pictures held out of the 50,000,
or `cifar10`: the whole set as Keras downloads it. The recipe is `speedrun.py`. Time is time in
training: compiling comes before (on pictures of noise, and all weights are put back), judging after
each epoch does not count, as in the record. Training ends at the target, the limit or the last epoch.

The record: 94 % in 2.59 s on one A100, airbench94_muon of Keller Jordan
(github.com/KellerJordan/cifar10-airbench, arXiv:2404.00498), on the whole set, PyTorch.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import measured
from benchmarks.cifar10_sheets import TILE_PX, Labels, Pictures
from edge_agent.contracts.arrays import read_npz
from edge_agent.contracts.command import new_app, one_of, run_command
from edge_agent.contracts.errors import DataError
from train import downloads
from train.config import BACKENDS
from train.devices import choose_backend

RECORD = {"accuracy": 0.94, "seconds": 2.59, "device": "one NVIDIA A100", "who": "airbench94_muon"}
_SCRIPT = "time_to_accuracy.py"
_MOST_AT_ONCE = 10
app = new_app()


@app.command()
def main(  # noqa: PLR0913, PLR0917 - one parameter for each option
    data: Annotated[str, typer.Option(help="An .npz, or cifar10.")] = "cifar10",
    target: Annotated[float, typer.Option(min=0.1, max=1, help="Accuracy to reach, of 1.")] = 0.94,
    backend: Annotated[str, typer.Option(help=f"What Keras runs on: {', '.join(BACKENDS)}.")] = "tensorflow",
    epochs: Annotated[int, typer.Option(min=1, help="At most; the learning rate falls over them.")] = 10,
    limit_s: Annotated[float, typer.Option(min=0.1, help="Most seconds of training.")] = 3600,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos of one step.")] = 1000,
    width: Annotated[float, typer.Option(min=0.05, max=4, help="Of the network; 1: as published.")] = 1,
    shift_px: Annotated[int, typer.Option(min=0, max=8, help="How far photos are moved.")] = 2,
    precision: Annotated[str, typer.Option(help="auto: bfloat16 on a GPU; or a Keras policy.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and changes.")] = 7,
    result: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Train until the target is reached and print what it took."""
    choose_backend(one_of("--backend", backend, BACKENDS))
    import keras  # noqa: PLC0415 - only when the backend is chosen

    (images, labels), (held, truth) = _read(data)
    device, gpu = _device(keras.backend.backend())
    policy = ("mixed_bfloat16" if gpu else "float32") if precision == "auto" else precision
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
    from benchmarks import speedrun  # noqa: PLC0415 - after the backend and the policy

    batch = min(batch_size, len(images))
    steps = len(images) // batch
    at_once = max(number for number in range(1, _MOST_AT_ONCE + 1) if steps % number == 0) if gpu else 1
    model = speedrun.build(images, int(labels.max()) + 1, width=width, shift_px=shift_px, seed=seed)
    # JAX without XLA is not compiled at all.
    xla = gpu or backend == "jax"
    speedrun.prepared(model, epochs * steps, batch=batch, xla=xla, at_once=at_once)
    compile_s = _compiled(model, batch, at_once, held)
    clock = speedrun.Clock(lambda: speedrun.judge(model, held, truth, batch), target, limit_s)
    # Only whole batches: another shape would be compiled in the middle of the measurement.
    rows = np.random.default_rng(seed).permutation(len(images))[: steps * batch]
    model.fit(images[rows], labels[rows], batch_size=batch, epochs=epochs, verbose=0, callbacks=[clock])
    figures = clock.figures(batch) | {
        "device": device,
        "backend": backend,
        "precision": policy,
        "xla": xla,
        "target": target,
        "parameters": model.count_params(),
        "photos": {"train": len(rows), "held_out": len(held)},
        "compile_s": compile_s,
        "record": RECORD,
    }
    measured.tell(figures, result, script=_SCRIPT, at=datetime.now(tz=UTC))


def _read(data: str) -> tuple[tuple[Pictures, Labels], tuple[Pictures, Labels]]:
    if data == downloads.CIFAR10:
        parts = downloads.cifar10_arrays()
    else:
        x, y, x_held, y_held = read_npz(Path(data), ("x_train", "y_train", "x_test", "y_test"))
        parts = (x, y), (x_held, y_held)
    (x, y), (x_held, y_held) = parts
    if x.shape[1:] != (TILE_PX, TILE_PX, 3) or x.dtype != np.uint8:
        raise DataError(f"Expected: uint8 pictures of 32x32 px. Received: {x.dtype} {x.shape}.")
    return (x, y.reshape(-1).astype(np.int64)), (x_held, y_held.reshape(-1).astype(np.int64))


def _device(backend: str) -> tuple[str, bool]:
    """Return the name of what Keras computes on, and whether it is a GPU."""
    if backend == "jax":
        import jax  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - optional

        first = jax.devices()[0]
        return (
            (first.device_kind, True) if first.platform == "gpu" else (str(measured.machine()["cpu"]), False)
        )
    import tensorflow as tf  # noqa: PLC0415 - only for this backend

    if found := tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU")), True
    return str(measured.machine()["cpu"]), False


def _compiled(model: Any, batch: int, at_once: int, held: Pictures) -> float:  # noqa: ANN401 - Keras has no types
    """Compile training and judging on noise, put everything back, and return the seconds it took."""
    import keras  # noqa: PLC0415 - on the backend that was chosen

    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (batch * at_once, TILE_PX, TILE_PX, 3), np.uint8)
    began = time.perf_counter()
    model.fit(noise, np.zeros(len(noise), np.int64), batch_size=batch, verbose=0)
    model.predict(held[:batch], batch_size=batch, verbose=0)
    seconds = time.perf_counter() - began
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return seconds


if __name__ == "__main__":
    sys.exit(run_command(app))
