"""A machine in QEMU: its drive, its console, its end by a power cut."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.image.filesystems import read, written
from deploy.image.places import boot_partition
from deploy.image.system import LOADER_ENTRY
from deploy.image.tools import program, run
from edge_agent.contracts.errors import DataError, DeviceError

READY = "Started shelfkit-agent-launched.service"
"""systemd says so once the agent has said READY=1: units of the type notify are started then."""
REFUSED = "Failed to start shelfkit-provision.service"
HOST = "10.0.2.2"
"""Where this machine is for the one in QEMU."""
DRIVE_GB = 8
_UNHURRIED = b" no_timer_check\n"
"""For the kernel: a machine that waits for a processor is no machine with a broken timer."""
_KVM = Path("/dev/kvm")
_KVM_PROBE_S = 2.0
_KVM_ERROR = "KVM internal error"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Kind:
    """How QEMU makes a machine of an architecture.

    Attributes:
        machine: The words that name it.
        own: With KVM.
        processor: Without.
        firmware: Where Debian's packages keep UEFI and its empty variables.
        package: The package that has it.
        host: This machine's own name of the architecture, where KVM can run it.
    """

    program: str
    machine: tuple[str, ...]
    own: str
    processor: str
    firmware: tuple[tuple[str, str], ...]
    package: str
    host: str


KINDS: Mapping[str, Kind] = {
    "amd64": Kind(
        "qemu-system-x86_64",
        ("-machine", "q35"),
        # A register of the processor that KVM cannot set where it runs in a virtual machine itself.
        "host,-arch-capabilities",
        "max",
        (
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ),
        "ovmf",
        "x86_64",
    ),
    "arm64": Kind(
        "qemu-system-aarch64",
        ("-machine", "virt"),
        "host",
        "cortex-a72",
        (("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),),
        "qemu-efi-aarch64",
        "aarch64",
    ),
}


def accelerated(arch: str) -> bool:
    """Return whether the processor of this machine runs it, and not a program that imitates one."""
    return os.uname().machine == KINDS[arch].host and os.access(_KVM, os.R_OK | os.W_OK)


def firmware(kind: Kind) -> tuple[Path, Path]:
    """Return UEFI and its empty variables.

    Raises:
        DataError: They are not installed.
    """
    for code, variables in kind.firmware:
        if Path(code).is_file() and Path(variables).is_file():
            return Path(code), Path(variables)
    raise DataError(
        f"Expected: UEFI for QEMU, {kind.firmware[0][0]}. Received: none.",
        hint=f"install it, for example: apt install {kind.package}",
    )


def prepared(image: Path, folder: Path, told: Mapping[str, bytes], *, gb: int = DRIVE_GB) -> None:
    """Make a drive that begins as an image, which itself is never written.

    Args:
        image: `.img.zst` or `.img`.
        folder: For the drive, `drive.qcow2`, and what it begins with, `image.img`.
        told: What the device is told, as files of its boot partition.
        gb: Its size, as of a drive that the image was flashed on.

    Raises:
        DataError: A tool is missing, the image is none, or larger.
    """
    raw, files = folder / "image.img", dict(told)
    if image.suffix == ".zst":
        run(["zstd", "-q", "-d", "-f", "--sparse", str(image), "-o", str(raw)])
    else:
        run(["cp", "--sparse=always", "--reflink=auto", str(image), str(raw)])
    # A device's key is put into it.
    raw.chmod(0o600)
    boot = boot_partition(raw)
    entry = read(raw, LOADER_ENTRY, offset=boot)
    if entry is not None:
        files[LOADER_ENTRY] = entry.rstrip() + _UNHURRIED
    written(raw, files, epoch=0, offset=boot)
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(raw.resolve())]
    drive = folder / "drive.qcow2"
    run([*words, str(drive), f"{gb}G"])
    drive.chmod(0o600)


class Machine:
    """One of them, from the moment of power to its end.

    Args:
        arch: Debian's name.
        folder: Holds `drive.qcow2`, and keeps variables of UEFI and the console of each boot.
        memory_mib: What it has.
        kvm: None: where it can be.
    """

    def __init__(self, arch: str, folder: Path, *, memory_mib: int = 1024, kvm: bool | None = None) -> None:
        self._kind, self._folder, self._memory_mib = KINDS[arch], folder, memory_mib
        self.kvm = accelerated(arch) if kvm is None else kvm
        self.boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    @property
    def console(self) -> Path:
        """What the machine has said since its power came."""
        return self._folder / f"console-{self.boots}.log"

    @property
    def said(self) -> str:
        """The same as text, without colours."""
        text = self.console.read_bytes().decode("utf-8", "replace") if self.console.exists() else ""
        return _ESCAPES.sub("", text).replace("\r", "")

    @property
    def up_s(self) -> float:
        """Seconds since its power came."""
        return time.monotonic() - self._since

    def command(self) -> list[str]:
        """Return what starts it.

        Raises:
            DataError: A tool is missing.
        """
        code, empty = firmware(self._kind)
        variables = self._folder / "uefi-variables.fd"
        if not variables.exists():
            shutil.copyfile(empty, variables)
        drive = self._folder / "drive.qcow2"
        return [
            # It ends with this process, however that ends.
            *(program("setpriv"), "--pdeathsig", "KILL", "--"),
            program(self._kind.program),
            *self._kind.machine,
            *("-accel", "kvm" if self.kvm else "tcg"),
            *("-cpu", self._kind.own if self.kvm else self._kind.processor),
            *("-m", str(self._memory_mib), "-smp", "2"),
            *("-display", "none", "-monitor", "none", "-no-reboot"),
            *("-serial", f"file:{self.console}"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,format=raw,file={variables}"),
            # A power cut loses what the machine has not flushed, and nothing else.
            *("-drive", f"if=none,id=d0,format=qcow2,cache=writeback,file={drive}"),
            *("-device", "virtio-blk-pci,drive=d0"),
            *("-device", "virtio-rng-pci"),
            *("-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="),
        ]

    def power_on(self) -> None:
        """Start it; without KVM where KVM opens and then cannot do it, as in some virtual machines.

        Raises:
            DataError: A tool is missing.
        """
        self.boots += 1
        self._start()
        if self.kvm and self._kvm_fails():
            self.power_cut()
            self.kvm = False
            self._start()

    def _kvm_fails(self) -> bool:
        """Return whether the firmware's first steps were too much for KVM."""
        end = time.monotonic() + _KVM_PROBE_S
        while time.monotonic() < end:
            if not self.runs or _KVM_ERROR in self._complaints():
                return True
            time.sleep(0.1)
        return False

    def _complaints(self) -> str:
        log = self._folder / "qemu.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _start(self) -> None:
        self._since = time.monotonic()
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def power_cut(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flatten(self, out: Path) -> None:
        """Write its drive as it is now, while it has no power, as an image of its own.

        Raises:
            DataError: There is no room.
        """
        run(["qemu-img", "convert", "-O", "raw", str(self._folder / "drive.qcow2"), str(out)])

    @property
    def runs(self) -> bool:
        """Whether it has power, and has not switched itself off."""
        return self._process is not None and self._process.poll() is None

    def lines(self) -> Iterator[str]:
        """Yield what it says, line by line, as long as it runs; "" where nothing more came."""
        told = 0
        while True:
            runs = self.runs
            lines = self.said.split("\n")
            yield from lines[told:-1]
            told = max(told, len(lines) - 1)
            if not runs:
                return
            yield ""
            time.sleep(0.1)

    def wait_for(self, word: str, *, patience_s: float, told: Callable[[str], object] = len) -> float:
        """Wait until it says a word, and return how long that took since its power came.

        Args:
            word: Of its console.
            patience_s: How long at most.
            told: Given each line.

        Raises:
            DeviceError: It did not say it, ended, or refused what it was told.
        """
        end = time.monotonic() + patience_s
        for line in self.lines():
            if line:
                told(line)
            if word in line:
                return self.up_s
            if REFUSED in line:
                raise self._failed(word, "it refused what it was told")
            if time.monotonic() > end:
                raise self._failed(word, f"nothing of it in {patience_s:.0f} s")
        raise self._failed(word, "it ended")

    def _failed(self, word: str, why: str) -> DeviceError:
        last = "\n".join((self._complaints() + self.said).strip().splitlines()[-12:])
        return DeviceError(
            f"Expected: {word!r} on the console. Received: {why}.", hint=f"its last words:\n{last}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_cut()
