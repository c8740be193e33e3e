"""What the device's Python makes of a module, made before: so that a slow device starts quickly.

The files say themselves that they are not compared with their sources (PEP 552, "unchecked"): they lie in
an archive whose hash is proven, and nobody writes there. They hold no times and no paths of this machine.

Run as a program (by another Python, and with nothing else in it than the standard library) it compiles what
it reads: a line of JSON for each module, [source, its name on the device, the file to write].
"""

import json
import logging
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

log = logging.getLogger(__name__)

PYTHON = "3.11"
"""Of the devices. Another one cannot read what this one has compiled, and compiles by itself."""
TAG = "cpython-311"


def cached(name: str) -> str:
    """Return where Python looks for what it has compiled of a module."""
    path = PurePosixPath(name)
    return (path.parent / "__pycache__" / f"{path.stem}.{TAG}.pyc").as_posix()


def with_bytecode(files: Mapping[str, Path], room: Path) -> dict[str, Path]:
    """Return files, and what the device's Python reads of the modules among them.

    Without that Python here there is nothing more: the device works as well, and starts more slowly.

    Args:
        files: By their names on the device.
        room: Where to put it; new.
    """
    python = _python()
    if python is None:
        log.warning("no Python %s here: devices compile by themselves, at each start", PYTHON)
        return dict(files)
    modules = sorted(name for name in files if name.endswith(".py"))
    made = {cached(name): room / f"{number}.pyc" for number, name in enumerate(modules)}
    lines = [
        json.dumps([str(files[name]), name, str(path)])
        for name, path in zip(modules, made.values(), strict=True)
    ]
    room.mkdir(parents=True)
    # A process of its own: what is in the memory of this one would show in the bytes.
    command = [python, "-I", "-S", "-W", "ignore", __file__]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)
    # Some libraries bring files that are no Python of today; nothing imports those.
    return {**files, **{name: path for name, path in made.items() if path.exists()}}


def _python() -> str | None:
    version = ".".join(map(str, sys.version_info[:2]))
    return sys.executable if version == PYTHON else shutil.which(f"python{PYTHON}")


def _compile(lines: Iterable[str]) -> None:
    how = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for line in lines:
        source, name, out = json.loads(line)
        try:
            py_compile.compile(source, cfile=out, dfile=name, doraise=True, invalidation_mode=how)
        except py_compile.PyCompileError:
            continue


if __name__ == "__main__":
    _compile(sys.stdin)
