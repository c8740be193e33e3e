"""The fleet's folder: what an operator keeps, and who finds what where.

    fleet.json                   the fleet's name
    services/<name>/             <name>.pem and <name>.key, of the broker for one
    tuf/keys/                    root-1.pem, root-2.pem, targets.pem, snapshot.pem, timestamp.pem
    tuf/repository/              metadata/ and targets/: what `deploy release serve` serves

Only this module knows these places. Nothing secret is ever printed.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.times import Timestamp
from edge_agent.contracts.validation import explain

ENVIRONMENT = "SHELFKIT_FLEET"
DEFAULT = Path("fleet")
FORMAT = 1


class FleetInfo(BaseModel):
    """`fleet.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    created: Timestamp


@dataclass(frozen=True, slots=True)
class Fleet:
    """Places in a fleet's folder."""

    folder: Path

    @property
    def info(self) -> Path:
        """The fleet's name."""
        return self.folder / "fleet.json"

    @property
    def keys(self) -> Path:
        """The keys that releases are signed with."""
        return self.folder / "tuf" / "keys"

    @property
    def repository(self) -> Path:
        """What devices fetch releases from."""
        return self.folder / "tuf" / "repository"

    def service(self, name: str) -> Path:
        """Certificate and key of a service."""
        return self.folder / "services" / name

    def write(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            DataError: It cannot be written.
        """
        try:
            with written_beside(path) as staged:
                staged.write_bytes(content)
        except OSError as exc:
            raise DataError(
                f"Expected: a place that can be written. Received: {path}: {exc.strerror}."
            ) from exc


def opened(folder: Path) -> Fleet:
    """Return a fleet that is there.

    Raises:
        ConfigError: The folder is none.
    """
    fleet = Fleet(folder)
    try:
        info = FleetInfo.model_validate_json(fleet.info.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"Expected: the folder of a fleet. Received: {folder}, without fleet.json.",
            hint=f"make one with `shelfkit deploy fleet init`, or name it: --fleet DIR or {ENVIRONMENT}=DIR",
        ) from None
    except (OSError, ValidationError) as exc:
        raise ConfigError(f"Expected: a fleet.json. Received: {fleet.info}: {explain(exc)}.") from exc
    if info.format != FORMAT:
        raise ConfigError(f"Expected: fleet format {FORMAT}. Received: {info.format} in {fleet.info}.")
    return fleet
