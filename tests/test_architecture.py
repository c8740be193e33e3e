"""The shape of the house: who may touch what, and how large a room may grow.

Who imports whom is import-linter's business (`make check`); this is what it cannot see.
"""

import ast
import re
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "convert", "deploy", "edge_agent", "dashboard")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines of each function of a module, docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = (first.end_lineno or 0) if documented else node.lineno - 1
            yield node.name, (node.end_lineno or 0) - start


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_one_purpose_and_its_functions_fit_a_screen(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert [item for item in functions(path) if item[1] > 50] == []


def test_the_median_stays_small() -> None:
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES]
    lengths = [length for path in MODULES for _, length in functions(path)]
    assert statistics.median(lines) <= 150
    assert statistics.median(lengths) <= 12


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"\bVideoCapture\(", "edge_agent/camera/"),
        (
            r"\bcv2\.resize\(|\bwarpPerspective\(",
            "edge_agent/contracts/preprocess.py|edge_agent/(camera|align|slots|faults|orders)|train/(augment|robustness)",
        ),
        (r"TFLiteConverter", "convert/quantize.py"),
        (r"^\s*(import|from) paho", "edge_agent/mqtt.py"),
    ],
)
def test_a_thing_is_done_in_one_place(pattern: str, home: str) -> None:
    """Model input is made in one place; thumbnails and changed copies of photos where they are needed."""
    found = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [name for name in found if not re.match(home, name)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            silent = all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)
            assert not (broad and silent), f"line {node.lineno}"


def test_the_lock_names_no_address() -> None:
    assert not re.search(
        r"https?://|--index-url|--find-links \S", (ROOT / "requirements.lock").read_text().split("\n", 3)[3]
    )


def test_the_lock_pins_everything_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for group in project["optional-dependencies"].values() for item in group),
    ]
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    names = {re.split(r"[\[><=;! ]", item)[0].replace(".", "-").lower() for item in wanted}
    assert names - pinned == set()
    assert all("<" in item for item in wanted), "every dependency has an upper bound"


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text(encoding="utf-8"))
        if not (document.parent / link).exists()
    ]
    assert broken == []
