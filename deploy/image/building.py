"""An image from its parts, step by step."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.fleet import Fleet
from deploy.image import archive, device, filesystems, rootfs, rpi, sbom, system
from deploy.image.boards import Board
from deploy.image.device import First
from deploy.image.disk import Partition, available, compress, identity, layout, partitioned
from deploy.image.filesystems import MIB, Place
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.release import Release

_SPARE_MIB = 256
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an image is to be made of.

    Attributes:
        base: Image of the board's owner that is changed; None: one is made.
        mirrors: Where Debian's packages come from; without any as this machine's apt has it.
        fresh: Make the root file system again, with the packages of today.
    """

    board: Board
    fleet: Fleet
    release: Release
    cache: Path
    base: Path | None = None
    mirrors: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def epoch(self) -> int:
        """Every time in the image: that of the release, so that the same release is the same image."""
        return device.epoch(self.release)

    @property
    def seed(self) -> str:
        """What every identity of the image is derived from."""
        parts = [part.sha256 for part in self.release.components.values()]
        return "/".join([self.board.name, str(self.release.number), *parts])


@dataclass(frozen=True, slots=True)
class Built:
    """What has been made.

    Attributes:
        raw_bytes: What it takes on a drive.
        bytes: What the file takes.
    """

    image: Path
    bill: Path
    raw_bytes: int
    bytes: int


def bill_path(out: Path) -> Path:
    """Return where the bill of materials of an image lies."""
    return out.with_name(f"{out.name.removesuffix('.zst').removesuffix('.img')}.cdx.json")


def build(plan: Plan, out: Path, say: Say) -> Built:
    """Make an image, whole or not at all.

    Args:
        plan: Of what.
        out: The file, `.img.zst`, or `.img` for one that is not compressed.
        say: Told what is being done.

    Raises:
        BundleError: The release is damaged.
        DataError: A tool is missing or there is no room.
    """
    available()
    with _room(out) as room:
        whole, tree = room / "whole.img", room / "data-tree"
        say("first release")
        first = device.laid_down(plan.fleet, plan.release, tree / device.ROOT)
        status = None
        if plan.base is not None:
            _changed(plan, plan.base, first, whole, say)
        else:
            status = _made(plan, first, whole, say)
        say("bill of materials")
        serial = identity(plan.seed, "bill")
        text = sbom.bill(
            plan.board.name,
            status=status,
            site=first.site,
            release=plan.release,
            serial=serial,
            epoch=plan.epoch,
        )
        # What goes before the disk has it never gets there.
        filesystems.removed(tree)
        raw = whole.stat().st_size
        say("compression" if out.suffix == ".zst" else "copy")
        with written_beside(out) as staged:
            if out.suffix == ".zst":
                compress(whole, staged)
            else:
                whole.replace(staged)
        with written_beside(bill_path(out)) as staged:
            staged.write_text(text, encoding="utf-8")
    return Built(out, bill_path(out), raw, out.stat().st_size)


def _made(plan: Plan, first: First, whole: Path, say: Say) -> str:
    """Make an image, and return what dpkg says of its packages."""
    room = whole.parent
    say("root file system")
    base = rootfs.rootfs(plan.board, plan.cache, mirrors=plan.mirrors, epoch=plan.epoch, fresh=plan.fresh)
    wanted = (*system.started(plan.board).values(), *system.USERS, sbom.STATUS)
    debian = rootfs.parts(base, wanted)
    say("partition table")
    partitions = layout(int(first.bytes * 1.1) // MIB + _SPARE_MIB)
    partitioned(whole, partitions, plan.seed)

    say("boot partition")
    files = {name: debian[pattern] for name, pattern in system.started(plan.board).items()}
    title = f"shelfkit {plan.release.agent.version}"
    boot = _place(plan, whole, partitions["boot"], system.BOOT)
    filesystems.fat(boot, files | system.loader(plan.board, plan.seed, title), room)
    say("system partition")
    ours, tree = room / "root.tar", room / "root-tree"
    archive.write(ours, system.entries(debian, first.site, plan.seed, room), plan.epoch)
    filesystems.unpacked([base, ours], tree, system.LEFT_OUT)
    root = _place(plan, whole, partitions["root-a"], "shelf-root")
    filesystems.ext4(tree, root, room, journal=False)
    filesystems.removed(tree)
    say("data partition")
    ours, tree = room / "data.tar", first.place.root.parent
    archive.write(ours, device.around(first, system.USER_ID), plan.epoch)
    filesystems.unpacked([ours], tree)
    data = _place(plan, whole, partitions["data"], "shelf-data")
    filesystems.ext4(tree, data, room, journal=True)
    return debian[sbom.STATUS].decode()


def _place(plan: Plan, whole: Path, partition: Partition, label: str) -> Place:
    name = identity(plan.seed, label)
    return Place(
        image=whole, offset=partition.offset, mib=partition.mib, label=label, name=name, epoch=plan.epoch
    )


def _changed(plan: Plan, base: Path, first: First, whole: Path, say: Say) -> None:
    """Change the image of the board's owner."""
    say("image of the board's owner")
    rpi.unpacked(base, whole)
    say("its boot partition")
    rpi.injected(whole, first, whole.parent, plan.epoch)


@contextmanager
def _room(out: Path) -> Iterator[Path]:
    """Give a folder for work, beside the image: a drive that takes the image takes its parts."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".shelfkit-image-", dir=out.parent))
    except OSError as exc:
        raise DataError(f"Expected: a folder that can be written. Received: {out}: {exc.strerror}.") from exc
    try:
        yield folder
    finally:
        for tree in folder.glob("*-tree"):
            filesystems.removed(tree)
        shutil.rmtree(folder)
