"""The report: whole, small, safe against hostile names, and readable offline in a real browser."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Dialog, Page, expect, sync_playwright

from edge_agent.contracts.bundle import LabelEntry
from edge_agent.contracts.photos import Dataset, Pictures, Rejected
from edge_agent.contracts.run import RunInfo
from edge_agent.contracts.scoring import Floats, softmax
from tests.conftest import missing
from tests.dashboard.pages import BROWSER
from tests.train.test_robustness import pictures
from train.charts import axis, curves, reliability_chart
from train.exhibits import COPIES, MISTAKES, PAIRS, confused, data_uri, heat_map
from train.open_set import open_set
from train.report import Evidence, write_report
from train.robustness import CLEAN, CORRUPTIONS
from train.split import Split

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>{{ 7 * 7 }}"
HISTORY = [
    {"epoch": epoch, "loss": 3 / epoch, "accuracy": 1 - 1 / epoch, "val_loss": 3.3 / epoch,
     "val_accuracy": 1 - 1.1 / epoch, "learning_rate": 0.003 / epoch, "seconds": 1.0}
    for epoch in range(2, 12)
]  # fmt: skip


def answers(rng: np.random.Generator, labels: list[int], classes: int) -> Floats:
    right = np.eye(classes)[labels].reshape(-1, classes)
    return (rng.normal(size=right.shape) + 1.5 * right).astype(np.float32)


def metrics(labels: list[int], scores: Floats, outside: Floats | None) -> dict[str, Any]:
    right = float((scores.argmax(axis=1) == labels).mean()) if labels else None
    return {
        "holdout_n": len(labels),
        "holdout_accuracy": right,
        "holdout_accuracy_95": [0.0, 1.0],
        "holdout_calibration_error": 0.1 if labels else None,
        "robustness": {CLEAN: [0.9]} | {name: [0.8, 0.7, 0.6, 0.5, 0.4] for name in CORRUPTIONS}
        if labels
        else {},
        "open_set": None
        if outside is None
        else open_set(np.array(labels, np.int64), scores, outside, temperature=1.0, threshold=0.4, seed=1),
    }


def evidence(classes: int, labels: list[int], *, name: str = "class", outside: int = 0) -> Evidence:
    rng = np.random.default_rng(classes)
    held = pictures(rng.integers(0, 256, (len(labels), 24, 24, 3), np.uint8), labels)
    scores = answers(rng, labels, classes)
    foreign = rng.normal(size=(outside, classes)).astype(np.float32) if outside else None
    # A label holds no slash; all else may come.
    entries = [LabelEntry(label=f"{name.replace('/', '|')}-{row:03d}") for row in range(classes)]
    info = RunInfo(
        name=name,
        config={"preset": "shelf-s", "teachers": [], "patience": None},
        seed=7,
        classes=entries,
        height=24,
        width=24,
        unknown_below=0.4,
        dataset_sha256="0" * 64,
        split={"train": [], "validation": [], "holdout": list(held.ids), "calibration": []},
        metrics=metrics(labels, scores, foreign),
        packages={"keras": "3"},
    )
    found = Dataset(Path(), entries, list(held.photos))
    probabilities = softmax(scores)
    return Evidence(
        info, found, [], held, probabilities,
        outside_probabilities=None if foreign is None else softmax(foreign),
    )  # fmt: skip


def whole(classes: int = 9, name: str = "class") -> Evidence:
    """Everything that a report can show."""
    labels = np.random.default_rng(2).integers(0, classes, 120).tolist()
    given_ = evidence(classes, labels, name=name, outside=40)
    photo = given_.holdout.images[0]
    photos = tuple(replace(item, name=f"{name}/{item.name}.jpg") for item in given_.holdout.photos)
    held = Pictures(given_.holdout.images, given_.holdout.labels, given_.holdout.ids, photos)
    rows = np.arange(len(held))
    return replace(
        given_,
        holdout=held,
        dataset=replace(given_.dataset, coarse=tuple(f"{name} kind" for _ in range(classes))),
        rejected=[Rejected(f"{name}/broken.jpg", f"Expected: a picture. Received: {name}.")],
        history=HISTORY,
        command=f"shelfkit train {name} --out run",
        notes=[f"few photos of {name}"],
        near_duplicates=[(photo, name, "train", photo, name, "holdout")] * 20,
        raw_probabilities=softmax(np.log(given_.probabilities), 0.5),
        pictures=held,
        parts=Split(rows[:60], rows[60:80], rows[80:], rows[:10]),
    )


def written(tmp_path: Path, shown: Evidence) -> str:
    write_report(tmp_path / "report.html", shown)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(2, [0, 1] * 5), (2, [1] * 5), (3, []), (40, list(range(40))), (41, list(range(41))), (300, [7] * 9)],
    ids=["two classes", "one class held out", "nothing held out", "a table", "a picture", "300 classes"],
)
def test_a_report_of_little(tmp_path: Path, classes: int, labels: list[int]) -> None:
    page = written(tmp_path, evidence(classes, labels))
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()
    assert ('<table class="matrix">' in page) == (classes <= 40)
    assert ('<svg class="heat"' in page) == (classes > 40)
    assert page.count("class-000") >= 1
    assert ("No figure" in page) == (not labels)
    assert "Not measured" in page


def test_all_parts_of_a_whole_report(tmp_path: Path) -> None:
    page = written(tmp_path, whole())
    for said in (
        "Training", "Classes, the weakest first", "What was taken for what", "Confused pairs side by side",
        "Worst mistakes", "Reliability", "When photos get worse", "Products outside the catalogue",
        "AUROC", "few photos of class", "Near copies in two parts", "class/broken.jpg",
        "shelfkit train class --out run", "0" * 64, "before temperature", "8 more are not shown",
    ):  # fmt: skip
        assert said in page, said
    assert page.count('role="img"') == 3 + 1 + len(CORRUPTIONS) + 2
    assert page.count("<img ") <= MISTAKES + 2 * PAIRS + 2 * COPIES
    assert re.findall(r"<img (?![^>]*alt=\"[^\"]+\")", page) == []
    assert re.findall(r"<svg (?![^>]*(?:aria-label|aria-hidden)=)", page) == []


def test_strangers_names_stay_text(tmp_path: Path) -> None:
    page = written(tmp_path, whole(name=HOSTILE))
    assert page.count("<script>") == 1
    assert "<img src=http" not in page
    assert "49" not in re.findall(r"<h1>.*</h1>", page)[0]
    assert "&lt;script&gt;alert(1)" in page


def test_many_photos_make_no_large_file(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 300, 3000).tolist()
    big = evidence(300, labels)
    photo = np.random.default_rng(1).integers(0, 256, (512, 512, 3), np.uint8)
    big = replace(big, near_duplicates=[(photo, "a", "train", photo, "b", "holdout")] * 500)
    written(tmp_path, big)
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{}],
        [{"loss": 1.0}],
        [{"epoch": 1, "loss": float("nan"), "val_loss": float("inf")}],
        [{"epoch": 1, "val_accuracy": 0.0}, {"epoch": 2, "accuracy": 1.0}],
        HISTORY,
    ],
    ids=["none", "an empty epoch", "loss alone", "diverged", "holes", "whole"],
)
def test_curves_of_any_history(tmp_path: Path, history: list[dict[str, float]]) -> None:
    points = [point for chart in curves(history) for line in chart.lines for point in line.points]
    assert np.isfinite(np.array(points)).all()
    written(tmp_path, replace(evidence(2, [0, 1]), history=history))


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_an_axis_holds_its_values(values: list[float]) -> None:
    found = axis("x", values)
    wide = found.high - found.low
    assert wide > 0
    assert all(-1e-6 <= found.share(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(found.ticks) <= 12


def test_a_reliability_chart_stays_within_its_axes() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200).tolist()
    chart = reliability_chart(np.array(labels), None, softmax(answers(rng, labels, 4)))
    assert chart is not None
    assert [line.name for line in chart.lines] == ["as sure as right", "after"]
    points = np.array([point for line in chart.lines for point in line.points])
    assert points.min() >= 0
    assert points.max() <= 100


def test_confused_pairs_come_by_number() -> None:
    table = np.array([[5, 1, 0], [4, 9, 2], [0, 0, 3]])
    assert confused(table) == [(1, 0, 4), (1, 2, 2), (0, 1, 1)]
    assert confused(np.diag([3, 3])) == []
    assert heat_map(table)["cells"] == confused(table)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (512, 512), (8, 900), (900, 8)])
def test_thumbnails_are_small(height: int, width: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    uri = data_uri(picture)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 40_000


def test_a_class_that_the_holdout_lacks_is_shown_from_elsewhere(tmp_path: Path) -> None:
    shown = evidence(2, [0] * 3)
    wrong = replace(shown, probabilities=softmax(np.array([[0.0, 3.0]] * 3, np.float32)))
    assert "no photo of it here" in written(tmp_path, wrong)
    others = pictures(np.zeros((1, 24, 24, 3), np.uint8), [1])
    page = written(tmp_path, replace(wrong, pictures=others))
    assert "no photo of it here" not in page
    assert 'alt="Typical photo of class-001"' in page


Open = Callable[..., Page]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open a report in headless Chromium; requests that leave and errors on the console fail the test."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "install it, for example: apt install chromium")
    wrong: list[str] = []

    def refuse(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*BROWSER])

        def open_page(shown: Evidence, **options: Any) -> Page:  # noqa: ANN401 - of playwright
            page = browser.new_page(**options)
            page.on("console", lambda message: wrong.append(message.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("dialog", refuse)
            page.on(
                "request",
                lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url),
            )
            path = tmp_path / "report.html"
            write_report(path, shown)
            page.goto(path.as_uri())
            return page

        yield open_page
        browser.close()
    assert wrong == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["class", HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("classes", [9, 81])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_offline(opened: Open, name: str, classes: int, width: int) -> None:
    page = opened(whole(classes, name), viewport={"width": width, "height": 800})
    loaded = page.locator("img").evaluate_all("all => all.map(one => one.complete && one.naturalWidth > 0)")
    assert loaded
    assert all(loaded)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == f"{name}: training report"


@pytest.mark.browser
def test_a_press_on_a_head_sorts_the_classes(opened: Open) -> None:
    page = opened(whole())
    first = page.locator("table.sortable tbody tr th").first
    head = page.locator("table.sortable thead th").first
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(first).to_have_text("class-000")
    head.get_by_role("button").click()
    expect(first).to_have_text("class-008")
    recall = page.locator("table.sortable thead th").nth(1)
    recall.get_by_role("button").click()
    values = page.locator("table.sortable tbody tr td:nth-child(2)").evaluate_all(
        "all => all.map(one => Number(one.dataset.value))"
    )
    assert values == sorted(values)


@pytest.mark.browser
def test_it_reads_without_javascript(opened: Open) -> None:
    page = opened(whole(), java_script_enabled=False)
    expect(page.locator("table.sortable thead th").first).to_have_text("class")
    expect(page.locator("h2")).to_have_count(9)
