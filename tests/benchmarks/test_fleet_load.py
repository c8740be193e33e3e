"""A small fleet with storms, by the script that publishes the figures of a large one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import find_program

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.broker
def test_a_fleet_loses_nothing_in_storms(tmp_path: Path) -> None:
    find_program("mosquitto")
    line = [
        sys.executable,
        "benchmarks/fleet_load.py",
        "--devices",
        "500",
        "--minutes",
        "0.3",
        "--rate",
        "20",
    ]
    result = tmp_path / "fleet.json"
    subprocess.run([*line, "--result", str(result)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(result.read_text())["figures"]
    assert (figures["lost"], figures["doubled"], figures["gaps"]) == (0, 0, 0)
    assert figures["events"] > 500
    assert figures["connections"] >= 1000
