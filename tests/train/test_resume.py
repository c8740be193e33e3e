"""Training that is killed, interrupted, or runs out of room, in real processes."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_agent.contracts import run
from tests.train.starts import Start, shelf_photos, start

# Dropout, mixup, penalties and averages: all that has a state or draws lots.
_OPTIONS = (
    "--name", "x", "--preset", "article-cifar", "--image-px", 32, "--epochs", 8, "--batch-size", 8,
    "--averaging", 0.9, "--mixup", 0.2, "--l2", 1e-4, "--flip", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that are read in no time."""
    return shelf_photos(tmp_path_factory.mktemp("photos"), 20)


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run says that nobody stopped."""
    return start(tmp_path_factory.mktemp("whole"), photos, "--out", "run", *_OPTIONS).told()


def workshop(folder: Path) -> Path:
    return folder / ".run.training"


def epochs_kept(folder: Path) -> int:
    state = workshop(folder) / "state.npz"
    if not state.exists():
        return 0
    with np.load(state) as arrays:
        return int(json.loads(str(arrays["told"]))["epoch"])


def when(started: Start, happened: Callable[[], object]) -> None:
    """Come back when something has happened."""
    while not happened():
        assert started.process.is_alive(), started.errors
        time.sleep(0.001)


def writes_the_state(folder: Path) -> bool:
    return any(path.name == "state.npz" for path in workshop(folder).glob(".tmp-*/*"))


def writes_the_run(folder: Path) -> bool:
    return any(path.name == "model.keras" for path in workshop(folder).glob(".tmp-*/run/*"))


def is_the_same(folder: Path, told: dict[str, Any], whole: dict[str, Any]) -> None:
    """The run that was stopped is the one that was not."""
    assert told["weights_sha256"] == whole["weights_sha256"]
    assert told["metrics"] == whole["metrics"]
    assert run.read(folder / "run").info.weights_sha256 == whole["weights_sha256"]
    assert sorted(path.name for path in folder.iterdir()) == ["err", "out", "run"]


def killed_in_an_epoch(folder: Path, *arguments: object, after: int = 1, **options: Any) -> Start:  # noqa: ANN401
    """Start, and kill somewhere in an epoch after so many are kept."""
    started = start(folder, *arguments, *_OPTIONS, **options)
    when(started, lambda: epochs_kept(folder) >= after)
    time.sleep(random.Random(after).uniform(0, 0.05))
    started.kill()
    return started


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(
    photos: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    arguments = (photos, "--out", "run", "--resume")
    # Within the first epoch there is nothing to keep; --resume begins.
    started = start(tmp_path, *arguments, *_OPTIONS)
    when(started, workshop(tmp_path).exists)
    started.kill()
    killed_in_an_epoch(tmp_path, *arguments, after=2)
    for moment in (writes_the_state, writes_the_run):
        before = epochs_kept(tmp_path)
        started = start(tmp_path, *arguments, *_OPTIONS)
        when(started, lambda: moment(tmp_path))  # noqa: B023 - called at once
        started.kill()
        assert epochs_kept(tmp_path) >= before
        assert not (tmp_path / "run").exists()
    is_the_same(tmp_path, start(tmp_path, *arguments, *_OPTIONS).told(), whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(photos: Path, tmp_path: Path, whole: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    while epochs_kept(tmp_path) < 8:
        before = epochs_kept(tmp_path)
        started = start(tmp_path, photos, "--out", "run", "--resume", *_OPTIONS)
        when(started, lambda: epochs_kept(tmp_path) > before)  # noqa: B023 - called at once
        started.process.join(rng.uniform(0, 0.3))
        started.kill()
        if (tmp_path / "run").exists():
            break
    else:
        start(tmp_path, photos, "--out", "run", "--resume", *_OPTIONS).told()
    info = run.read(tmp_path / "run").info
    assert info.weights_sha256 == whole["weights_sha256"]
    assert info.metrics == whole["metrics"]


@pytest.mark.slow
def test_a_disk_that_is_full_ends_it_with_a_clear_error_and_what_was_kept_stays(
    photos: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    arguments = (photos, "--out", "run", "--resume")
    killed_in_an_epoch(tmp_path, *arguments)
    before = epochs_kept(tmp_path)
    # A state takes 2.5 MB, a model 0.5 MB.
    full = start(tmp_path, *arguments, *_OPTIONS, limit_bytes=1_000_000)
    assert full.wait() == 4
    assert "room to write" in full.errors
    assert "--resume" in full.errors
    assert epochs_kept(tmp_path) == before
    started = start(tmp_path, *arguments, *_OPTIONS)
    when(started, lambda: writes_the_run(tmp_path))
    started.kill()
    full = start(tmp_path, *arguments, *_OPTIONS, limit_bytes=100_000)
    assert full.wait() == 4
    assert "room to write" in full.errors
    assert not (tmp_path / "run").exists()
    is_the_same(tmp_path, start(tmp_path, *arguments, *_OPTIONS).told(), whole)


@pytest.mark.slow
def test_an_unfinished_run_is_neither_begun_anew_nor_mixed_up(photos: Path, tmp_path: Path) -> None:
    arguments = (photos, "--out", "run")
    killed_in_an_epoch(tmp_path, *arguments)
    cases = (
        ((), 2, [".run.training", "--resume"]),
        (("--resume", "--seed", 8, "--epochs", 9), 2, ["seed: 8 for 7", "epochs: 9 for 8"]),
    )
    for more, code, said in cases:
        refused = start(tmp_path, *arguments, *_OPTIONS, *more)
        assert refused.wait() == code
        assert all(words in refused.errors for words in said), refused.errors
    kept = (workshop(tmp_path) / "state.npz").read_bytes()
    for damaged in (kept[: len(kept) // 2], b"", kept[:5000] + bytes(64) + kept[5064:]):
        (workshop(tmp_path) / "state.npz").write_bytes(damaged)
        refused = start(tmp_path, *arguments, *_OPTIONS, "--resume")
        assert refused.wait() == 4
        assert "damaged: remove" in refused.errors
        assert "Traceback" not in refused.errors


def test_ctrl_c_keeps_the_best_so_far(photos: Path, tmp_path: Path) -> None:
    options = (*_OPTIONS, "--epochs", 500)
    early = start(tmp_path, photos, "--out", "run", *options)
    when(early, workshop(tmp_path).exists)
    _interrupt(early)
    assert early.wait() == 130
    assert not (tmp_path / "run").exists()
    # There was nothing to keep: the next start need not say --resume.
    late = start(tmp_path, photos, "--out", "run", *options)
    when(late, lambda: epochs_kept(tmp_path) >= 2)
    _interrupt(late)
    assert late.wait() == 130
    assert "interrupted: the best of" in late.errors
    found = run.read(tmp_path / "run")
    assert found.info.metrics["interrupted"] is True
    assert 2 <= found.info.metrics["epochs"] < 500
    keras.saving.load_model(found.model, compile=False)
    assert not workshop(tmp_path).exists()


def _interrupt(started: Start) -> None:
    """Send what Ctrl-C sends."""
    assert started.process.pid is not None
    os.kill(started.process.pid, signal.SIGINT)
