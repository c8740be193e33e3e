"""What a device begins with: `device.yaml`, `planogram.yaml` and `reference.jpg`, to be changed by hand.

Files beside `device.yaml` are named without a path: they lie beside it on the device, too. What is not
provisioned is named as on the device.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from edge_agent.contracts import config, planogram
from edge_agent.contracts.errors import ConfigError, KitError, UsageError
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.yamlfile import ProblemsError

HOME = "/data/shelf/device"
STATE = "/data/shelf/state"
BUNDLE = "/data/shelf/current/bundle"
CONFIG, PLANOGRAM, REFERENCE = "device.yaml", "planogram.yaml", "reference.jpg"
TLS = {"ca": "ca.pem", "certificate": "device.pem", "key": "device.key"}
DEFAULT_CAMERA = "v4l2:/dev/video0"
_DEFAULT_PORT = 8883


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a device's files are to say.

    Attributes:
        broker: Host, and perhaps a port behind a colon.
        planogram: One that was drawn before; None: that of a rendered shelf, to be replaced.
        updates: Where it fetches releases.
        zone: Of the window in which it may be updated; None: that of its machine.
    """

    device: str
    store: str
    shelf: str
    broker: str
    camera: str = DEFAULT_CAMERA
    planogram: Path | None = None
    updates: str | None = None
    zone: str | None = None


def write(folder: Path, wanted: Wanted) -> None:
    """Write the files, and check them as the device will.

    Args:
        folder: Of the device, there already.
        wanted: What they say.

    Raises:
        ConfigError: They say what no device can use.
        UsageError: A broker that is no address.
    """
    host, port = address(wanted.broker)
    value: dict[str, object] = {
        "device": DoubleQuotedScalarString(wanted.device),
        "store": DoubleQuotedScalarString(wanted.store),
        "state_dir": STATE,
        "bundle": BUNDLE,
        "camera": {"source": DoubleQuotedScalarString(wanted.camera)},
        "planogram": PLANOGRAM,
        "broker": {"host": DoubleQuotedScalarString(host), "port": port, "tls": TLS},
    }
    updates = {"url": wanted.updates, "zone": wanted.zone}
    told = {key: DoubleQuotedScalarString(text) for key, text in updates.items() if text is not None}
    if told:
        value["updates"] = told
    yaml = YAML()
    with (folder / CONFIG).open("w", encoding="utf-8") as file:
        file.write("# As it lies on the device; every key: docs/guides/run-on-a-device.md\n")
        yaml.dump(value, file)
    _planogram(folder, wanted)
    problems = [*config.read(folder / CONFIG).problems, *planogram.read(folder / PLANOGRAM).problems]
    if problems:
        raise ProblemsError(problems)


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST[:PORT]`; an IPv6 address stands in brackets where a port follows.

    Raises:
        UsageError: It is none.
    """
    host, colon, number = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, number = text, str(_DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not number.isdecimal() or not 0 < int(number) < 2**16:
        raise UsageError(f"Expected: a broker as HOST[:PORT]. Received: {text!r}.")
    return host, int(number)


def _planogram(folder: Path, wanted: Wanted) -> None:
    if wanted.planogram is None:
        _rendered(folder)
        source = folder / PLANOGRAM
    else:
        source = wanted.planogram
    read = planogram.read(source)
    if read.problems or read.value is None:
        raise ProblemsError(read.problems)
    if wanted.planogram is not None:
        _copy_picture(read.value.reference, folder / REFERENCE)
    made = read.value.model_copy(update={"shelf": wanted.shelf, "reference": Path(REFERENCE)})
    planogram.write(made, folder / PLANOGRAM)


def _rendered(folder: Path) -> None:
    """The shelf that `shelf:` cameras show: enough to see a device at work before its own is drawn."""
    command = [sys.executable, "-m", "edge_agent", "render", "--scene", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KitError(f"Expected: a rendered shelf. Received: {done.stderr.strip()[-300:]}")
    (folder / "script.json").unlink(missing_ok=True)


def _copy_picture(source: Path, target: Path) -> None:
    if source.suffix.lower() in {".jpg", ".jpeg"}:
        shutil.copyfile(source, target)
    elif not cv2.imwrite(str(target), read_picture(source), [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise ConfigError(f"Expected: a reference picture. Received: {source}.")
