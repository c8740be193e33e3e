"""A release from its parts: what is new is packed, what is not is taken over."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.bars import Told, untold
from deploy.release.parts import agent_component, bundle_component, runtime_component
from deploy.release.repository import Repository
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.release import Component, Release
from edge_agent.contracts.times import rfc3339


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a release is to be made of.

    Attributes:
        bundle: Its folder.
        wheels: Folder of the runtime's wheels; None: the runtime of the release before.
        wheel: The agent's; None: the one that is installed here.
        reuse_agent: Take over the agent of the release before.
        number: None: one more than the last.
        downgrade: Devices beyond it may go back to it.
    """

    bundle: Path
    wheels: Path | None = None
    wheel: Path | None = None
    reuse_agent: bool = False
    number: int | None = None
    downgrade: bool = False


def make(
    repository: Repository, parts: Parts, archs: Sequence[str], now: datetime, told: Told = untold
) -> list[Release]:
    """Pack what is new, and return a release for each architecture; nothing is offered yet.

    Raises:
        BundleError: The bundle does not prove itself.
        UsageError: There is nothing to take over, or the number does not rise.
    """
    numbers = repository.numbers()
    last = max(numbers, default=0)
    number = last + 1 if parts.number is None else parts.number
    if number <= last and number not in numbers:
        raise UsageError(f"Expected: a number above {last}. Received: {number}.")
    into = repository.components
    with tempfile.TemporaryDirectory(prefix="shelfkit-release-") as folder:
        room = Path(folder)
        told("proof of the bundle", 0, 0)
        model = bundle_component(parts.bundle, into, room)
        agent = None if parts.reuse_agent else agent_component(parts.wheel, into, room)
        return [
            Release(
                number=number,
                arch=arch,
                created=rfc3339(now),
                runtime=_runtime(repository, parts.wheels, arch, room, told),
                agent=agent or _before(repository, arch, "agent"),
                bundle=model,
                downgrade=parts.downgrade,
            )
            for arch in archs
        ]


def _runtime(repository: Repository, wheels: Path | None, arch: str, room: Path, told: Told) -> Component:
    if wheels is None:
        return _before(repository, arch, "runtime")
    numbers = repository.numbers().items()
    before = [repository.release(number, arch).runtime for number, archs in numbers if arch in archs]
    return runtime_component(wheels, arch, repository.components, room, before=before, told=told)


def _before(repository: Repository, arch: str, kind: str) -> Component:
    for number, archs in reversed(repository.numbers().items()):
        if arch in archs:
            return repository.release(number, arch).components[kind]
    raise UsageError(
        f"Expected: a release for {arch} to take the {kind} from. Received: none yet.",
        hint="name the wheels of the device: --runtime FOLDER",
    )
