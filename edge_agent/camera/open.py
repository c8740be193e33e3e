"""From the source in `device.yaml` to a camera."""

import math

from edge_agent.camera import picamera
from edge_agent.camera.base import Camera
from edge_agent.camera.folder import FolderCamera
from edge_agent.camera.latest import Latest, Opener, Timing
from edge_agent.camera.masked import Masked
from edge_agent.camera.paced import Paced
from edge_agent.camera.rotated import Rotated
from edge_agent.camera.still import StillCamera
from edge_agent.camera.stream import StreamCamera, prepare
from edge_agent.camera.video import VideoCamera
from edge_agent.contracts import config
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.sources import shown

_PICTURES = (".jpg", ".jpeg", ".png")
_PATIENCE_S = 2.0
_LONGEST_PATIENCE_S = 10.0
_REST_S = 30.0


def open_camera(settings: config.Camera, *, live: bool, masks: tuple[config.Polygon, ...] = ()) -> Camera:
    """Open a camera.

    Args:
        settings: Of `device.yaml`.
        live: In step with the clock. Otherwise clips, folders and rendered shelves give frames as
            fast as they are read, `fps` of them for each second of the source.
        masks: Private places, px of the raw frame.

    Raises:
        ConfigError: The source names something that there is not.
        DeviceError: The source cannot be opened.
    """
    scheme, _, rest = settings.source.partition(":")
    camera: Camera
    match scheme:
        case "shelf":
            # Drawing takes a while to import, and no device in a store draws.
            from edge_agent.camera.shelf import shelf_camera  # noqa: PLC0415

            camera = shelf_camera(settings.source, live=live, fps=settings.fps)
        case "file":
            camera = VideoCamera(rest, fps=settings.fps)
        case "folder":
            camera = FolderCamera(rest, fps=settings.fps)
        case _ if not live:
            source = shown(settings.source)
            raise ConfigError(
                f"Expected: a source with an end (file:, folder:, shelf:). Received: {source!r}.",
                hint="use `shelfkit agent run` for live cameras",
            )
        case "http" | "https" if rest.lower().split("?")[0].endswith(_PICTURES):
            camera = StillCamera(settings.source)
        case "picamera":
            picamera.require()
            camera = _latest(settings, lambda: picamera.PiCamera(settings))
        case "v4l2":
            # Never at rest: a USB camera that has just been opened has not found its exposure yet.
            prepare(settings.source)
            camera = _latest(settings, lambda: StreamCamera(settings))
        case _:
            prepare(settings.source)
            camera = _latest(settings, lambda: StreamCamera(settings), rest_s=_REST_S)
    if live and scheme in {"file", "folder"}:
        camera = Paced(camera)
    if masks:
        camera = Masked(camera, masks)
    return Rotated(camera, settings.rotate) if settings.rotate else camera


def _latest(settings: config.Camera, opener: Opener, *, rest_s: float = math.inf) -> Latest:
    """Put a camera that blocks behind a thread; who asks seldom waits longer, as it has only the one try."""
    patience_s = min(max(_PATIENCE_S, 1 / settings.fps), _LONGEST_PATIENCE_S)
    timing = Timing(patience_s=patience_s, rest_s=rest_s)
    return Latest(opener, name=shown(settings.source), timing=timing)
