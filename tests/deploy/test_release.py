"""`shelfkit deploy release`, as an operator uses it, and a device that fetches what came of it."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.fleet import Fleet, FleetInfo
from deploy.release.keys import NAMES, private_key, write_key
from deploy.release.parts import agent_component, runtime_component
from deploy.release.repository import Keys
from deploy.release.repository import Repository as Offered
from deploy.release.serving import server
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import DataError, ServiceError, UsageError
from edge_agent.contracts.release import Component, Place
from edge_agent.update.fetch import Repository, Tls
from edge_agent.update.unpack import unpack
from tests.conftest import Kit
from tests.deploy.releases import World


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path / "fleet")
    info = FleetInfo(name="test", created=datetime(2026, 11, 26, tzinfo=UTC))
    made.write(made.info, info.model_dump_json().encode())
    for name in NAMES:
        write_key(made.keys / f"{name}.pem")
    return made


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one small wheel, which has a script that must not come along."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "def main() -> None: ...\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def device(fleet: Fleet, folder: Path) -> Place:
    place = Place(folder)
    place.metadata.mkdir(parents=True)
    shutil.copyfile(fleet.repository / "metadata" / "1.root.json", place.metadata / "root.json")
    return place


def test_from_a_bundle_to_a_device_that_has_it(
    fleet: Fleet, wheels: Path, bundle_folder: Path, kit: Kit, tmp_path: Path
) -> None:
    create = ("deploy", "release", "create", "--fleet", fleet.folder, "--bundle", bundle_folder, "--json")
    first = kit(*create, "--arch", "amd64", "--arch", "arm64", "--runtime", wheels)
    assert json.loads(first.stdout) == {"number": 1, "arch": ["amd64", "arm64"], "offered": True}
    kit(*create, "--reuse-agent", "--downgrade")
    listed = json.loads(kit("deploy", "release", "list", "--fleet", fleet.folder, "--json").stdout)[
        "releases"
    ]
    assert [(row["number"], row["arch"], row["downgrade"]) for row in listed] == [
        (1, "amd64", False),
        (1, "arm64", False),
        (2, "amd64", True),
    ]
    assert listed[0]["runtime"] == listed[2]["runtime"]
    assert len(list((fleet.repository / "targets" / "components").iterdir())) == 3

    kit("deploy", "release", "export", tmp_path / "stick", "--fleet", fleet.folder)
    repository = Repository(device(fleet, tmp_path / "device"), (tmp_path / "stick").as_uri())
    release = repository.release(2, "amd64")
    for kind, part in release.components.items():
        unpack(repository.download(part, tmp_path / "incoming"), tmp_path / "unpacked" / kind)
    got = tmp_path / "unpacked"
    assert bundle.read(got / "bundle").sha256 == bundle.read(bundle_folder).sha256
    assert (got / "agent" / "edge_agent" / "__main__.py").is_file()
    assert sorted(path.name for path in (got / "runtime" / "site-packages").iterdir()) == [
        "__pycache__",
        "tiny-1.0.dist-info",
        "tiny.py",
    ]


def test_the_same_content_is_the_same_release(
    fleet: Fleet, wheels: Path, bundle_folder: Path, kit: Kit
) -> None:
    create = ("deploy", "release", "create", "--fleet", fleet.folder, "--bundle", bundle_folder)
    again = (*create, "--number", 7, "--created", "2026-11-26T09:00:00Z", "--runtime", wheels)
    kit(*again)
    files = {path: path.read_bytes() for path in (fleet.repository / "targets").rglob("*") if path.is_file()}
    kit(*again)
    assert {path: path.read_bytes() for path in files} == files
    assert {path for path in (fleet.repository / "targets").rglob("*") if path.is_file()} == set(files)
    other = kit(*again, "--downgrade", code=6)
    assert "another release already" in other.stderr
    assert "above 7" in kit(*create, "--number", 3, "--runtime", wheels, code=2).stderr


def test_the_same_wheels_are_the_same_runtime_and_not_packed_again(tmp_path: Path, wheels: Path) -> None:
    into, said = tmp_path / "components", list[tuple[str, int, int]]()

    def make(before: list[Component]) -> Component:
        room = Path(mkdtemp(dir=tmp_path))
        return runtime_component(
            wheels, "amd64", into, room, before=before, told=lambda *words: said.append(words)
        )

    first = make([])
    assert said[0] == ("wheels for amd64", 0, 0)
    assert said[-1] == ("runtime for amd64", first.unpacked, first.unpacked)
    said.clear()
    assert make([replace(first, version="other"), first]) is first
    assert not said


def test_a_bundle_that_does_not_prove_itself_is_no_release(
    fleet: Fleet, wheels: Path, bundle_folder: Path, kit: Kit, tmp_path: Path
) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(bundle_folder, spoilt)
    with (spoilt / "model.tflite").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 8)
    done = kit(
        *("deploy", "release", "create", "--fleet", fleet.folder, "--bundle", spoilt, "--runtime", wheels),
        code=6,
    )
    assert "model.tflite" in done.stderr
    assert not (fleet.repository / "targets" / "releases").exists()


def test_a_first_release_needs_a_runtime(fleet: Fleet, bundle_folder: Path, kit: Kit) -> None:
    done = kit("deploy", "release", "create", "--fleet", fleet.folder, "--bundle", bundle_folder, code=2)
    assert "--runtime FOLDER" in done.stderr


def test_of_a_wheel_a_device_gets_what_it_needs(tmp_path: Path) -> None:
    wheel = tmp_path / "shelfkit-9.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("edge_agent/__init__.py", "train/__init__.py", "deploy/__init__.py"):
            archive.writestr(name, "# code\n")
        for name in ("METADATA", "RECORD", "licenses/LICENSE"):
            archive.writestr(f"shelfkit-9.1.dist-info/{name}", "text\n")
    part = agent_component(wheel, tmp_path / "components", tmp_path)
    assert part.version == "9.1"
    unpack(tmp_path / part.target, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "LICENSE",
        "METADATA",
        "__init__.cpython-311.pyc",
        "__init__.py",
    ]
    with pytest.raises(DataError, match="a wheel"):
        agent_component(tmp_path / "out" / "edge_agent" / "__init__.py", tmp_path, tmp_path / "room")


def test_without_the_targets_key_a_release_waits_unseen(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = world.release(1)
    apart = world.offered.keys.path("targets").rename(tmp_path / "targets.pem")
    assert not world.offered.offer([first], world.now)
    assert world.device().release(1, "amd64") == first
    keys = type(world.offered.keys)(world.offered.keys.folder, None, {"targets": apart})
    before = world.trusted()
    type(world.offered)(world.offered.folder, keys).sign(world.now)
    world.device().refresh()
    assert world.trusted()["targets.json"] != before["targets.json"]


def test_signing_again_makes_an_expired_repository_good(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release(1)
    world.later(days=31)
    world.offered.sign(world.now)
    assert world.device().release(1, "amd64").number == 1


def test_the_list_of_releases_is_signed_before_it_ends_or_its_key_is_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release(1)
    world.later(days=304)
    ends = world.offered.sign(world.now)
    assert ends - world.now == timedelta(days=61)
    world.later(days=2)
    # Its key is elsewhere: the rest is signed, and the end is told.
    apart = world.offered.keys.path("targets").rename(tmp_path / "targets.pem")
    assert world.offered.sign(world.now) == ends
    apart.rename(world.offered.keys.path("targets"))
    assert world.offered.sign(world.now) == world.now + timedelta(days=365)
    world.later(days=29)
    assert world.device().release(1, "amd64").number == 1


def test_the_command_says_until_when_and_asks_for_the_key(fleet: Fleet, tmp_path: Path, kit: Kit) -> None:
    now = datetime.now(UTC)
    Offered(fleet.repository, Keys(fleet.keys)).begin(now - timedelta(days=355))
    apart = (fleet.keys / "targets.pem").rename(tmp_path / "targets.pem")
    sign = ("deploy", "release", "sign", "--fleet", fleet.folder)
    said = kit(*sign)
    assert f"signed until {now + timedelta(days=10):%Y-%m-%d}" in said.stdout
    assert "--key" in said.stderr
    said = kit(*sign, "--key", apart)
    assert f"signed until {now + timedelta(days=30):%Y-%m-%d}" in said.stdout
    assert not said.stderr


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, b"a phrase")
    assert path.stat().st_mode & 0o777 == 0o600
    assert private_key(path, b"a phrase")
    for wrong in (None, b"another"):
        with pytest.raises(UsageError, match="passphrase"):
            private_key(path, wrong)


def certificate(folder: Path, *, begins: datetime) -> tuple[Path, Path]:
    """One that signs itself, for 127.0.0.1, good for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "repository")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "server.pem", folder / "server.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return pem, secret


@contextmanager
def served(folder: Path, pem: Path | None = None, key: Path | None = None) -> Iterator[str]:
    with server(folder, "127.0.0.1", 0, certificate=pem, key=key) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"{'https' if pem else 'http'}://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_a_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    part = world.release(1, bytes(range(256)) * 4000).bundle
    pem, key = certificate(tmp_path, begins=datetime.now(UTC) - timedelta(days=1))
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    whole = (world.offered.folder / "targets" / part.target).read_bytes()
    (incoming / f"{part.sha256}.part").write_bytes(whole[: part.size - 1000])
    with served(world.offered.folder, pem, key) as url:
        repository = Repository(world.place, url, tls=Tls(ca=pem), now=lambda: world.now)
        repository.refresh()
        before, steps = repository.moved, list[int]()
        assert repository.download(part, incoming, steps.append).read_bytes() == whole
        assert repository.moved - before == 1000
        assert steps[-1] == part.size
        with pytest.raises(ServiceError, match="valid certificate"):
            Repository(world.place, url, now=lambda: world.now).refresh()


def test_a_certificate_that_is_not_valid_yet_points_at_the_clock(tmp_path: Path) -> None:
    world = World(tmp_path)
    pem, key = certificate(tmp_path, begins=datetime.now(UTC) + timedelta(days=1))
    with (
        served(world.offered.folder, pem, key) as url,
        pytest.raises(ServiceError, match="not yet valid") as caught,
    ):
        Repository(world.place, url, tls=Tls(ca=pem)).refresh()
    assert "clock" in caught.value.hint


def test_the_server_gives_nothing_but_files_of_its_folder(tmp_path: Path) -> None:
    world = World(tmp_path)
    part = world.release(1).bundle
    (world.offered.folder / "targets" / "leak").symlink_to(world.offered.keys.path("root-1"))
    with served(world.offered.folder) as url:
        for name in ("", "/metadata/", "/../keys/root-1.pem", "/targets/leak", "/%2e%2e/keys/root-1.pem"):
            repository = Repository(world.place, url, now=lambda: world.now)
            with pytest.raises(Exception, match="404"):
                repository._wire.download_bytes(url + name, 10**6)
        assert world.device(url).download(part, tmp_path / "incoming").stat().st_size == part.size


def test_the_command_serves_with_a_certificate_of_the_fleet(tmp_path: Path) -> None:
    world = World(tmp_path)
    fleet = Fleet(tmp_path / "fleet")
    info = FleetInfo(name="test", created=datetime(2026, 11, 26, tzinfo=UTC))
    fleet.write(fleet.info, info.model_dump_json().encode())
    shutil.copytree(world.offered.folder, fleet.repository)
    fleet.service("svc-releases").mkdir(parents=True)
    pem, key = certificate(tmp_path, begins=datetime.now(UTC) - timedelta(days=1))
    pem.rename(fleet.service("svc-releases") / "svc-releases.pem")
    key.rename(fleet.service("svc-releases") / "svc-releases.key")
    command = [
        sys.executable,
        "-u",
        "-m",
        "deploy",
        "release",
        "serve",
        "--fleet",
        str(fleet.folder),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        tls = Tls(ca=fleet.service("svc-releases") / "svc-releases.pem")
        Repository(world.place, url, tls=tls, now=lambda: world.now).refresh()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert (world.place.metadata / "targets.json").exists()
