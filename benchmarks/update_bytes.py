"""What a device fetches for a release that brings another model alone, against the size of its bundle.

Usage: python benchmarks/update_bytes.py BUNDLE WHEELS [--releases N] [--result FILE.json]

A fleet with N releases behind it makes one more with `shelfkit deploy release create --reuse-agent`;
a device that runs the release before fetches what it lacks through the real client, over HTTP from
the real server. Every byte of a file that came is counted, metadata too; HTTP's own headers are not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import measured
from deploy.fleet import Fleet, FleetInfo
from deploy.release.keys import NAMES, write_key
from deploy.release.serving import server
from edge_agent.contracts.release import Place
from edge_agent.update.fetch import Repository


def create(fleet: Fleet, *options: str) -> None:
    """Make a release as an operator does."""
    command = [sys.executable, "-m", "deploy", "release", "create", "--fleet", str(fleet.folder), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)


def renamed(bundle: Path, out: Path, version: str) -> Path:
    """Return a copy of a bundle under another version: another archive."""
    shutil.copytree(bundle, out)
    manifest = out / "manifest.json"
    before = '"version": "'
    head, _, rest = manifest.read_text().partition(before)
    manifest.write_text(f"{head}{before}{version}{rest[rest.index(chr(34)) :]}")
    return out


def measure(bundle: Path, wheels: Path, behind: int, room: Path) -> dict[str, float]:
    """Make the releases, then fetch the last as a device that has the one before."""
    fleet = Fleet(room / "fleet")
    fleet.write(fleet.info, FleetInfo(name="measured", created=datetime.now(UTC)).model_dump_json().encode())
    for name in NAMES:
        write_key(fleet.keys / f"{name}.pem")
    for number in range(1, behind + 2):
        model = renamed(bundle, room / f"bundle-{number}", f"1.0.{number}")
        create(
            fleet,
            "--bundle",
            str(model),
            *(("--runtime", str(wheels)) if number == 1 else ("--reuse-agent",)),
        )
    place = Place(room / "device")
    place.metadata.mkdir(parents=True)
    shutil.copyfile(fleet.repository / "metadata" / "1.root.json", place.metadata / "root.json")
    with server(fleet.repository, "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        repository = Repository(place, f"http://127.0.0.1:{made.server_port}")
        has = {part.sha256 for part in repository.release(behind, "amd64").components.values()}
        # It learned of the release before when that was the last: what has changed comes once more.
        repository = Repository(place, f"http://127.0.0.1:{made.server_port}")
        for role in ("timestamp", "snapshot", "targets"):
            (place.metadata / f"{role}.json").unlink()
        release = repository.release(behind + 1, "amd64")
        for part in release.components.values():
            if part.sha256 not in has:
                repository.download(part, room / "incoming")
        made.shutdown()
        thread.join()
    size = sum(path.stat().st_size for path in bundle.iterdir())
    return {
        "releases_before": behind,
        "bundle_bytes": size,
        "archive_bytes": release.bundle.size,
        "metadata_bytes": repository.moved - release.bundle.size,
        "moved_bytes": repository.moved,
        "more_than_the_bundle_percent": round(100 * (repository.moved / size - 1), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--releases", type=int, default=10)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.bundle, options.wheels, options.releases, Path(folder))
    measured.tell(figures, options.result, script="update_bytes.py", at=datetime.now(UTC))


if __name__ == "__main__":
    main()
