"""What each command does to an agent at work."""

import base64
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_agent import pushed, setup
from edge_agent.camera.base import Frame
from edge_agent.clock import wall
from edge_agent.commands import Handler, set_log_level
from edge_agent.contracts import planogram
from edge_agent.contracts.errors import ConfigError, DeviceError, UsageError
from edge_agent.contracts.messages import Command, SetLogLevel, SetPlanogram, TakeSnapshot
from edge_agent.contracts.pictures import jpeg, read_picture
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.times import rfc3339
from edge_agent.recalibrate import recalibrated
from edge_agent.setup import Ready
from edge_agent.wishes import Wishes

_JPEG_QUALITY = 90
_MOST_BYTES = 4 * 1024 * 1024
_OLD_S = 10.0


class Orders:
    """The commands of the contract.

    Args:
        now: The configuration that holds.
        frames: The last two, masked.
        prepare: Opens what another configuration needs, to go over to it once the answer is sent.
        asked: Where the wish to restart goes.
    """

    def __init__(
        self,
        now: Callable[[], Ready],
        frames: Callable[[], Sequence[Frame]],
        prepare: Callable[[Ready], None],
        asked: Wishes,
    ) -> None:
        self._now, self._frames, self._prepare, self._asked = now, frames, prepare, asked

    @property
    def handlers(self) -> dict[str, Handler[Any]]:
        """By name."""
        return {
            "ping": Handler(Command, self._ping),
            "snapshot": Handler(TakeSnapshot, self._snapshot),
            "reload": Handler(Command, self._reload),
            "recalibrate": Handler(Command, self._recalibrate),
            "set-planogram": Handler(SetPlanogram, self._set_planogram),
            "set-log-level": Handler(SetLogLevel, set_log_level),
            "restart": Handler(Command, self._restart),
        }

    def _ping(self, _command: Command) -> Mapping[str, object]:
        return {"time": rfc3339(wall(time.monotonic())), "versions": {"agent": version("shelfkit")}}

    def _snapshot(self, command: TakeSnapshot) -> Mapping[str, object]:
        """Send the present picture, as masked as everything else here sees it."""
        if not self._now().setup.config.privacy.snapshots:
            raise ConfigError(
                "Expected: a device whose pictures may leave it. Received: privacy.snapshots is false.",
                hint="set it in device.yaml, on the device itself",
            )
        frame = self._recent(1)[-1]
        image, wide = frame.image, frame.image.shape[1]
        if command.width is not None and command.width < wide:
            tall = max(round(image.shape[0] * command.width / wide), 1)
            small = cv2.resize(image, (command.width, tall), interpolation=cv2.INTER_AREA)
            image = np.asarray(small, np.uint8)
        data = jpeg(image, _JPEG_QUALITY)
        if len(data) > _MOST_BYTES:
            raise UsageError(
                f"Expected: a picture of at most {_MOST_BYTES} bytes. Received: {len(data)}.",
                hint="ask for a smaller `width`",
            )
        return {
            "time": rfc3339(wall(frame.at)),
            "width": image.shape[1],
            "height": image.shape[0],
            "content_type": "image/jpeg",
            "picture": base64.b64encode(data).decode(),
        }

    def _reload(self, _command: Command) -> Mapping[str, object]:
        self._prepare(setup.ready(self._now().setup.file))
        return {}

    def _restart(self, _command: Command) -> Mapping[str, object]:
        self._asked.restart.set()
        return {}

    def _set_planogram(self, command: SetPlanogram) -> Mapping[str, object]:
        made = self._now().setup
        with self._room() as room:
            shelf = pushed.received(
                command.planogram,
                command.reference,
                room,
                before=made.planogram.reference,
                labels=made.bundle.manifest.label_names,
            )
            return self._take(shelf)

    def _recalibrate(self, _command: Command) -> Mapping[str, object]:
        """Let the present picture be the reference, with the slots where it shows them."""
        made = self._now().setup
        earlier, frame = self._recent(2)
        shelf = recalibrated(made.planogram, made.reference, frame.image, earlier.image)
        with self._room() as room:
            picture = room / "reference.png"
            if not cv2.imwrite(str(picture), frame.image):
                raise DeviceError(f"Expected: room for a picture in {room}. Received: none.")
            return self._take(shelf.model_copy(update={"reference": picture}))

    def _take(self, shelf: Planogram) -> Mapping[str, object]:
        """Keep a planogram and go over to it; what `device.yaml` says by now is left for a reload."""
        made, model = self._now().setup, self._now().model
        path = made.place.push(shelf)
        kept = planogram.read(path, known_labels=made.bundle.manifest.label_names).require()
        other = replace(made, planogram=kept, reference=read_picture(kept.reference))
        self._prepare(Ready(other, model))
        return {"planogram": planogram.sha256(kept)}

    @contextmanager
    def _room(self) -> Iterator[Path]:
        folder = self._now().setup.config.state_dir
        try:
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as room:
                yield Path(room)
        except OSError as exc:
            raise DeviceError(f"Expected: room in {folder}. Received: {exc.strerror}.") from exc

    def _recent(self, count: int) -> Sequence[Frame]:
        frames, now = self._frames(), time.monotonic()
        interval = 1 / self._now().setup.config.camera.fps
        recent = [frame for frame in frames if now - frame.at <= max(_OLD_S, 3 * interval)]
        if len(recent) < count:
            raise DeviceError(
                f"Expected: {count} recent pictures. Received: {len(recent)}.",
                hint="ask again in a moment; see `camera_age_s` in the device's health",
            )
        return frames[-count:]
