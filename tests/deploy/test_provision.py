"""What a device is flashed with is checked before it is written anywhere."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.fleet import Fleet
from deploy.provision import files
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.provisioning import FILES
from edge_agent.contracts.yamlfile import ProblemsError
from edge_agent.provision import provisioned
from tests.conftest import Kit
from tests.deploy.fleets import DEVICE_ID, NOW, fleet_with_device


def test_a_device_gets_its_own_files_and_the_fleets(tmp_path: Path) -> None:
    fleet = fleet_with_device(tmp_path / "fleet")
    found = files(fleet, DEVICE_ID, NOW)
    assert tuple(found) == FILES
    home = fleet.device_folder(DEVICE_ID)
    for name in ("device.yaml", "planogram.yaml", "reference.jpg", "device.pem", "device.key"):
        assert found[name] == (home / name).read_bytes()
    (fleet.repository / "metadata" / "10.root.json").write_bytes(found["root.json"])
    (fleet.repository / "metadata" / "9.root.json").write_bytes(b"older")
    assert files(fleet, DEVICE_ID, NOW) == found


def test_state_and_bundle_are_put_where_the_device_has_them(tmp_path: Path) -> None:
    fleet = fleet_with_device(tmp_path / "fleet")
    text = files(fleet, DEVICE_ID, NOW, data=Path("/srv/shelf"))["device.yaml"].decode()
    before = (fleet.device_folder(DEVICE_ID) / "device.yaml").read_text()
    assert text == before.replace("/data/shelf", "/srv/shelf").replace("  #", " #")
    assert "# above the cheese" in text


def test_what_the_device_would_refuse_is_refused_here(tmp_path: Path) -> None:
    fleet = fleet_with_device(tmp_path / "fleet")
    home = fleet.device_folder(DEVICE_ID)
    with pytest.raises(ConfigError, match="cam-99"):
        files(fleet, "cam-99", NOW)
    with pytest.raises(ProblemsError, match="good now"):
        files(fleet, DEVICE_ID, NOW + timedelta(days=400))
    # What the device has already is not brought anew; it may have renewed it.
    had = {"device.pem": hashlib.sha256((home / "device.pem").read_bytes()).hexdigest()}
    assert files(fleet, DEVICE_ID, NOW + timedelta(days=400), had=had)
    (home / "device.yaml").write_text("device: [")
    (home / "device.key").unlink()
    with pytest.raises(ProblemsError, match=r"device\.key  missing") as refused:
        files(fleet, DEVICE_ID, NOW)
    assert "device.yaml:1" in str(refused.value)
    assert str(home) in refused.value.hint
    fleet.keep(fleet.device(DEVICE_ID).model_copy(update={"revoked": NOW}))
    with pytest.raises(ConfigError, match="revoked 2026-11-26"):
        files(fleet, DEVICE_ID, NOW)


def test_a_device_is_not_flashed_as_another(tmp_path: Path) -> None:
    fleet = fleet_with_device(tmp_path / "fleet")
    home = fleet.device_folder(DEVICE_ID)
    home.rename(home.with_name("cam-2"))
    with pytest.raises(ProblemsError, match="expected the device cam-2; received cam-12-01"):
        files(fleet, "cam-2", NOW)


def test_what_device_add_writes_is_what_a_device_takes(tmp_path: Path, kit: Kit) -> None:
    kit("deploy", "fleet", "init", "--name", "shops", "--fleet", tmp_path / "fleet")
    add = ("deploy", "device", "add", "cam-7", "--store", "0417", "--shelf", "12")
    kit(*add, "--camera", "v4l2:/dev/video0", "--broker", "broker.example", "--fleet", tmp_path / "fleet")
    (tmp_path / "boot").mkdir()
    for name, content in files(Fleet(tmp_path / "fleet"), "cam-7", datetime.now(UTC)).items():
        (tmp_path / "boot" / name).write_bytes(content)
    with pytest.raises(ProblemsError, match="state_dir"):
        provisioned(tmp_path / "boot", tmp_path / "data", datetime.now(UTC))
    elsewhere = files(Fleet(tmp_path / "fleet"), "cam-7", datetime.now(UTC), data=tmp_path / "data")
    (tmp_path / "boot" / "device.yaml").write_bytes(elsewhere["device.yaml"])
    done = provisioned(tmp_path / "boot", tmp_path / "data", datetime.now(UTC))
    assert done.checked.config.device == "cam-7"
    assert not done.checked.notes
