"""What goes onto a device's boot partition, checked as the device will check it."""

import hashlib
import io
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from deploy.fleet import Fleet
from deploy.release.repository import Keys, Repository
from edge_agent.contracts import provisioning
from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.provisioning import (
    CA,
    CERTIFICATE,
    DATA,
    DEVICE,
    FILES,
    KEY,
    PLANOGRAM,
    REFERENCE,
    ROOT,
)
from edge_agent.contracts.yamlfile import ProblemsError


def files(
    fleet: Fleet, device: str, now: datetime, *, data: Path = DATA, had: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """Return what a device is provisioned with, by name.

    Args:
        fleet: That the device is in.
        device: Its id.
        now: The clock; an expired certificate is refused where the device has not had it before.
        data: Where the device keeps everything; its `device.yaml` is made to say so.
        had: Hashes of the files that the device has, by name.

    Raises:
        ConfigError: The device is not in the fleet, or was revoked.
        ProblemsError: Everything that is wrong with its files.
        DataError: A file cannot be read.
    """
    entry = fleet.device(device)
    if entry.revoked:
        raise ConfigError(
            f"Expected: a device that is not revoked. Received: {device}, revoked {entry.revoked:%Y-%m-%d}.",
            hint="add it again under another name",
        )
    folder = fleet.device_folder(device)
    sources = {name: folder / name for name in (DEVICE, PLANOGRAM, REFERENCE, CERTIFICATE, KEY)}
    sources[CA] = fleet.ca / CA
    offered = Repository(fleet.repository, Keys(fleet.keys))
    if offered.begun:
        sources[ROOT] = offered.root
    found = {}
    try:
        for name in FILES:
            if name in sources and sources[name].is_file():
                found[name] = sources[name].read_bytes()
    except OSError as exc:
        raise DataError(f"Expected: a readable {exc.filename}. Received: {exc.strerror}.") from exc
    if DEVICE in found:
        found[DEVICE] = _placed(found[DEVICE], data)
    own = hashlib.sha256(found.get(CERTIFICATE, b"")).hexdigest()
    _require(found, device, folder, now, data, known=(had or {}).get(CERTIFICATE) == own)
    return found


def _placed(content: bytes, data: Path) -> bytes:
    """Return a device.yaml whose state and bundle are where this device has them; comments stay."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        tree = yaml.load(content.decode())
    except (YAMLError, ValueError):
        return content  # the check says what is wrong with it
    wanted = {"state_dir": str(data / "state"), "bundle": str(data / "current" / "bundle")}
    if not isinstance(tree, CommentedMap) or all(tree.get(key) == value for key, value in wanted.items()):
        return content
    tree.update(wanted)
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue().encode()


def _require(
    found: dict[str, bytes], device: str, folder: Path, now: datetime, data: Path, *, known: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        for file, content in found.items():
            (room / file).touch(mode=0o600)
            (room / file).write_bytes(content)
        try:
            provisioning.check(room, now=now, data=data, device=device, known=known)
        except ProblemsError as exc:
            hint = f"mend the files in {folder}"
            if KEY not in found:
                hint += f"; its key was made elsewhere: put it there as {KEY}, or add the device again"
            raise ProblemsError(exc.problems, hint=hint) from exc
