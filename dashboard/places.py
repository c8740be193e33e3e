"""Where a recorder keeps what is no event, when nobody says so."""

from pathlib import Path


def files_beside(database: str) -> Path:
    """Return the folder for files: beside a database that is a file, else where the recorder was started."""
    if database.startswith("sqlite:///"):
        path = Path(database.removeprefix("sqlite:///"))
        return path.with_name(f"{path.name.removesuffix('.sqlite').removesuffix('.db')}.files")
    return Path("shelfkit.files")
