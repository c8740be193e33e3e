"""What boards tell of themselves: trees as Linux shows them, and the kernel's own clock."""

from pathlib import Path

import pytest

from edge_agent import board
from edge_agent.board import BoardReader, Clock, Throttled


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def zone(number: int, kind: str, millidegrees: object) -> dict[str, str]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": f"{kind}\n", f"{folder}/temp": f"{millidegrees}\n"}


def chip(number: int, name: str, *millidegrees: int) -> dict[str, str]:
    folder = f"sys/class/hwmon/hwmon{number}"
    sensors = {f"{folder}/temp{place}_input": f"{value}\n" for place, value in enumerate(millidegrees, 1)}
    return {f"{folder}/name": f"{name}\n", **sensors}


PI = "sys/devices/platform/soc/soc:firmware/get_throttled"

TEMPERATURES = {
    "raspberry pi": (zone(0, "cpu-thermal", 51121), 51.121),
    "rockchip": (zone(0, "soc-thermal", 40000) | zone(1, "gpu-thermal", 90000), 40.0),
    "hottest core": (zone(0, "cpu0-thermal", 40000) | zone(1, "cpu1-thermal", 42500), 42.5),
    "x86": (zone(0, "acpitz", 99000) | zone(1, "x86_pkg_temp", 61000), 61.0),
    "hwmon alone": (chip(0, "nvme", 99000) | chip(1, "coretemp", 55000, 58000), 58.0),
    "zones go first": (zone(0, "cpu-thermal", 50000) | chip(0, "cpu_thermal", 60000), 50.0),
    "below zero": (zone(0, "cpu-thermal", -12500), -12.5),
    "no processor": (zone(0, "acpitz", 27800) | chip(0, "BAT0", 30000), None),
    "a sensor asleep": (zone(0, "cpu-thermal", -274000), None),
    "words": (zone(0, "cpu-thermal", "unknown"), None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("files", "degrees"), TEMPERATURES.values(), ids=TEMPERATURES)
def test_the_temperature(tmp_path: Path, files: dict[str, str], degrees: float | None) -> None:
    assert board.temperature_c(written(tmp_path, files)) == degrees


def test_a_sensor_that_gives_an_error_is_passed_over(tmp_path: Path) -> None:
    written(tmp_path, zone(0, "cpu-thermal", 50000) | {"sys/class/thermal/thermal_zone1/type": "cpu-thermal"})
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").mkdir()
    assert board.temperature_c(tmp_path) == 50.0


BITS = {
    "0": Throttled(now=False, ever=False),
    "1": Throttled(now=True, ever=True, reasons=("under-voltage",)),
    "50005": Throttled(now=True, ever=True, reasons=("under-voltage", "throttled")),
    "80000": Throttled(now=False, ever=True, reasons=("soft-temperature-limit",)),
    "0x50000": Throttled(now=False, ever=True, reasons=("under-voltage", "throttled")),
    "no hex": None,
}


@pytest.mark.parametrize(("text", "expected"), BITS.items())
@pytest.mark.parametrize(
    "place", [PI, "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"]
)
def test_a_raspberry_pi_says_why(tmp_path: Path, text: str, expected: Throttled | None, place: str) -> None:
    assert BoardReader(written(tmp_path, {place: f"{text}\n"})).throttled() == expected


def test_x86_only_counts(tmp_path: Path) -> None:
    def count(core: int, package: int) -> None:
        folder = "sys/devices/system/cpu/cpu0/thermal_throttle"
        written(
            tmp_path,
            {
                f"{folder}/core_throttle_count": f"{core}\n",
                f"{folder}/package_throttle_count": f"{package}\n",
            },
        )

    count(0, 0)
    reader = BoardReader(tmp_path)
    assert reader.throttled() == Throttled(now=False, ever=False)
    count(0, 3)
    assert reader.throttled() == Throttled(now=True, ever=True)
    assert reader.throttled() == Throttled(now=False, ever=True)
    count(1, 3)
    assert reader.throttled() == Throttled(now=True, ever=True)
    # What was counted before this process began is no news.
    assert BoardReader(tmp_path).throttled() == Throttled(now=False, ever=True)


def test_the_clock_by_timesyncds_mark_where_the_kernel_says_nothing(tmp_path: Path) -> None:
    def silent() -> None:
        return None

    assert board.clock(tmp_path, silent) is None
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert board.clock(tmp_path, silent) == Clock(synchronized=False)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert board.clock(tmp_path, silent) == Clock(synchronized=True)
    assert board.clock(tmp_path, lambda: Clock(synchronized=False, offset_s=0.2)) == Clock(
        synchronized=False, offset_s=0.2
    )


def test_this_machines_own_clock() -> None:
    found = board.kernel_clock()
    if found is None:
        pytest.skip("this machine forbids adjtimex")
    assert found.offset_s is not None
    # The kernel itself steps anything that is larger.
    assert abs(found.offset_s) <= 1


def test_a_board_that_tells_nothing(tmp_path: Path) -> None:
    found = BoardReader(tmp_path, kernel=lambda: None).read()
    assert (found.temperature_c, found.throttled, found.clock) == (None, None, None)


def test_a_board_that_tells_everything(tmp_path: Path) -> None:
    reader = BoardReader(written(tmp_path, zone(0, "cpu-thermal", 51000) | {PI: "0\n"}))
    found = reader.read()
    assert found.temperature_c == 51.0
    assert found.throttled == Throttled(now=False, ever=False)
