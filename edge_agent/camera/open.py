"""From the source in `device.yaml` to a camera."""

from edge_agent.camera.base import Camera
from edge_agent.camera.folder import FolderCamera
from edge_agent.camera.masked import Masked
from edge_agent.camera.paced import Paced
from edge_agent.camera.rotated import Rotated
from edge_agent.camera.shelf import shelf_camera
from edge_agent.camera.still import StillCamera
from edge_agent.camera.stream import StreamCamera
from edge_agent.camera.video import VideoCamera
from edge_agent.contracts import config
from edge_agent.contracts.errors import ConfigError

_PICTURES = (".jpg", ".jpeg", ".png")


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
            camera = shelf_camera(settings.source, live=live, fps=settings.fps)
        case "file":
            camera = VideoCamera(rest, fps=settings.fps)
        case "folder":
            camera = FolderCamera(rest, fps=settings.fps)
        case _ if not live:
            raise ConfigError(
                f"Expected: a source with an end (file:, folder:, shelf:). Received: {settings.source!r}.",
                hint="use `shelfkit agent run` for live cameras",
            )
        case "http" | "https" if rest.lower().split("?")[0].endswith(_PICTURES):
            camera = StillCamera(settings.source)
        case "picamera":
            # The module exists on a Raspberry Pi alone.
            from edge_agent.camera.picamera import PiCamera  # noqa: PLC0415

            camera = PiCamera(settings)
        case _:
            camera = StreamCamera(settings)
    if live and scheme in {"file", "folder"}:
        camera = Paced(camera)
    if masks:
        camera = Masked(camera, masks)
    return Rotated(camera, settings.rotate) if settings.rotate else camera
