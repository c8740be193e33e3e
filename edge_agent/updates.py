"""The agent's side of updates: wishes go to the updater, its reports go out, and this release proves itself.

Both write into one folder; nothing is asked, nothing is waited for, and neither needs the other to run.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts import messages
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.events import Kind
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.messages import Desired, Reported, UpdatePhase
from edge_agent.contracts.scoring import Floats
from edge_agent.contracts.topics import DeviceTopics
from edge_agent.launched import Launched
from edge_agent.mqtt import Connected, Delivered, Notice, Publication, Received
from edge_agent.renewal import tls_in_force
from edge_agent.update import launcher, records
from edge_agent.update.disk import read_small, sweep
from edge_agent.update.machine import INFERENCES, RAN_ALREADY
from edge_agent.update.records import Proof, Source

log = logging.getLogger(__name__)

_FRAMES = 3
_OLD_S = 10.0
_SHOWN_AGAIN_S = 300.0
_LOOK_S = 1.0
_MOST_INFERENCES = 5 * INFERENCES
_FILE = "updates.json"
_ANNOUNCED = {
    UpdatePhase.COMMITTED: Kind.UPDATE_COMMITTED,
    UpdatePhase.ROLLED_BACK: Kind.UPDATE_ROLLED_BACK,
}


class Updates:
    """What an agent that the launcher has started says, hears and shows.

    Args:
        started: As what it was started.
        device: Its configuration.
        up_s: Seconds since the machine booted.
        boot_id: This life of the machine.
    """

    def __init__(
        self,
        started: Launched,
        device: DeviceConfig,
        *,
        up_s: Callable[[], float] = launcher.up_s,
        boot_id: str | None = None,
    ) -> None:
        self.release = started.release
        self._place, self._up_s = started.place, up_s
        self._proof = Proof(started.release, started.start, boot_id or launcher.boot_id())
        self._shown: tuple[Proof, float] | None = None
        self._frames, self._last_frame = 0, 0.0
        self._read: bytes | None = None
        self._reported: Reported | None = None
        self._untold = True
        self._look_due = 0.0
        self._wanted: bytes | None = None
        self._complained = False
        sweep(self._place.proof.parent)
        self.take(device)

    def take(self, device: DeviceConfig) -> None:
        """Go on under another configuration."""
        self._device = device
        self._topics = DeviceTopics(device.store, device.device)
        self._interval_s = 1 / device.camera.fps
        self._announced = _announced(device.state_dir / _FILE)

    @property
    def phase(self) -> UpdatePhase | None:
        """How far the updater is; None where it has said nothing."""
        return None if self._reported is None else self._reported.phase

    # What comes in.

    def notice(self, notice: Notice) -> None:
        """Take a notice of the link into account."""
        if isinstance(notice, Connected):
            self._untold = True
        elif isinstance(notice, Delivered) and notice.ok:
            self._proof = replace(self._proof, puback=True, linked_at=round(self._up_s(), 1))
        elif isinstance(notice, Received) and notice.topic == self._topics.desired:
            self.hear(notice.payload)

    def hear(self, payload: bytes) -> None:
        """Hand a rollout's wish to the updater; an empty payload takes it back."""
        wish = None
        if payload:
            try:
                wish = json.loads(messages.encode(messages.decode(Desired, payload)))
            except DataError as exc:
                log.warning("desired: left out: %s", exc)
                return
        name = self._device.updates.zone
        zone = None if name is None else ZoneInfo(name)
        content = records.encode_desired(records.Desired(source=self._source(), zone=zone), wish)
        if records.decode_desired(content) is not None:
            self._wanted = content
            self._hand_over()

    def _hand_over(self) -> None:
        """Write down what is wanted; again until the disk has taken it."""
        if self._wanted is None:
            return
        there = self._wanted == read_small(self._place.desired)
        if there or self._written(self._place.desired, self._wanted):
            self._wanted = None

    def _written(self, path: Path, content: bytes) -> bool:
        try:
            with written_beside(path) as staged:
                staged.write_bytes(content)
        except OSError as exc:
            if not self._complained:
                log.warning("the updater cannot be told: %s: %s", path, exc.strerror)
            self._complained = True
            return False
        self._complained = False
        return True

    def _source(self) -> Source | None:
        url, tls = self._device.updates.url, tls_in_force(self._device)
        if url is None:
            return None
        if tls is None or not url.startswith("https:"):
            return Source(url)
        return Source(url, str(tls.ca), str(tls.certificate), str(tls.key))

    # What is shown.

    def proven(self, spent: "Spent") -> None:
        """Note that the model computes what it was proven to, and how long that took."""
        self._proof = replace(
            self._proof, golden=True, inferences=spent.in_time, slow_ms=spent.slow_ms, safe_mode=None
        )

    def saw(self, at: float) -> None:
        """Note a picture; seconds of the camera."""
        self._frames, self._last_frame = self._frames + 1, at

    def safe_mode(self, why: str) -> None:
        """Note that this release makes no events, and why."""
        self._proof = replace(self._proof, safe_mode=why[:1000])

    def step(self, now: float) -> None:
        """Look for a report of the updater, and show what there is to show.

        Args:
            now: Seconds of the camera's clock.
        """
        if now < self._look_due:
            return
        self._look_due = now + _LOOK_S
        self._hand_over()
        fresh = now - self._last_frame <= max(_OLD_S, 3 * self._interval_s)
        enough = self._frames >= (_FRAMES if self._interval_s <= _OLD_S else 1)
        self._show(replace(self._proof, camera=enough and fresh), now)
        content = read_small(self._place.reported)
        if content is None or content == self._read:
            return
        self._read = content
        try:
            self._reported, self._untold = messages.decode(Reported, content), True
        except DataError as exc:
            log.warning("the updater's report cannot be read: %s", exc)

    def _show(self, proof: Proof, now: float) -> None:
        """Write down what can be shown, where it has changed: a disk lives longer without the rest."""
        if self._shown is not None:
            before, at = self._shown
            same = replace(before, linked_at=None) == replace(proof, linked_at=None)
            if same and (now - at < _SHOWN_AGAIN_S or before.linked_at == proof.linked_at):
                return
        if self._written(self._place.proof, records.encode_proof(proof)):
            self._shown = proof, now

    # What goes out.

    def report(self) -> Publication | None:
        """Return the updater's report where it is to be published; `told` says that it was."""
        if self._reported is None or not self._untold:
            return None
        return Publication(self._topics.reported, messages.encode(self._reported), retain=True)

    def hurry(self) -> None:
        """Look for a report at once: this process is about to end, and it may say why."""
        self._look_due = 0.0

    def told(self) -> None:
        """Note that the report went out."""
        self._untold = False

    def news(self) -> tuple[Kind, str] | None:
        """Return the end of an update that nobody has been told of; `announced` says that it was."""
        said = self._reported
        if said is None or said.phase not in _ANNOUNCED or self._key(said) == self._announced:
            return None
        if said.reason == RAN_ALREADY:
            return None
        why = f": {said.reason}" if said.reason else ""
        return _ANNOUNCED[said.phase], f"release {said.release}{why}"

    def announced(self) -> None:
        """Note that the news is among the events, for this process and those to come."""
        if self._reported is None:
            return
        self._announced = self._key(self._reported)
        try:
            with written_beside(self._device.state_dir / _FILE) as staged:
                staged.write_text(json.dumps(self._announced))
        except OSError as exc:
            log.warning("an update is announced until the next start only: %s", exc.strerror)

    def _key(self, said: Reported) -> list[object]:
        return [said.rollout, said.attempt, said.release, said.phase.value]


class Model(Protocol):
    """What takes its time; the classifier is one."""

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return calibrated probabilities of uint8 RGB crops."""


class Spent:
    """How long a model takes for a picture, one by one, and how many took no longer than they may.

    Args:
        model: To be measured.
        images: Of its golden vectors; the shelf itself may be dark, or covered.
        bound_s: How long one may take.
        clock: Seconds.
    """

    def __init__(
        self,
        model: Model,
        images: NDArray[np.uint8],
        bound_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        taken: list[float] = []
        self.in_time = 0
        while self.in_time < INFERENCES and len(taken) < _MOST_INFERENCES and len(images):
            picture = images[len(taken) % len(images)]
            begin = clock()
            model.probabilities(picture[None])
            taken.append(clock() - begin)
            self.in_time += taken[-1] <= bound_s
        slow = self.in_time < INFERENCES and taken
        self.slow_ms = round(1000 * median(taken), 1) if slow else None


def bound_s(device: DeviceConfig, slots: int) -> float:
    """Return how long one inference may take: a whole shelf must be judged before its answer counts."""
    return max(device.rules.confirm_s, 1 / device.camera.fps, 1.0) / slots


def _announced(path: Path) -> list[object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
