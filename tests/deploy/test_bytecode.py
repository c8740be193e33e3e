"""What devices would compile, compiled before: the same bytes each time, and taken as it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.release import bytecode
from deploy.release.bytecode import PYTHON, cached, with_bytecode
from tests.conftest import missing

SOURCES = {
    "shelf/__init__.py": "",
    "shelf/told.py": 'def told(name):\n    return name in {"milk", "oat", "soy"}, __file__\n',
    "shelf/old.py": 'print "of another age"\n',
    "shelf/data.txt": "no module\n",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    if bytecode._python() is None:
        missing(f"Python {PYTHON}", "install it, for example: apt install python3.11")
    for name, text in SOURCES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {name: tmp_path / "source" / name for name in SOURCES}


def test_what_is_compiled_is_the_same_each_time_and_says_nothing_of_this_machine(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    first, second = (with_bytecode(files, tmp_path / name) for name in ("one", "two"))
    added = first.keys() - files.keys()
    # What no Python of today can read stays as it is.
    assert added == {cached("shelf/__init__.py"), cached("shelf/told.py")}
    for name in added:
        content = first[name].read_bytes()
        assert content == second[name].read_bytes()
        assert str(tmp_path).encode() not in content


def test_a_device_takes_what_was_compiled_and_does_not_look_at_times(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    for name, path in with_bytecode(files, tmp_path / "compiled").items():
        target = tmp_path / "device" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    # Another source of another time: what was compiled is believed.
    (tmp_path / "device/shelf/told.py").write_text("raise SystemExit('compiled anew')\n")
    asks = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'device')!r}); import shelf.told as it; "
        "print(*it.told('milk'), it.told.__code__.co_filename)"
    )
    command = [bytecode._python() or sys.executable, "-I", "-c", asks]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = tmp_path / "device/shelf/told.py"
    assert done.stdout.split() == ["True", str(told), str(told)]


def test_without_the_devices_python_there_are_sources_alone(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bytecode, "_python", lambda: None)
    assert with_bytecode(files, tmp_path / "compiled") == files
    assert "devices compile by themselves" in caplog.text
