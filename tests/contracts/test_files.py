"""Files and folders that appear whole or not at all."""

from pathlib import Path

import pytest

from edge_agent.contracts.files import written_beside


def test_a_folder_takes_its_place_at_the_end(tmp_path: Path) -> None:
    with written_beside(tmp_path / "deep" / "run") as staged:
        (staged / "inner").mkdir(parents=True)
        (staged / "inner" / "x").write_text("x")
        assert not (tmp_path / "deep" / "run").exists()
    assert (tmp_path / "deep" / "run" / "inner" / "x").read_text() == "x"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("before")

    def fails() -> None:
        with written_beside(tmp_path / "x") as staged:
            staged.write_text("after")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert (tmp_path / "x").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_with_something_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()

    def overwrites() -> None:
        with written_beside(tmp_path / "run") as staged:
            staged.mkdir()

    with pytest.raises(OSError, match="not empty"):
        overwrites()
    assert (tmp_path / "run" / "mine").exists()
