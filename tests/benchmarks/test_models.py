"""The committed bundles: they load, compute what their maker proved, and are those of the results."""

import json
from pathlib import Path

import pytest

from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODELS = sorted((BENCHMARKS / "models").glob("*/manifest.json"))


def test_both_are_there() -> None:
    assert [path.parent.name for path in MODELS] == ["cifar10", "grocerystore"]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_a_committed_bundle_is_small_whole_and_the_one_that_was_measured(path: Path) -> None:
    found = bundle.read(path.parent)
    Classifier(found).check_golden()
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 1_000_000
    card = found.manifest.scorecard
    assert card is not None
    result = json.loads((BENCHMARKS / "results" / f"{found.manifest.name}.json").read_text(encoding="utf-8"))
    figures = result["figures"]
    measured = figures.get("best", figures)
    assert measured["bundle_sha256"] == found.sha256
    assert measured["int8"]["n"] == card.n
    assert measured["int8"]["accuracy"] == pytest.approx(card.int8.accuracy)
    assert measured["float"]["accuracy"] == pytest.approx(card.float32.accuracy, abs=1e-4)
