"""The last configuration that worked: what a device with a broken one is still reached by."""

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml.comments import CommentedMap

from edge_agent.contracts import config
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.files import written_beside

_FILE = "last-good.json"
_USUAL = Path("/var/lib/shelfkit")
_LINE = re.compile(r"^state_dir\s*:\s*[\"']?([^\"'#\n]+?)[\"']?\s*(?:#.*)?$", re.MULTILINE)


class _Kept(BaseModel):
    """What was written, and for which file: several devices may share a board."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    config: DeviceConfig


def keep(path: Path, device: DeviceConfig) -> None:
    """Keep a configuration that works.

    Args:
        path: Of the `device.yaml` that it came from.
        device: Its content, with absolute paths.

    Raises:
        DeviceError: The disk is full or broken; the one before is still there.
    """
    kept = _Kept(path=path.resolve(), config=device).model_dump_json()
    target = device.state_dir / _FILE
    try:
        if target.is_file() and target.read_text() == kept:
            return
        with written_beside(target) as staged:
            staged.write_text(kept)
            staged.chmod(0o600)
    except OSError as exc:
        raise DeviceError(
            f"Expected: room for {target}. Received: {exc.strerror}.",
            hint="free or replace the device's disk",
        ) from exc


def find(path: Path) -> DeviceConfig | None:
    """Return the last configuration that worked for a `device.yaml` which does not.

    Args:
        path: Of the file, which may say anything, or not be there.
    """
    for folder in _state_dirs(path):
        try:
            kept = _Kept.model_validate_json((folder / _FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        if kept.path == path.resolve():
            return kept.config
    return None


def _state_dirs(path: Path) -> list[Path]:
    """Return where the state may be: where the broken file says, as far as it can be read, or as usual."""
    found = []
    tree = config.read(path).tree
    if isinstance(tree, CommentedMap) and isinstance(tree.get("state_dir"), str):
        found.append(str(tree["state_dir"]))
    elif path.is_file():
        found += _LINE.findall(path.read_text(encoding="utf-8", errors="replace"))
    from_service = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    folders = [path.resolve().parent / name for name in found if "\0" not in name]
    return [*folders, *([Path(from_service)] if from_service else []), _USUAL]
