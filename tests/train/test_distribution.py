"""One run on another backend, on several devices, on several machines: real processes, on CPUs."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_agent.contracts import run
from tests.conftest import Kit
from tests.train.starts import Start, shelf_photos, start

# No norm, whose mean would be that of a device's share, and nothing that draws lots: what many make
# together is then what one makes alone, but for the order in which a sum is taken.
_PLAIN = (
    "--name", "x", "--preset", "article-cifar", "--image-px", 32, "--epochs", 3, "--batch-size", 8,
    "--dropout", 0, "--optimizer", "sgd", "--learning-rate", 0.05, "--l2", 1e-3, "--json",
)  # fmt: skip
_NORMS = (
    "--name", "x", "--preset", "shelf-s", "--image-px", 32, "--epochs", 12, "--batch-size", 8,
    "--occlude", 0, "--json",
)  # fmt: skip
_LOOSE = ("--max-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0, "--max-calibration-rise", 100)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that are read in no time."""
    return shelf_photos(tmp_path_factory.mktemp("photos") / "shelf", 20)


def weights(folder: Path) -> list[Any]:
    """The weights of a run."""
    model = keras.saving.load_model(run.read(folder / "run").model, compile=False)
    return list(model.get_weights())


def are_close(one: Path, other: Path, *, within: float) -> None:
    """No weight of two runs is further apart than this."""
    apart = [np.abs(mine - theirs).max() for mine, theirs in zip(weights(one), weights(other), strict=True)]
    assert max(apart) < within, apart


def cluster(folder: Path, count: int, *arguments: object, fresh: bool = False) -> list[Start]:
    """Start workers on free ports of the loopback, all with the same working directory for --out."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in with_ports]
    for server in with_ports:
        server.close()
    return [
        start(
            folder / f"worker-{index}",
            *arguments,
            "--distribute",
            "workers",
            environment={
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                )
            },
            fresh=fresh,
        )
        for index in range(count)
    ]


def told(workers: list[Start]) -> list[dict[str, Any]]:
    """What each worker of a cluster says; JAX' engine says something of its own before it."""
    for worker in workers:
        assert worker.wait() == 0, worker.errors
    return [json.loads(text[text.index("{") :]) for text in (each.output for each in workers)]


def one_run_was_written(folder: Path, said: list[dict[str, Any]]) -> None:
    """All workers come to the same, and the first one writes it."""
    assert len({each["weights_sha256"] for each in said}) == 1
    assert said[0]["metrics"] == said[1]["metrics"]
    assert run.read(folder / "run").info.weights_sha256 == said[0]["weights_sha256"]
    assert sorted(path.name for path in folder.iterdir()) == ["run", "worker-0", "worker-1"]
    for index in range(2):
        assert sorted(path.name for path in (folder / f"worker-{index}").iterdir()) == ["err", "out"]


@pytest.mark.slow
def test_two_machines_and_two_devices_learn_what_one_learns(photos: Path, tmp_path: Path) -> None:
    alone = start(tmp_path / "one", photos, "--out", "run", *_PLAIN).told()
    one_run_was_written(tmp_path / "two", _pair(photos, tmp_path / "two"))
    devices = ("--distribute", "devices")
    both = start(tmp_path / "devices", photos, "--out", "run", *_PLAIN, *devices, devices=2).told()
    assert both["metrics"]["holdout_accuracy"] == alone["metrics"]["holdout_accuracy"]
    are_close(tmp_path / "two", tmp_path / "one", within=1e-5)
    are_close(tmp_path / "devices", tmp_path / "one", within=1e-5)


def _pair(
    photos: Path, folder: Path, options: tuple[object, ...] = _PLAIN, *, fresh: bool = False
) -> list[dict[str, Any]]:
    return told(cluster(folder, 2, photos, "--out", "../run", *options, fresh=fresh))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_norms_and_averages_are_the_same_on_all_machines(photos: Path, tmp_path: Path) -> None:
    # Each device's norms see its own half of a batch; patience may end it early, on all at once.
    said = _pair(photos, tmp_path, (*_NORMS, "--patience", 3, "--averaging", 0.8))
    one_run_was_written(tmp_path, said)
    assert said[0]["metrics"]["holdout_accuracy"] >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_machines_that_were_killed_go_on_together(photos: Path, tmp_path: Path, backend: str) -> None:
    options = (*_NORMS, "--backend", backend)
    fresh = backend == "jax"
    whole = _pair(photos, tmp_path / "whole", options, fresh=fresh)
    cut = tmp_path / "cut"
    workers = cluster(cut, 2, photos, "--out", "../run", *options, fresh=fresh)
    while not (cut / ".run.training" / "state.npz").exists():
        assert all(worker.process.is_alive() for worker in workers), workers[0].errors + workers[1].errors
        time.sleep(0.01)
    for worker in workers:
        worker.kill()
    said = _pair(photos, cut, (*options, "--resume"), fresh=fresh)
    one_run_was_written(cut, said)
    assert said[0]["weights_sha256"] == whole[0]["weights_sha256"]
    assert said[0]["metrics"] == whole[0]["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_other_backend_alone_on_two_devices_and_on_two_machines(
    photos: Path, tmp_path: Path, kit: Kit
) -> None:
    jax = (*_PLAIN, "--backend", "jax")
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    one = start(tmp_path / "one", photos, "--out", "run", *jax, fresh=True)
    devices = ("--distribute", "devices")
    both = start(tmp_path / "devices", photos, "--out", "run", *jax, *devices, environment=two, fresh=True)
    one.told()
    both.told()
    one_run_was_written(tmp_path / "two", _pair(photos, tmp_path / "two", jax, fresh=True))
    are_close(tmp_path / "two", tmp_path / "one", within=1e-5)
    are_close(tmp_path / "devices", tmp_path / "one", within=1e-5)
    kit("convert", "--int8", tmp_path / "one" / "run", "--out", tmp_path / "bundle", *_LOOSE)
    kit("convert", "verify", tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_either_backend_resumes_where_it_was(photos: Path, tmp_path: Path, kit: Kit, backend: str) -> None:
    # Norms, dropout, averages, mixed precision: all that callbacks read and --resume puts back.
    options = (*_NORMS, "--backend", backend, "--precision", "bfloat16", "--mixup", 0.2)
    fresh = backend == "jax"
    whole = start(tmp_path / "whole", photos, "--out", "run", *options, fresh=fresh)
    cut = start(tmp_path / "cut", photos, "--out", "run", *options, fresh=fresh)
    while not (tmp_path / "cut" / ".run.training" / "state.npz").exists():
        assert cut.process.is_alive(), cut.errors
        time.sleep(0.01)
    cut.kill()
    again = start(tmp_path / "cut", photos, "--out", "run", "--resume", *options, fresh=fresh).told()
    expected = whole.told()
    assert expected["metrics"]["holdout_accuracy"] >= 0.8
    assert again["weights_sha256"] == expected["weights_sha256"]
    assert again["metrics"] == expected["metrics"]
    kit("convert", "--int8", tmp_path / "cut" / "run", "--out", tmp_path / "bundle", *_LOOSE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_option_does_on_the_other_backend_what_it_does_on_the_first() -> None:
    tests = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("engine", "devices")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *tests],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(photos: Path, tmp_path: Path) -> None:
    options = ("--distribute", "devices", "--batch-size", 7)
    refused = start(tmp_path, photos, "--out", "run", *_PLAIN, *options, devices=2)
    assert refused.wait() == 2
    assert "--batch-size that 2 devices can share. Received: 7" in refused.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--xla",), ("--precision", "float16"), ("--precision", "bfloat16", "--xla")]
)
def test_what_is_for_gpus_works_here_too(photos: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    said = start(tmp_path, photos, "--out", "run", *_PLAIN, *options, "--epochs", 8).told()
    assert said["metrics"]["holdout_accuracy"] >= 0.8
    model = keras.saving.load_model(run.read(tmp_path / "run").model, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
