"""`python3 -m edge_agent.update`: launcher and updater of a device; the standard library's own command line.

launch run --config FILE   become the agent of the release that is to run
ended                      write down how it ended (for systemd)
agent WORDS                become the agent of that release, for a command, without counting it
update                     the updater's loop
status                     what is good, on trial and bad
apply FOLDER               take a release from a folder or stick
install FOLDER             lay down the first release
units FOLDER, ship FOLDER  what an image or a pushed machine needs around all of this
"""

import argparse
import json
import logging
import os
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from edge_agent.contracts.errors import DeviceError, KitError
from edge_agent.contracts.release import MACHINES, Place
from edge_agent.update import launcher, state
from edge_agent.update.disk import read_small
from edge_agent.update.records import End, decode_starts


def main(arguments: Sequence[str]) -> int:
    """Run one command; errors become the contract's exit codes here, and nowhere else."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return int(options.command(options) or 0)
    except KitError as exc:
        sys.stderr.write(f"error: {exc}\n" + (f"\nhint: {exc.hint}\n" if exc.hint else ""))
        return exc.exit_code
    except OSError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return DeviceError.exit_code
    except KeyboardInterrupt:
        return 130


def _place(options: argparse.Namespace) -> Place:
    return Place(options.releases)


def _launch(options: argparse.Namespace) -> None:
    launcher.launch(_place(options), options.words, boot=launcher.boot_id(), at=launcher.up_s())


def _ended(options: argparse.Namespace) -> None:
    result = os.environ.get("SERVICE_RESULT", "success")
    end = End(result, os.environ.get("EXIT_STATUS", ""))
    launcher.ended(_place(options), end, boot=launcher.boot_id())


def _agent(options: argparse.Namespace) -> None:
    place = _place(options)
    launcher.run(place, launcher.best(place, launcher.boot_id()), options.words, start=0)


def _update(options: argparse.Namespace) -> None:
    from edge_agent.update.updater import Pace, Systemd, Updater  # noqa: PLC0415 - the launcher must start at once

    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    pace = Pace(_machine(), options.jitter, options.tick)
    updater = Updater(_place(options), options.arch, Systemd(), pace=pace)
    updater.run(stop)


def _status(options: argparse.Namespace) -> None:
    place = _place(options)
    known = state.load(place)
    reported = read_small(place.reported)
    starts = decode_starts(read_small(place.starts))
    value = {
        "good": known.good,
        "previous": known.previous,
        "trial": None if known.trial is None else asdict(known.trial),
        "bad": {str(number): bad.reason for number, bad in known.bad.items()},
        "on_disk": state.on_disk(place),
        "starts": [asdict(start) for start in starts[-5:]],
        "reported": None if reported is None else json.loads(reported),
    }
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _apply(options: argparse.Namespace) -> None:
    from edge_agent.update.updater import Systemd, Updater  # noqa: PLC0415 - the launcher must start at once

    number, tried = Updater(_place(options), options.arch, Systemd()).apply(options.folder, options.release)
    what = "is on trial; see: python3 -m edge_agent.update status" if tried else "is what this device runs"
    sys.stdout.write(f"release {number} {what}\n")


def _install(options: argparse.Namespace) -> None:
    from edge_agent.update.install import install  # noqa: PLC0415 - the launcher must start at once

    release = install(_place(options), options.folder, options.arch, number=options.release)
    sys.stdout.write(f"release {release.number} for {release.arch} is in {options.releases}\n")


def _units(options: argparse.Namespace) -> None:
    from edge_agent.update import units  # noqa: PLC0415 - for workstations

    device = units.Device(user=options.user, console=options.console)
    for name, text in units.texts(device).items():
        path = options.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _ship(options: argparse.Namespace) -> None:
    from edge_agent.update import shipped  # noqa: PLC0415 - for workstations

    files = shipped.kit_files()
    if options.libraries:
        files |= shipped.library_files()
    for name, source in files.items():
        path = options.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)


def _machine() -> str:
    """Return what names this machine among others."""
    return (read_small(Path("/etc/machine-id")) or platform.node().encode()).decode(errors="replace").strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m edge_agent.update", description="Launcher and updater of a shelf device."
    )
    parser.add_argument(
        "--releases",
        type=Path,
        default=Path(os.environ.get(launcher.RELEASES, launcher.DEFAULT)),
        help="where they are (default: %(default)s)",
    )
    machine = MACHINES.get(platform.machine(), "amd64")
    parser.add_argument("--arch", default=machine, help="of the device (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, told in (
        ("launch", _launch, "become the agent of the release that is to run"),
        ("agent", _agent, "become its agent for one command, without counting it"),
    ):
        made = commands.add_parser(name, help=told)
        made.add_argument("words", nargs=argparse.REMAINDER, help="what the agent is told")
        made.set_defaults(command=command)
    commands.add_parser("ended", help="write down how it ended").set_defaults(command=_ended)
    commands.add_parser("status", help="print what is good, on trial and bad").set_defaults(command=_status)
    update = commands.add_parser("update", help="fetch, try, commit and take back, until stopped")
    update.add_argument("--jitter", type=float, default=0.0, help="begin within so many seconds")
    update.add_argument("--tick", type=float, default=2.0, help="look again after so many seconds")
    update.set_defaults(command=_update)
    for name, command, told in (
        ("apply", _apply, "take a release from a folder or stick, and let it prove itself"),
        ("install", _install, "lay down the first release of a device"),
    ):
        made = commands.add_parser(name, help=told)
        made.add_argument("folder", help="a repository")
        made.add_argument("--release", type=int, help="its number; the newest if left out")
        made.set_defaults(command=command)
    _for_workstations(commands)
    return parser


def _for_workstations(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    units = commands.add_parser("units", help="write what systemd reads below a folder")
    units.add_argument("folder", type=Path)
    units.add_argument("--user", default="shelfkit", help="who runs the agent")
    units.add_argument("--console", action="store_true", help="the agent's lines go to the console too")
    units.set_defaults(command=_units)
    ship = commands.add_parser("ship", help="write what lies in /opt/shelf below a folder")
    ship.add_argument("folder", type=Path)
    ship.add_argument("--libraries", action="store_true", help="and the libraries, of this installation")
    ship.set_defaults(command=_ship)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
