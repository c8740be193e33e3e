"""What a machine says of itself, and whether the kit can be put onto it: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.contracts.errors import DeviceError
from edge_agent.contracts.release import MACHINES

_PYTHON = "3.11"
"""That the runtimes of releases are made for: of Debian 12 and Raspberry Pi OS of the same age."""
_SYSTEMS = frozenset({"debian", "raspbian"})
PROBE = r"""
. /etc/os-release 2>/dev/null || true
echo "machine=$(uname -m)"
echo "bits=$(getconf LONG_BIT)"
echo "system=$ID $ID_LIKE"
echo "name=$PRETTY_NAME"
echo "python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
echo "opencv=$(/usr/bin/python3 -c 'import cv2, numpy, _cffi_backend; print(numpy.__version__)' 2>/dev/null)"
[ -d /run/systemd/system ] && echo systemd=yes
[ "$(id -u)" = 0 ] && echo root=yes
sudo -n true 2>/dev/null && echo root=yes
data=$1
for folder in "$data"/runtimes/* "$data"/releases/*; do
    [ -d "$folder" ] && echo "have ${folder#"$data"/}"
done
for file in "$data"/device/*; do
    [ -f "$file" ] && echo "file $(sha256sum < "$file" | cut -d ' ' -f 1) ${file##*/}"
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine.

    Attributes:
        arch: Debian's name of what its programs are made for.
        system: As it calls itself.
        files: What it was provisioned with before: hashes by name.
        have: Runtimes and releases that are there, as `runtimes/SHA256` and `releases/NUMBER`.
    """

    arch: str
    system: str
    files: Mapping[str, str] = field(default_factory=dict)
    have: frozenset[str] = frozenset()


def read(text: str, *, below: bool) -> Target:
    """Read what `PROBE` printed.

    Args:
        text: Its lines.
        below: Everything goes below a folder, and nothing is started: neither root nor systemd is needed.

    Raises:
        DeviceError: The kit cannot be put onto this machine; every reason.
    """
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line.split(" ")[0])
    files = dict(line.split(" ", 2)[2:0:-1] for line in text.splitlines() if line.startswith("file "))
    arch = MACHINES.get(said.get("machine", ""), "")
    if arch == "arm64" and said.get("bits") == "32":
        arch = "armhf"  # a 64-bit kernel under 32-bit programs, as Raspberry Pi OS has it
    name = said.get("name") or said.get("system") or "a system without a name"
    wrong = []
    if not arch:
        wrong.append(f"expected x86-64, aarch64 or ARMv7; received {said.get('machine')!r}")
    if not _SYSTEMS & set(said.get("system", "").split()):
        wrong.append(f"expected Debian or Raspberry Pi OS; received {name}")
    if said.get("python") != _PYTHON:
        wrong.append(
            f"expected Python {_PYTHON} as /usr/bin/python3; received {said.get('python') or 'none'}"
        )
    if arch == "armhf" and not said.get("opencv", "").startswith("1."):
        wrong.append(
            "expected the system's python3-opencv, python3-numpy before 2 and python3-cffi-backend: "
            "there are no wheels of them for 32-bit ARM"
        )
    if not below and "systemd" not in said:
        wrong.append("expected systemd; received another init")
    if not below and "root" not in said:
        wrong.append("expected a login that is root, or may use sudo without a password")
    if wrong:
        raise DeviceError(
            "Expected: a machine that can be a shelf device. Received: one where\n  " + "\n  ".join(wrong),
            hint="Debian 12 or Raspberry Pi OS (bookworm); for others there are images: "
            "shelfkit deploy image build",
        )
    have = frozenset(line.removeprefix("have ") for line in text.splitlines() if line.startswith("have "))
    return Target(arch, name, files, have)
