"""What a run computes on: what is refused before anything is computed."""

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.contracts.errors import UsageError
from train import devices
from train.config import TrainConfig
from train.devices import Devices, computing, place

_CONFIG = TrainConfig()


@pytest.mark.parametrize(("backend", "extra"), [("jax", "shelfkit[jax]"), ("tensorflow", "shelfkit[train]")])
def test_a_backend_that_is_not_there(backend: Any, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(devices, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=f"the package {backend}") as caught:
        devices.choose_backend(backend)
    assert extra in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "not json",
        '{"cluster": {"worker": ["a:1"]}, "task": {"index": 1}}',
        '{"cluster": {"worker": []}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}',
        '{"cluster": ["a:1"], "task": {"index": 0}}',
    ],
)
def test_a_cluster_that_is_not_told_is_asked_for(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="Expected: TF_CONFIG"):
        place(replace(_CONFIG, distribute="workers"))
    # Nobody asked for several machines: whatever the environment says is for others.
    assert place(_CONFIG).index == 0


def test_the_place_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    told = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", told)
    found = place(replace(_CONFIG, distribute="workers"))
    assert (found.index, found.addresses) == (1, ("a:1", "b:2"))


def test_batches_must_be_divisible_among_the_devices() -> None:
    with computing(_CONFIG) as one:
        one.require_equal_shares(7)
    with pytest.raises(UsageError, match=r"--batch-size that 2 devices can share. Received: 7"):
        Devices(_CONFIG, None, 2).require_equal_shares(7)
