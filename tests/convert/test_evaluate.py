"""What a bundle makes of labelled photos: every figure against another way to get it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score, top_k_accuracy_score

from convert import confusion
from convert.evaluate import judged
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, dataset, photos
from edge_agent.contracts.errors import UsageError
from tests.conftest import Kit

SVG = "{http://www.w3.org/2000/svg}"
WRONG = 5


@pytest.fixture(scope="module")
def muddled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photos of each class, five cans filed as tea, nothing of jam, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("muddled") / "data"
    for source in sorted(photos.iterdir()):
        if source.name != "jam-jar":
            (folder / source.name).mkdir(parents=True)
            for photo in sorted(source.iterdir())[:6]:
                shutil.copy(photo, folder / source.name)
    for photo in sorted((photos / "cola-can").iterdir())[-WRONG:]:
        shutil.copy(photo, folder / "tea-box" / f"can-{photo.name}")
    (folder / "empty" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def figures(muddled: Path, bundle_folder: Path, kit: Kit) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kit("convert", "evaluate", bundle_folder, muddled, "--json").stdout)
    return found


def answers(bundle_folder: Path, data: Path) -> tuple[Classifier, np.ndarray, np.ndarray]:
    classifier = Classifier(bundle.read(bundle_folder))
    found = dataset.read(data).relabelled(classifier.labels)
    pictures, _ = photos.decode(found, classifier.height, classifier.width)
    return classifier, pictures.labels, classifier.scores(pictures.images)


def test_the_figures_are_those_of_scikit_learn(
    figures: dict[str, Any], muddled: Path, bundle_folder: Path
) -> None:
    classifier, truth, scores = answers(bundle_folder, muddled)
    said, all_labels = scores.argmax(axis=1), range(len(classifier.labels))
    assert figures["labels"] == classifier.labels
    assert figures["n"] == len(truth) == 8 * 6 + WRONG
    assert figures["confusion"] == confusion_matrix(truth, said, labels=all_labels).tolist()
    assert figures["accuracy"] == pytest.approx((truth == said).mean())
    for k in (2, 3, 5):
        # It wants probabilities of float64, and breaks ties in another way: the model's own are none.
        expected = top_k_accuracy_score(truth, scores.astype(np.float64), k=k, labels=all_labels)
        assert figures["top_k"][str(k)] == pytest.approx(expected, abs=1.01 / len(truth))
    recall = recall_score(truth, said, labels=all_labels, average=None, zero_division=np.nan)
    precision = precision_score(truth, said, labels=all_labels, average=None, zero_division=np.nan)
    for row, found in enumerate(figures["classes"]):
        assert found["n"] == (truth == row).sum()
        for name, value in (("recall", recall[row]), ("precision", precision[row])):
            assert (found[name] is None) == bool(np.isnan(value))
            assert found[name] is None or found[name] == pytest.approx(value)


def test_what_is_filed_as_another_thing_is_seen(figures: dict[str, Any]) -> None:
    assert figures["confused"][0] == {"label": "tea-box", "called": "cola-can", "n": WRONG}
    assert sum(pair["n"] for pair in figures["confused"]) == round((1 - figures["accuracy"]) * figures["n"])
    (tea,) = (found for found in figures["classes"] if found["label"] == "tea-box")
    low, high = tea["recall_95"]
    assert tea["n"] == 6 + WRONG
    assert tea["recall"] == pytest.approx(6 / 11)
    # Wilson (1927) for 6 of 11, worked out by hand.
    assert (low, high) == pytest.approx((0.2801, 0.7873), abs=1e-4)


def test_a_class_without_photos_has_no_recall(figures: dict[str, Any]) -> None:
    (jam,) = (found for found in figures["classes"] if found["label"] == "jam-jar")
    assert (jam["n"], jam["recall"], jam["recall_95"]) == (0, None, None)
    assert "jam-jar" not in figures["recall"]
    assert figures["coarse_accuracy"] is None
    assert figures["rejected"] == 1


def test_the_text_says_the_same(
    muddled: Path, bundle_folder: Path, figures: dict[str, Any], kit: Kit
) -> None:
    done = kit("convert", "evaluate", bundle_folder, muddled)
    assert f"{100 * figures['accuracy']:.2f} % of {figures['n']} photos right" in done.stdout
    assert f"calibration error {100 * figures['calibration_error']:.1f} points" in done.stdout
    assert re.search(r"tea-box +11 +54\.5 % \( 28\.0 to  78\.7\) +100\.0 %", done.stdout)
    assert re.search(r"5  tea-box -> cola-can", done.stdout)
    assert "no photos of 1 more classes" in done.stdout
    assert done.stdout.index("tea-box") < done.stdout.index("water-bottle"), "the worst comes first"
    assert "left out: empty/broken.png" in done.stderr


def test_coarse_classes_and_unknown_ones(bundle_folder: Path, muddled: Path) -> None:
    classifier, truth, scores = answers(bundle_folder, muddled)
    coarse = tuple("drink" if label in {"tea-box", "cola-can"} else label for label in classifier.labels)
    found = judged(classifier.manifest, truth, scores, coarse=coarse, rejected=[])
    assert found.coarse_accuracy == pytest.approx(found.accuracy + WRONG / len(truth))
    strict = classifier.manifest.calibration.model_copy(update={"unknown_below": 1.0})
    doubtful = classifier.manifest.model_copy(update={"calibration": strict})
    assert judged(doubtful, truth, scores, coarse=(), rejected=[]).unknown > 0.9
    assert found.unknown < 0.5


def test_a_part_of_grocerystore_keeps_its_coarse_classes(public_data: Path, kit: Kit) -> None:
    model = Path(__file__).parents[2] / "benchmarks" / "models" / "grocerystore"
    options = ("--split", "val", "--json")
    found = json.loads(kit("convert", "evaluate", model, public_data / "grocerystore", *options).stdout)
    assert found["n"] == 296
    assert found["accuracy"] < found["coarse_accuracy"] < 1
    assert found["accuracy"] < found["top_k"]["2"] < found["top_k"]["5"]


def test_the_picture_shows_every_cell(
    muddled: Path, bundle_folder: Path, figures: dict[str, Any], tmp_path: Path, kit: Kit
) -> None:
    picture = tmp_path / "new" / "confusion.svg"
    kit("convert", "evaluate", bundle_folder, muddled, "--confusion", picture)
    cells = ET.parse(picture).getroot().findall(f"{SVG}g")  # noqa: S314 - written a moment ago
    table, labels = np.array(figures["confusion"]), figures["labels"]
    told = {cell.findtext(f"{SVG}title"): cell.findtext(f"{SVG}text") for cell in cells}
    assert told == {
        f"{n} of {table[row].sum()} of {labels[row]}: called {labels[column]}": str(n)
        for (row, column), n in np.ndenumerate(table)
        if n
    }


def test_labels_of_any_letters_are_drawn() -> None:
    labels = ["Käse & <Brot>", "緑茶", "\ufffe odd", "x" * 128]
    root = ET.fromstring(confusion.draw(labels, np.diag([1, 20, 300, 123456]).astype(np.int64)))  # noqa: S314 - ours
    written = [element.text for element in root.iter(f"{SVG}text")]
    assert {"Käse & <Brot>", "緑茶", "? odd", "x" * 31 + "…", "123456"} <= set(written)
    assert "1 of 1 of Käse & <Brot>: called Käse & <Brot>" in [
        element.text for element in root.iter(f"{SVG}title")
    ]


def test_a_picture_of_another_kind_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg"):
        confusion.check_name(tmp_path / "confusion.png")


def test_a_picture_that_cannot_be_written(
    muddled: Path, bundle_folder: Path, tmp_path: Path, kit: Kit
) -> None:
    (tmp_path / "file").write_text("no folder")
    place = tmp_path / "file" / "confusion.svg"
    done = kit("convert", "evaluate", bundle_folder, muddled, "--confusion", place, code=4)
    assert "picture that can be written" in done.stderr
    kit("convert", "evaluate", "nowhere", "nowhere", "--confusion", "confusion.png", code=2)
