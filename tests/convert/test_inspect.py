"""What `convert inspect` shows, of bundles and of anybody's model files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from convert import flatbuffer, inspect_model
from convert.edgetpu import mappings
from edge_agent.contracts import bundle
from tests.conftest import Kit, missing
from tests.dashboard.pages import BROWSER

CIFAR = Path(__file__).parents[2] / "benchmarks" / "models" / "cifar10"


def test_a_bundle_is_shown_whole(kit: Kit) -> None:
    told = json.loads(kit("convert", "inspect", CIFAR, "--json").stdout)
    shown = inspect_model.describe(CIFAR)
    assert told["multiply_adds"] == shown.graph.multiply_adds == 86_411_136
    assert told["float_uses"] == []
    assert told["file_bytes"] == (CIFAR / bundle.MODEL).stat().st_size
    # One feature map of 32 x 32 x 64 and the one of 32 x 32 x 32 that it is made from.
    assert told["peak_activation_bytes"] == 32 * 32 * (64 + 32)
    assert told["constant_bytes"] < told["file_bytes"]
    text = kit("convert", "inspect", CIFAR).stdout
    for word in ("86.41 M multiply-adds", "CONV_2D", "scale 0.00392157, zero point 0", "91.46 %", "ptq"):
        assert word in text


def test_the_edge_tpu_takes_what_coral_says(kit: Kit) -> None:
    graph = inspect_model.describe(CIFAR).graph
    assert all(one.maps for one in mappings(graph))
    # An operator that is not on the list: behind it everything runs on the CPU.
    operators = [replace(each, name="GELU") if at == 3 else each for at, each in enumerate(graph.operators)]
    found = mappings(replace(graph, operators=tuple(operators)))
    assert [one.at for one in found if one.reasons] == [3]
    assert [one.at for one in found if one.maps] == [0, 1, 2]
    text = kit("convert", "inspect", CIFAR, "--target", "edgetpu").stdout
    assert "no compiler was run" in text
    assert "edgetpu" in kit("convert", "inspect", CIFAR, "--target", "npu", code=2).stderr


def test_models_of_others(public_data: Path, kit: Kit) -> None:
    place = public_data / "mlperf_tiny"
    exact = json.loads(kit("convert", "inspect", place / "pretrainedResnet.tflite", "--json").stdout)
    assert exact["float_uses"]
    assert not any(
        one.maps for one in mappings(flatbuffer.read((place / "pretrainedResnet.tflite").read_bytes()))
    )
    assert exact["sha256"] is None
    # MLPerf Tiny's ResNet-8 has 12.5 million multiply-adds (Banbury et al. 2021, table 1 gives 12.5 M).
    assert exact["multiply_adds"] == pytest.approx(12.5e6, rel=0.01)
    tiny = flatbuffer.read((place / "pretrainedResnet_quant.tflite").read_bytes())
    assert tiny.multiply_adds == exact["multiply_adds"]
    coral = public_data / "coral_test_data" / "mobilenet_v2_1.0_224_quant.tflite"
    assert all(one.maps for one in mappings(flatbuffer.read(coral.read_bytes())))


def hostile(tmp_path: Path) -> Path:
    """A bundle whose name would like to be a program."""
    folder = tmp_path / "bundle"
    shutil.copytree(CIFAR, folder)
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["name"] = "<script>document.title = 'taken'</script>\x1b[31m"
    manifest["labels"][0]["name"] = "<img src=x onerror=\"document.title='taken'\">"
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_a_strangers_name_stays_text(tmp_path: Path, kit: Kit) -> None:
    page = tmp_path / "page.html"
    kit("convert", "inspect", hostile(tmp_path), "--html", page)
    html = page.read_text()
    assert "<script>document" not in html
    assert "&lt;script&gt;" in html
    assert "<img src=x" not in html
    assert "\x1b[31m" not in kit("convert", "inspect", tmp_path / "bundle").stdout


@pytest.mark.parametrize("content", [b"", b"no model", b"\0\0\0\0TFL3" + bytes(40)])
def test_what_is_no_model(tmp_path: Path, kit: Kit, content: bytes) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    assert "TFLite model" in kit("convert", "inspect", tmp_path / "x.tflite", code=6).stderr
    assert kit("convert", "inspect", tmp_path / "nowhere", code=6).stderr


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_offline(tmp_path: Path, kit: Kit, width: int) -> None:
    """Nothing leaves or complains, a stranger's name does nothing, and the page fits a phone."""
    page_file = tmp_path / "page.html"
    kit("convert", "inspect", hostile(tmp_path), "--html", page_file, "--target", "edgetpu")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("chromium", "install it, for example: apt install chromium")
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*BROWSER])
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url),
        )
        page.goto(page_file.as_uri())
        assert page.title().endswith(": what is inside")
        assert page.locator("img").evaluate_all("all => all.length && all.every(one => one.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        operators = len(inspect_model.describe(CIFAR).steps)
        assert page.locator("ol.chain li:not(.head)").count() == operators
        browser.close()
    assert wrong == []
