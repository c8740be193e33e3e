"""What a release is made of: bundle, agent and runtime, each laid out as the device has it."""

import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from deploy.bars import Told, untold
from deploy.demo.stages import run_stage
from deploy.release.bytecode import PYTHON, with_bytecode
from deploy.release.pack import files_below, pack
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import BundleError, DataError, KitError, UsageError
from edge_agent.contracts.release import Component

_DISTRIBUTION = "shelfkit"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
_GLIBC = (36, 35, 34, 31, 28, 27, 26, 24, 17)
"""Versions of the C library that Debian 12 satisfies and wheels are built for."""


def bundle_component(folder: Path, into: Path, room: Path) -> Component:
    """Prove a bundle as a device would, and pack it.

    Raises:
        BundleError: It is damaged, or does not compute what its maker proved.
    """
    found = bundle.read(folder)
    try:
        run_stage(room / "verify.log", "convert", "verify", str(folder))
    except KitError as exc:
        raise BundleError(f"Expected: a bundle that proves itself. Received: {folder}: {exc}") from exc
    names = [bundle.MANIFEST, *found.manifest.files]
    return pack(found.manifest.name, found.manifest.version, {name: folder / name for name in names}, into)


def agent_component(wheel: Path | None, into: Path, room: Path) -> Component:
    """Pack the agent: of a wheel, or the one that is installed here.

    Raises:
        DataError: The wheel is none of the kit.
    """
    files = _installed() if wheel is None else _of_wheel(wheel, room / "agent")
    info = next((name for name in files if name.endswith(".dist-info/METADATA")), None)
    if info is None or "edge_agent/__init__.py" not in files:
        raise DataError(f"Expected: a wheel of {_DISTRIBUTION}. Received: {wheel}.")
    version = info.partition(".dist-info")[0].rpartition("-")[2]
    return pack("agent", version, with_bytecode(files, room / "agent-compiled"), into)


def _installed() -> dict[str, Path]:
    spec = importlib.util.find_spec("edge_agent")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("Expected: an agent that is installed here. Received: none.")
    found = files_below(Path(next(iter(spec.submodule_search_locations))))
    files = {f"edge_agent/{name}": path for name, path in found.items()}
    for item in importlib.metadata.distribution(_DISTRIBUTION).files or ():
        if item.parent.name.endswith(".dist-info") and item.name == "METADATA":
            files[item.as_posix()] = Path(str(item.locate()))
    return files


def _of_wheel(wheel: Path, room: Path) -> dict[str, Path]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if _on_a_device(name)]
            archive.extractall(room, wanted)
    except (OSError, zipfile.BadZipFile) as exc:
        raise DataError(f"Expected: a wheel. Received: {wheel}: {exc}.") from exc
    return files_below(room)


def _on_a_device(name: str) -> bool:
    return name.startswith("edge_agent/") or ".dist-info/METADATA" in name or ".dist-info/licenses/" in name


def runtime_component(
    wheels: Path,
    arch: str,
    into: Path,
    room: Path,
    *,
    before: Iterable[Component] = (),
    told: Told = untold,
) -> Component:
    """Lay down the device's own dependencies from a folder of wheels, and pack them.

    No code of the wheels is run, so any machine makes them for any other.

    Args:
        wheels: Wheels in it, or in a folder of it with the architecture's name; `requirements.lock`
            beside them says which (all of them, where there is none).
        arch: Debian's name.
        into: The folder `components`.
        room: For work in between.
        before: Runtimes of this architecture that there are: the same wheels are the same runtime.
        told: How far it is.

    Raises:
        DataError: pip cannot install them.
    """
    folder = wheels / arch if (wheels / arch).is_dir() else wheels
    lock = _lock(folder)
    version = hashlib.sha256(lock.encode()).hexdigest()
    for known in before:
        if known.version == version:
            return known
    told(f"wheels for {arch}", 0, 0)
    written = room / f"{arch}.lock"
    written.write_text(lock)
    site = room / arch / "site-packages"
    _install(folder, written, site, arch)
    files = {f"site-packages/{name}": path for name, path in _cleaned(site).items()}
    return pack(
        "runtime",
        version,
        with_bytecode(files, room / f"{arch}-compiled"),
        into,
        xz=True,
        told=lambda _, done, size: told(f"runtime for {arch}", done, size),
    )


def _lock(folder: Path) -> str:
    given = folder / "requirements.lock"
    if given.is_file():
        return given.read_text(encoding="utf-8")
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    if not lines:
        raise UsageError(
            f"Expected: a folder of wheels. Received: {folder}, without any.",
            hint="`pip download` them for the device, or take over the last runtime: --reuse-runtime",
        )
    return "".join(lines)


def _install(folder: Path, lock: Path, site: Path, arch: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]
    command += ["--find-links", str(folder), "--target", str(site), "-r", str(lock)]
    command += platforms(arch)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"Expected: wheels of the device. Received: pip: {done.stderr.strip()[-600:]}")


def platforms(arch: str) -> list[str]:
    """Return the options by which pip finds wheels of a device, whatever machine it runs on."""
    tags = [f"manylinux_2_{minor}_{_MACHINES[arch]}" for minor in _GLIBC]
    tags += [f"manylinux2014_{_MACHINES[arch]}", f"linux_{_MACHINES[arch]}", "any"]
    options = ["--python-version", PYTHON, "--implementation", "cp", "--abi", "cp311"]
    options += ["--abi", "abi3", "--abi", "none"]
    return [*options, *(part for tag in tags for part in ("--platform", tag))]


def _cleaned(site: Path) -> Mapping[str, Path]:
    """Leave out scripts, which name the Python of this machine, and the records that hold their hashes."""
    files = files_below(site)
    kept = {name: path for name, path in files.items() if not name.startswith("bin/")}
    for name, path in kept.items():
        if name.endswith(".dist-info/RECORD"):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            path.write_text("".join(sorted(line for line in lines if "/bin/" not in line[:20])))
    return kept
