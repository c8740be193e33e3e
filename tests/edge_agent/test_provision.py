"""First boot: the whole is checked, taken over, and told; any moment may be the last."""

import base64
import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy import provision as provisions
from deploy.fleet import Fleet
from edge_agent.contracts.errors import ConfigError, DeviceError
from edge_agent.contracts.provisioning import FILES, REPORT
from edge_agent.contracts.yamlfile import ProblemsError
from edge_agent.provision import provisioned
from edge_agent.renewal import HELD
from tests.conftest import Kit
from tests.deploy.fleets import DEVICE_ID, NOW, Authority, fleet_with_device

Change = Callable[[Path], object]


class Board:
    """A boot partition and a data partition."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boot, self.data = folder, folder / "boot", folder / "data" / "shelf"
        fleet, self.authority = Fleet(folder / "fleet"), Authority()
        fleet_with_device(fleet.folder, authority=self.authority)
        self.files = provisions.files(fleet, DEVICE_ID, NOW, data=self.data)
        self.boot.mkdir()
        (self.boot / "config.txt").write_text("arm_64bit=1\n")
        self.insert()

    def insert(self) -> None:
        for name, content in self.files.items():
            (self.boot / name).write_bytes(content)

    @property
    def report(self) -> str:
        return (self.boot / REPORT).read_text()

    def kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.data / "device").iterdir()}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_what_lies_on_the_boot_partition_moves_to_the_device(board: Board) -> None:
    done = provisioned(board.boot, board.data, NOW, owner=(os.getuid(), os.getgid()))
    assert done.applied == FILES
    assert not done.checked.notes
    assert board.kept() == board.files
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (board.data / "device").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((board.data / "device").stat().st_mode) == 0o700
    assert {path.name for path in board.boot.iterdir()} == {"config.txt", REPORT}
    assert (board.data / "metadata" / "root.json").read_bytes() == board.files["root.json"]
    assert board.report.startswith("shelfkit: this device is provisioned.")
    assert "2027-11-26" in board.report
    assert (board.data / "state").is_dir()


def test_it_runs_at_every_start_and_changes_nothing_then(board: Board) -> None:
    provisioned(board.boot, board.data, NOW)
    # A renewed certificate and newer metadata are the device's own business.
    (board.data / "metadata" / "timestamp.json").write_text("{}")
    report = board.report
    again = provisioned(board.boot, board.data, NOW + timedelta(days=3))
    assert not again.applied
    assert board.kept() == board.files
    assert board.report == report
    assert (board.data / "metadata" / "timestamp.json").exists()


def test_one_file_alone_replaces_its_own(board: Board) -> None:
    provisioned(board.boot, board.data, NOW)
    (board.data / "metadata" / "timestamp.json").write_text("{}")
    changed = board.files["device.yaml"].replace(b"fps: 2", b"fps: 1")
    (board.boot / "Device.YAML").write_bytes(changed)
    assert provisioned(board.boot, board.data, NOW).applied == ("device.yaml",)
    assert board.kept() == board.files | {"device.yaml": changed}
    assert (board.data / "metadata" / "timestamp.json").exists()


@pytest.mark.parametrize("renewed", [True, False])
def test_a_device_goes_on_after_its_first_certificate_and_takes_over_files(
    board: Board, *, renewed: bool
) -> None:
    provisioned(board.boot, board.data, NOW)
    if renewed:
        certificate, key = board.authority.issue(DEVICE_ID, begin=NOW + timedelta(days=250))
        (board.data / "state" / HELD).write_bytes(certificate + key)
    later = NOW + timedelta(days=400)
    done = provisioned(board.boot, board.data, later)
    assert not done.applied
    assert (done.checked.not_after > later) is renewed
    [note] = done.checked.notes
    assert "until 2027-11-26" in note
    changed = board.files["planogram.yaml"] + b"# moved\n"
    (board.boot / "planogram.yaml").write_bytes(changed)
    # The whole that it was flashed with may come again: it is nothing new.
    (board.boot / "device.pem").write_bytes(board.files["device.pem"])
    assert provisioned(board.boot, board.data, later).applied == ("planogram.yaml", "device.pem")
    assert board.kept() == board.files | {"planogram.yaml": changed}
    assert ("good until 2028-08-02" in board.report) is renewed
    certificate, key = board.authority.issue(DEVICE_ID, begin=NOW + timedelta(days=10))
    (board.boot / "device.pem").write_bytes(certificate)
    (board.boot / "device.key").write_bytes(key)
    with pytest.raises(ProblemsError, match="good now"):
        provisioned(board.boot, board.data, later)


def test_another_fleet_is_trusted_from_its_own_root_on(board: Board, tmp_path: Path) -> None:
    provisioned(board.boot, board.data, NOW)
    (board.data / "metadata" / "timestamp.json").write_text("{}")
    other = fleet_with_device(tmp_path / "other")
    board.files = provisions.files(other, DEVICE_ID, NOW, data=board.data)
    board.insert()
    provisioned(board.boot, board.data, NOW)
    assert board.kept() == board.files
    assert (board.data / "metadata" / "root.json").read_bytes() == board.files["root.json"]
    assert not (board.data / "metadata" / "timestamp.json").exists()


def _edit(name: str, before: str, after: str) -> Change:
    def change(boot: Path) -> None:
        text = (boot / name).read_text()
        assert before in text
        (boot / name).write_text(text.replace(before, after))

    return change


def _write(name: str, content: bytes) -> Change:
    return lambda boot: (boot / name).write_bytes(content)


def _strange_curve(boot: Path) -> None:
    """A certificate whose key is on a curve that nobody knows: it is read, and then not understood."""
    der = x509.load_pem_x509_certificate((boot / "device.pem").read_bytes()).public_bytes(Encoding.DER)
    curve = bytes.fromhex("06082a8648ce3d030107")
    body = base64.encodebytes(der.replace(curve, curve[:-1] + b"\x7f")).decode()
    (boot / "device.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")


_OTHER = Authority("another")
WRONG: dict[str, tuple[Change, tuple[str, ...]]] = {
    "missing": (lambda boot: (boot / "ca.pem").unlink(), ("ca.pem", "missing")),
    "empty": (_write("device.key", b""), ("device.key", "received 0")),
    "unknown key": (_edit("device.yaml", "camera:", "camra:"), ("did you mean `camera`", "device.yaml:6")),
    "other state": (_edit("device.yaml", "/state", "/var"), ("state_dir",)),
    "other bundle": (_edit("device.yaml", "/current/bundle", "/bundle"), ("bundle",)),
    "no TLS": (
        _edit("device.yaml", ", tls: {ca: ca.pem, certificate: device.pem, key: device.key}", ""),
        ("broker", "expected tls"),
    ),
    "other path": (_edit("device.yaml", "key: device.key", "key: /etc/device.key"), ("broker.tls.key",)),
    "planogram": (_edit("planogram.yaml", "[60, 90]", "[60, 9000]"), ("planogram.yaml", "corners inside")),
    "reference": (_edit("planogram.yaml", "reference.jpg", "other.jpg"), ("reference",)),
    "picture": (_write("reference.jpg", b"no picture"), ("cannot be read",)),
    "certificate": (_write("device.pem", b"none"), ("device.pem", "certificate in PEM")),
    "curve": (_strange_curve, ("device.pem", "certificate in PEM")),
    "authority": (_write("ca.pem", _OTHER.pem), ("device.pem", "ca.pem has signed")),
    "key": (_write("device.key", _OTHER.issue("x")[1]), ("device.key", "another")),
    "no key": (_write("device.key", b"-----BEGIN"), ("device.key", "private key in PEM")),
    "root": (_edit("root.json", '"threshold":2', '"threshold":3'), ("root.json", "signed by its own keys")),
    "no root": (_write("root.json", b"{}"), ("root.json",)),
    "device": (_edit("device.yaml", DEVICE_ID, "cam-99"), ("device.pem", "cam-99")),
    "nearly a name": (_write("device.yaml.txt", b""), ("device.yaml.txt", "another name")),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_told_and_nothing_is_applied(board: Board, what: str) -> None:
    change, words = WRONG[what]
    change(board.boot)
    before = {path.name: path.read_bytes() for path in board.boot.iterdir()}
    with pytest.raises(ProblemsError) as refused:
        provisioned(board.boot, board.data, NOW)
    for word in words:
        assert word in str(refused.value)
        assert word in board.report
    assert board.report.startswith("shelfkit: NOT provisioned.")
    assert not (board.data / "device").exists()
    assert not list(board.data.glob(".device*"))
    after = {path.name: path.read_bytes() for path in board.boot.iterdir() if path.name != REPORT}
    assert after == before
    assert b"PRIVATE" not in board.report.encode()


def test_everything_wrong_is_told_at_once(board: Board) -> None:
    for name in ("missing", "planogram", "no key"):
        WRONG[name][0](board.boot)
    with pytest.raises(ProblemsError) as refused:
        provisioned(board.boot, board.data, NOW)
    assert {str(problem.file) for problem in refused.value.problems} == {
        "ca.pem", "planogram.yaml", "device.key",
    }  # fmt: skip


def test_a_provisioned_device_keeps_what_it_has_when_the_next_is_wrong(board: Board) -> None:
    provisioned(board.boot, board.data, NOW)
    (board.boot / "planogram.yaml").write_text("shelf: [")
    with pytest.raises(ConfigError):
        provisioned(board.boot, board.data, NOW)
    assert board.kept() == board.files
    assert "not valid YAML" in board.report
    assert "goes on with what it had" in board.report
    (board.boot / "planogram.yaml").unlink()
    provisioned(board.boot, board.data, NOW)
    assert board.report.startswith("shelfkit: this device is provisioned.")


@pytest.mark.parametrize(("days", "refused"), [(-400, False), (-20_000, False), (400, True), (9000, False)])
def test_a_clock_that_cannot_be_right_is_no_expired_certificate(
    board: Board, days: int, refused: bool
) -> None:
    if refused:
        with pytest.raises(ProblemsError, match="good now"):
            provisioned(board.boot, board.data, NOW + timedelta(days=days))
        return
    done = provisioned(board.boot, board.data, NOW + timedelta(days=days))
    assert "cannot be right" in done.checked.notes[0]
    assert "cannot be right" in board.report


class PowerCutError(Exception):
    """The power is gone."""


def _interrupted(board: Board, at: int) -> bool:
    """Provision with a power cut before the operation with this number; tell whether it came."""
    left = at

    def before() -> None:
        nonlocal left
        if left == 0:
            raise PowerCutError
        left -= 1

    try:
        provisioned(board.boot, board.data, NOW, before=before)
    except PowerCutError:
        return True
    return False


@pytest.mark.parametrize("again", [False, True])
def test_a_power_cut_at_any_moment_leaves_a_device_that_ends_up_provisioned(
    board: Board, tmp_path: Path, again: bool
) -> None:
    wanted = board.files
    if again:
        provisioned(board.boot, board.data, NOW)
        other = fleet_with_device(tmp_path / "other")
        wanted = board.files = provisions.files(other, DEVICE_ID, NOW, data=board.data)
        board.insert()
    start = tmp_path / "start"
    start.mkdir()
    for name in ("boot", "data"):
        if (tmp_path / name).exists():
            shutil.copytree(tmp_path / name, start / name)
    for at in range(200):
        for name in ("boot", "data"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            if (start / name).exists():
                shutil.copytree(start / name, tmp_path / name)
        if not _interrupted(board, at):
            break
        if at % 3 == 0:
            _interrupted(board, at % 5)  # and once more while it mends that
        provisioned(board.boot, board.data, NOW)
        assert board.kept() == wanted, f"after a cut before operation {at}"
        assert {path.name for path in board.boot.iterdir()} == {"config.txt", REPORT}
        assert (board.data / "metadata" / "root.json").read_bytes() == wanted["root.json"]
        assert not list(board.data.glob(".device*"))
        assert board.report.startswith("shelfkit: this device is provisioned.")
    assert 20 < at < 199


def test_a_report_that_was_being_written_leaves_nothing(board: Board) -> None:
    for name, file in ((".tmp-1", REPORT), (".tmp-2", "a letter")):
        (board.boot / name).mkdir()
        (board.boot / name / file).write_text("half")
    provisioned(board.boot, board.data, NOW)
    assert {path.name for path in board.boot.iterdir()} == {"config.txt", REPORT, ".tmp-2"}


def test_a_key_is_overwritten_before_it_is_removed(board: Board) -> None:
    (tmp := board.folder / "link").hardlink_to(board.boot / "device.key")
    provisioned(board.boot, board.data, NOW)
    assert set(tmp.read_bytes()) == {0}


def test_nothing_at_all_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    with pytest.raises(ProblemsError, match="7 problems"):
        provisioned(tmp_path / "boot", tmp_path / "data", NOW)
    assert "missing" in (tmp_path / "boot" / REPORT).read_text()
    with pytest.raises(DeviceError):
        provisioned(tmp_path / "nowhere", tmp_path / "data", NOW)


@pytest.mark.slow
def test_the_command_says_what_it_did(board: Board, kit: Kit) -> None:
    said = kit("agent", "provision", "--boot", board.boot, "--data", board.data, "--json")
    assert json.loads(said.stdout)["applied"] == list(FILES)
    again = kit("agent", "provision", "--boot", board.boot, "--data", board.data)
    assert "nothing new" in again.stdout
    (board.boot / "root.json").write_text("{}")
    refused = kit("agent", "provision", "--boot", board.boot, "--data", board.data, code=3)
    assert "root.json" in refused.stderr
    assert "user" in kit("agent", "provision", "--boot", board.boot, "--user", "no-such", code=2).stderr
