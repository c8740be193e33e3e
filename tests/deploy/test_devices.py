"""Devices come into the fleet whole, are given certificates, and are put out again."""

import json
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from deploy import authority as authorities
from deploy import inventory, starting
from deploy.beginning import begin
from deploy.fleet import Fleet
from deploy.inventory import Asked
from deploy.starting import Wanted
from edge_agent.contracts import config, planogram
from edge_agent.contracts.errors import ConfigError, KitError, UsageError
from tests.conftest import Kit, find_program

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CAMERA = Wanted(device="cam-12-01", store="0417", shelf="12", broker="mqtt.example", camera="shelf:seed=7")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return begin(tmp_path / "fleet", "test", NOW)


def certificates(folder: Path) -> list[x509.Certificate]:
    return [item.certificate for item in authorities.issued(folder)]


def revoked(fleet: Fleet) -> set[int]:
    found = x509.load_pem_x509_crl(fleet.revocation_list.read_bytes())
    return {item.serial_number for item in found}


@pytest.mark.slow
def test_the_command_line_from_a_fleet_to_a_device_that_is_put_out(tmp_path: Path, kit: Kit) -> None:
    def deploy(*arguments: str, code: int = 0) -> str:
        done = kit("deploy", *arguments, cwd=tmp_path, code=code)
        assert "PRIVATE" not in done.stdout + done.stderr
        return done.stderr if code else done.stdout

    deploy("fleet", "init", "--name", "lab", "--broker-name", "mqtt.example", "--updates", "https://up/")
    where = ("--store", "0417", "--shelf", "12", "--zone", "Asia/Tokyo")
    said = deploy("device", "add", "cam-12-01", *where, "--json")
    folder = tmp_path / "fleet" / "devices" / "cam-12-01"
    told = json.loads(said)
    assert (told["device"], told["store"], told["shelf"]) == ("cam-12-01", "0417", "12")
    assert stat.S_IMODE((folder / "device.key").stat().st_mode) == 0o600
    begun = config.read(folder / "device.yaml").value
    assert begun is not None
    assert (begun.updates.url, begun.updates.zone) == ("https://up/", "Asia/Tokyo")
    assert "already" in deploy("device", "add", "cam-12-01", "--store", "1", "--shelf", "1", code=3)
    assert "cam-12-01" in deploy("device", "list")
    assert json.loads(deploy("device", "list", "--json"))["devices"][0]["revoked"] is None
    before = (folder / "device.pem").read_bytes()
    deploy("device", "renew", "cam-12-01")
    assert (folder / "device.pem").read_bytes() != before
    assert "2 certificates" in deploy("device", "revoke", "cam-12-01")
    assert "revoked" in deploy("device", "show", "cam-12-01")
    assert len(json.loads(deploy("device", "show", "cam-12-01", "--json"))["certificates"]) == 2
    assert "reinstate" in deploy("device", "renew", "cam-12-01", code=3)
    deploy("device", "renew", "cam-12-01", "--reinstate")
    assert "cam-12-99" in deploy("device", "show", "cam-12-99", code=3)
    assert len(revoked(Fleet(tmp_path / "fleet"))) == 2


def test_a_device_begins_with_files_that_it_can_read(fleet: Fleet) -> None:
    line = inventory.add(fleet, authorities.opened(fleet), CAMERA, NOW, arch="arm64")
    folder = fleet.device_folder("cam-12-01")
    assert fleet.device("cam-12-01") == line
    document = config.read(folder / "device.yaml")
    assert document.value is not None
    assert not document.problems
    device = document.value
    assert (str(device.state_dir), str(device.bundle)) == (starting.STATE, starting.BUNDLE)
    assert device.broker.host == "mqtt.example"
    assert device.broker.tls is not None
    assert device.broker.tls.key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY")
    [issued] = certificates(folder)
    assert x509.load_pem_x509_certificate(device.broker.tls.certificate.read_bytes()) == issued
    assert issued.subject.rfc4514_string() == "CN=cam-12-01"
    shelf = planogram.read(device.planogram)
    assert not shelf.problems
    assert shelf.value is not None
    assert shelf.value.shelf == "12"


def test_a_planogram_that_was_drawn_before_comes_along_with_its_picture(fleet: Fleet) -> None:
    inventory.add(fleet, authorities.opened(fleet), CAMERA, NOW)
    drawn = fleet.device_folder("cam-12-01")
    other = Wanted(device="cam-13", store="0417", shelf="13", broker="h", planogram=drawn / "planogram.yaml")
    inventory.add(fleet, authorities.opened(fleet), other, NOW)
    copy = fleet.device_folder("cam-13")
    assert (copy / "reference.jpg").read_bytes() == (drawn / "reference.jpg").read_bytes()
    shelf = planogram.read(copy / "planogram.yaml").value
    assert shelf is not None
    assert shelf.shelf == "13"


def test_a_key_may_stay_on_the_device(fleet: Fleet, tmp_path: Path) -> None:
    request = tmp_path / "request.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(tmp_path / "k"))
    command = [find_program("openssl"), "req", "-new", *curve, "-subj", "/CN=cam-12-01", "-out", str(request)]
    subprocess.run(command, check=True, capture_output=True)
    inventory.add(fleet, authorities.opened(fleet), CAMERA, NOW, asked=Asked(request=request))
    folder = fleet.device_folder("cam-12-01")
    assert not (folder / "device.key").exists()
    wanted = x509.load_pem_x509_csr(request.read_bytes()).public_key()
    assert certificates(folder)[0].public_key() == wanted
    inventory.renew(fleet, authorities.opened(fleet), "cam-12-01", NOW)
    assert (folder / "device.key").exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"device": "svc-operator"}, UsageError),
        ({"device": "svc-new"}, UsageError),
        ({"device": "broker"}, UsageError),
        ({"device": "a/b"}, UsageError),
        ({"store": "#"}, UsageError),
        ({"broker": ":x"}, UsageError),
        ({"camera": "what:"}, ConfigError),
        ({"planogram": Path("/proc/none")}, ConfigError),
    ],
)
def test_what_is_refused_leaves_nothing(
    fleet: Fleet, changes: dict[str, object], error: type[KitError]
) -> None:
    values = {name: getattr(CAMERA, name) for name in Wanted.__dataclass_fields__} | changes
    with pytest.raises(error):
        inventory.add(fleet, authorities.opened(fleet), Wanted(**values), NOW)
    assert list(fleet.devices()) == []
    assert [path for path in fleet.folder.rglob("*") if path.name.startswith(".tmp-")] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt.example", ("mqtt.example", 8883)),
        ("mqtt.example:1884", ("mqtt.example", 1884)),
        ("10.0.2.2:8883", ("10.0.2.2", 8883)),
        ("[fd00::1]:1884", ("fd00::1", 1884)),
        ("fd00::1", ("fd00::1", 8883)),
    ],
)
def test_where_a_broker_is(text: str, said: tuple[str, int]) -> None:
    assert starting.address(text) == said
